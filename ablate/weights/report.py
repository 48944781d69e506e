"""What became of a file of weights, shortly: the same for all blocks in one line."""

import re
from collections.abc import Iterable

import msgspec

from ablate.weights.transfer import Report


class Line(msgspec.Struct, frozen=True):
    """Tensors that were treated alike."""

    source: str  # a pattern: N is any block, {weight,bias} both
    target: str  # a pattern, or the reason why there is none
    count: int


def lines_of(pairs: Iterable[tuple[str, str]]) -> tuple[Line, ...]:
    """Pairs of a source and its target or reason, folded into patterns, in the order of their first.

    >>> lines_of([("blocks.0.norm1.bias", "x"), ("blocks.0.norm1.weight", "x"), ("blocks.1.norm1.bias", "x")])
    (Line(source='blocks.N.norm1.{bias,weight}', target='x', count=3),)
    """
    stems: dict[tuple[str, str], dict[str, int]] = {}
    for source, target in pairs:
        stem, leaf = _split(_numbered(source))
        aim, last = _split(_numbered(target))
        key = (stem, f"{aim}.{{}}" if last and leaf == last else _numbered(target))
        leaves = stems.setdefault(key, {})
        leaves[leaf] = leaves.get(leaf, 0) + 1
    return tuple(
        Line(_with_leaves(stem, leaves), _aim(aim, leaves), sum(leaves.values()))
        for (stem, aim), leaves in stems.items()
    )


def summary_of(report: Report) -> dict[str, object]:
    """The report for the events of a run."""
    return {
        "file": report.facts.file,
        "digest": report.facts.digest,
        "family": report.facts.family,
        "mapped": [msgspec.to_builtins(line) for line in mapped_lines(report)],
        "dropped": [msgspec.to_builtins(line) for line in dropped_lines(report)],
        "resized": [msgspec.to_builtins(one) for one in report.resized],
        "new": [msgspec.to_builtins(line) for line in new_lines(report)],
        "notes": list(report.notes),
    }


def mapped_lines(report: Report) -> tuple[Line, ...]:
    """What was copied, source to target."""
    return lines_of((one.source, one.target) for one in report.mapped)


def dropped_lines(report: Report) -> tuple[Line, ...]:
    """What was left behind, source to reason."""
    return lines_of((one.source, one.reason) for one in report.dropped)


def new_lines(report: Report) -> tuple[Line, ...]:
    """What the file does not give, target to how it starts."""
    return lines_of((one.target, one.how) for one in report.new)


def _numbered(name: str) -> str:
    return re.sub(r"(?<=[._])\d+(?=\.)", "N", name, count=1)


def _split(name: str) -> tuple[str, str]:
    """The name of a module and of its parameter; no parameter where it is another kind of text."""
    stem, dot, leaf = name.rpartition(".")
    return (stem, leaf) if dot and leaf in ("weight", "bias") else (name, "")


def _with_leaves(stem: str, leaves: dict[str, int]) -> str:
    names = [name for name in leaves if name]
    return stem if not names else f"{stem}.{names[0]}" if len(names) == 1 else f"{stem}.{{{','.join(names)}}}"


def _aim(aim: str, leaves: dict[str, int]) -> str:
    names = ",".join(leaves)
    return aim.replace(".{}", f".{{{names}}}" if len(leaves) > 1 else f".{names}")
