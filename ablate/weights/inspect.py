"""Describe a file of weights and how a config uses it, for people and for programs.

Tensors that are treated alike in all blocks share one line: ``blocks.N.norm1.{weight,bias}``.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
from rich.console import RenderableType
from rich.table import Table as RichTable
from rich.text import Text

from ablate.config.backbone import SIZES
from ablate.config.schema import RunConfig
from ablate.config.yaml import load_config, scalar, with_changes
from ablate.weights.convert import ConversionReport, Resized, check_weights
from ablate.weights.settings import init_settings, initialisation_of
from ablate.weights.source import CheckpointFacts, read_source
from analysis.render.table import Cell, Column, Table


class TensorLine(msgspec.Struct, frozen=True):
    """Tensors that were treated alike."""

    source: str  # a pattern: N is any block, {weight,bias} both
    target: str  # a pattern, or the reason why there is none
    count: int


def lines_of(pairs: Iterable[tuple[str, str]]) -> tuple[TensorLine, ...]:
    """Pairs of a source and its target or reason, folded into patterns, in the order of their first.

    >>> lines_of([("blocks.0.norm1.bias", "x"), ("blocks.0.norm1.weight", "x"), ("blocks.1.norm1.bias", "x")])
    (TensorLine(source='blocks.N.norm1.{bias,weight}', target='x', count=3),)
    """
    stems: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for source, target in pairs:
        stem, leaf = _split(_numbered(source))
        aim, last = _split(_numbered(target))
        stems[stem, f"{aim}.{{}}" if last and leaf == last else _numbered(target)][leaf] += 1
    return tuple(
        TensorLine(stem + _leaves(leaves), aim.replace(".{}", _leaves(leaves)), sum(leaves.values()))
        for (stem, aim), leaves in stems.items()
    )


def report_fields(report: ConversionReport) -> dict[str, object]:
    """The report for the events of a run."""
    head = {key: getattr(report.facts, key) for key in ("file", "digest", "family")}
    return {**head, **msgspec.to_builtins(_folded(report))}


def _folded(report: ConversionReport) -> dict[str, Any]:
    """What was copied, left behind for a reason, resized, and how the new starts; with the notes."""
    return {
        "mapped": lines_of((one.source, one.target) for one in report.mapped),
        "dropped": lines_of((one.source, one.reason) for one in report.dropped),
        "resized": report.resized,
        "new": lines_of((one.target, one.how) for one in report.new),
        "notes": report.notes,
    }


def _numbered(name: str) -> str:
    return re.sub(r"(?<=[._])\d+(?=\.)", "N", name, count=1)


def _split(name: str) -> tuple[str, str]:
    """The name of a module and of its parameter; no parameter where it is another kind of text."""
    stem, dot, leaf = name.rpartition(".")
    return (stem, leaf) if dot and leaf in ("weight", "bias") else (name, "")


def _leaves(leaves: Iterable[str]) -> str:
    names = [name for name in leaves if name]
    return "" if not names else f".{names[0]}" if len(names) == 1 else f".{{{','.join(names)}}}"


PRESETS = {"vit-b": "vit-b-coco", "vit-l": "vit-l-coco"}


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The file in a config, with the settings that ``ablate init`` would give it."""

    base: str
    settings: dict[str, Any]  # dotted keys on top of the base
    mapped: tuple[TensorLine, ...]
    dropped: tuple[TensorLine, ...]
    resized: tuple[Resized, ...]
    new: tuple[TensorLine, ...]
    notes: tuple[str, ...]


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """``weights inspect --json``."""

    facts: CheckpointFacts
    container: str
    beside: tuple[str, ...]
    size: str  # vit-b, vit-l, vit-h; empty for another
    mapped: tuple[TensorLine, ...]
    dropped: tuple[TensorLine, ...]
    fit: Fit | None
    schema: int = 1


def inspect(file: Path, base: str = "") -> Inspection:
    """Describe a file of weights and how a config uses it.

    Args:
        file: of weights.
        base: a preset or YAML file; empty for the preset of the file's size, where there is one. A config that names
            its own ``init.weights`` is taken as it stands but for that file, another gets what ``ablate init`` sets.

    Raises:
        BadInput: the file is of no known family or damaged, or does not fit the config.
    """
    source = read_source(file)
    facts = source.facts
    size = next((name for name, one in SIZES.items() if (one.width, one.depth) == (facts.width, facts.depth)), "")
    base = base or (PRESETS.get(size, "") if facts.patch_size == 16 else "")
    return Inspection(
        facts=facts,
        container=source.checkpoint.container,
        beside=source.checkpoint.beside,
        size=size,
        # While no backbone is known, whose tables might be shared or not, they share one line.
        mapped=lines_of(
            (one.source, re.sub(r"^table\b.*", "the relative bias", one.target).partition("#")[0])
            for one in source.mapped
        ),
        dropped=lines_of((one.source, one.reason) for one in source.dropped),
        fit=_fit(facts, load_config(base), base) if base else None,
    )


def _fit(facts: CheckpointFacts, config: RunConfig, base: str) -> Fit:
    settings: dict[str, Any] = {"init.weights": facts.file}
    if config.init.weights == "none":
        settings = init_settings(initialisation_of(facts.file), config, facts.file)
    report = check_weights(with_changes(config, settings))
    assert report is not None
    return Fit(base=base, settings=settings, **_folded(report))


def inspection_screen(found: Inspection) -> list[RenderableType]:
    """What ``weights inspect`` shows."""
    fit = found.fit
    grid = RichTable.grid(padding=(0, 2))
    for name, value in _head(found):
        grid.add_row(Text(name, style="bold"), Text(value))
    tables = [
        _lines("tensors of the file", "used as", (fit or found).mapped),
        _lines("not used", "reason", (fit or found).dropped),
    ]
    if fit is None:
        hint = (
            "--base CONFIG shows, for a config of this size, which tensors are resized or new, and which keys must be "
            "set."
        )
        return [grid, *_spaced(tables), Text(f"\nNo preset has this size; {hint}", style="dim")]
    resized = [(one.target, _shape(one.before), _shape(one.after), one.how) for one in fit.resized]
    tables += [
        *([_table(("resized", "from", "to", "how"), resized)] if resized else []),
        *([_lines("newly initialised", "as", fit.new)] if fit.new else []),
        _table((f"to set on {fit.base}", ""), [(key, scalar(value)) for key, value in fit.settings.items()]),
    ]
    notes = [Text(f"\nnote: {note}", style="yellow") for note in fit.notes]
    legend = Text("\nN: number of a block. Pyramid and heads are newly initialised in every detector.", style="dim")
    return [grid, *_spaced(tables), *notes, legend]


def _spaced(tables: Sequence[Table]) -> Iterator[RenderableType]:
    """Tables, an empty line before each."""
    for table in tables:
        yield from (Text(""), table)


def _head(found: Inspection) -> list[tuple[str, str]]:
    facts = found.facts
    tuned = ", fine-tuned on labels" if facts.fine_tuned else ""
    name = f" ({found.size})" if found.size else ""
    heads = "" if facts.heads is None else f", {facts.heads} heads"
    positions = [
        *(["absolute embedding"] if facts.absolute else []),
        *([f"relative bias ({facts.relative})"] if facts.relative != "none" else []),
    ]
    where = f", learned on {facts.grid} x {facts.grid} tokens" if facts.grid else ""
    pixels = " or ".join("mean {:g} {:g} {:g}, std {:g} {:g} {:g}".format(*mean, *std) for mean, std in facts.pixels)
    rows = [
        ("file", facts.file),
        ("recognised", f"{facts.family}; initialisation {facts.initialisation or 'unknown'}{tuned}"),
        ("lies in", f"{found.container}, next to {', '.join(found.beside)}" if found.beside else found.container),
        ("model", f"width {facts.width}, depth {facts.depth}{heads}, patches of {facts.patch_size} px{name}"),
        ("positions", " and ".join(positions) + where if positions else "none"),
        ("layer scale", "yes" if facts.layer_scale else "no"),
        ("pixels", pixels),
        ("digest", facts.digest),
    ]
    return [(key, value) for key, value in rows if value]


def _shape(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _table(heads: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Table:
    return Table("", tuple(Column(head, kind="text") for head in heads), tuple(rows))


def _lines(first: str, second: str, lines: Sequence[TensorLine]) -> Table:
    """Lines, and how many tensors there are of each and of all."""
    columns = (Column(first, kind="text"), Column(second, kind="text"), Column("tensors"))
    total = ("", "", Cell(sum(line.count for line in lines), style="dim"))
    return Table("", columns, (*((line.source, line.target, line.count) for line in lines), total))
