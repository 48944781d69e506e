"""What a file of weights is, and what a config makes of it, for a person and for a program.

What ``--weights`` names: files by the name of what they hold, or a row of files by their epochs.

What became of a file of weights, shortly: the same for all blocks in one line.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ablate.config.backbone import SIZES
from ablate.config.schema import RunConfig
from ablate.config.yaml import load_config, scalar, with_changes
from ablate.weights.convert import ConversionReport, Resized, check_weights
from ablate.weights.settings import init_settings, initialisation_of
from ablate.weights.source import CheckpointFacts, Mapped, read_source
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


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


def report_fields(report: ConversionReport) -> dict[str, object]:
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


def mapped_lines(report: ConversionReport) -> tuple[Line, ...]:
    """What was copied, source to target."""
    return lines_of((one.source, one.target) for one in report.mapped)


def dropped_lines(report: ConversionReport) -> tuple[Line, ...]:
    """What was left behind, source to reason."""
    return lines_of((one.source, one.reason) for one in report.dropped)


def new_lines(report: ConversionReport) -> tuple[Line, ...]:
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


EPOCHS = "{epochs}"
FORMS = "NAME=FILE, for example mae=mae_base.pth, or FILE with {epochs} in its place, such as pretrain-{epochs}.pth"


def weights_from(arguments: Sequence[str]) -> dict[str, str]:
    """Names to absolute paths. ``pretrain-{epochs}.pth`` stands for every file of that form, named by its epochs.

    Raises:
        BadInput: a form that is none, a file that is missing, a name given twice.
    """
    files: dict[str, str] = {}
    for argument in arguments:
        name, sign, file = argument.partition("=")
        if EPOCHS in argument:
            found = _expanded(argument, file if sign and EPOCHS in file and EPOCHS not in name else argument)
        elif not sign or not name:
            raise BadInput(f"--weights {argument}: write {FORMS}")
        else:
            found = {name: Path(file).expanduser()}
        for key, path in found.items():
            if not path.is_file():
                raise BadInput(f"--weights {argument}: no such file; write {FORMS}")
            if key in files:
                raise BadInput(f"--weights names {key} twice: {files[key]} and {path}")
            files[key] = str(path.absolute())
    return files


def _expanded(argument: str, pattern: str) -> dict[str, Path]:
    """Files by their epochs, fewest first."""
    place = Path(pattern).expanduser()
    if EPOCHS not in place.name or place.name.count(EPOCHS) > 1:
        raise BadInput(f"--weights {argument}: {EPOCHS} belongs once into the name of the file")
    before, _, after = place.name.partition(EPOCHS)
    form = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    there = sorted(place.parent.iterdir()) if place.parent.is_dir() else []
    found = {int(match[1]): path for path in there if (match := form.fullmatch(path.name))}
    if not found:
        raise BadInput(f"--weights {argument}: no file in {place.parent} has this form")
    return {str(epochs): found[epochs] for epochs in sorted(found)}


PRESETS = {"vit-b": "vit-b-coco", "vit-l": "vit-l-coco"}


class Fit(msgspec.Struct, frozen=True, kw_only=True):
    """The file in a config, with the settings that ``ablate init`` would give it."""

    base: str
    settings: dict[str, Any]  # dotted keys on top of the base
    mapped: tuple[Line, ...]
    dropped: tuple[Line, ...]
    resized: tuple[Resized, ...]
    new: tuple[Line, ...]
    notes: tuple[str, ...]


class Inspection(msgspec.Struct, frozen=True, kw_only=True):
    """``weights inspect --json``."""

    facts: CheckpointFacts
    container: str
    beside: tuple[str, ...]
    size: str  # vit-b, vit-l, vit-h; empty for another
    mapped: tuple[Line, ...]
    dropped: tuple[Line, ...]
    fit: Fit | None
    schema: int = 1


def inspect(file: Path, base: str = "") -> Inspection:
    """What a file is, and what a config makes of it.

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
        mapped=lines_of((one.source, _target(one)) for one in source.mapped),
        dropped=lines_of((one.source, one.reason) for one in source.dropped),
        fit=_fit(facts, load_config(base), base) if base else None,
    )


def _target(one: Mapped) -> str:
    """Where a tensor goes while no backbone is known, whose tables might be shared or not."""
    kind = one.target.partition(".")[0]
    return "the relative bias" if kind == "table" else one.target.partition("#")[0]


def _fit(facts: CheckpointFacts, config: RunConfig, base: str) -> Fit:
    settings: dict[str, Any] = {"init.weights": facts.file}
    if config.init.weights == "none":
        settings = init_settings(initialisation_of(facts.file), config, facts.file)
    report = check_weights(with_changes(config, settings))
    assert report is not None
    return Fit(
        base=base,
        settings=settings,
        mapped=mapped_lines(report),
        dropped=dropped_lines(report),
        resized=report.resized,
        new=new_lines(report),
        notes=report.notes,
    )


def inspection_screen(found: Inspection) -> "list[RenderableType]":
    """What ``weights inspect`` shows."""
    from rich.table import Table
    from rich.text import Text

    fit = found.fit
    grid = Table.grid(padding=(0, 2))
    for name, value in _head(found):
        grid.add_row(Text(name, style="bold"), Text(value))
    parts: list[RenderableType] = [grid, Text(""), _lines("tensors of the file", "become", (fit or found).mapped)]
    parts += [Text(""), _lines("left behind", "because", (fit or found).dropped)]
    if fit is None:
        hint = "--base CONFIG shows what a config of this size resizes, starts anew, and has to set."
        return [*parts, Text(f"\nNo preset has this size; {hint}", style="dim")]
    if fit.resized:
        table = _table("resized", "from", "to", "how")
        for one in fit.resized:
            table.add_row(Text(one.target), _shape(one.before), _shape(one.after), one.how)
        parts += [Text(""), table]
    if fit.new:
        parts += [Text(""), _lines("newly initialised", "as", fit.new)]
    settings = _table("to set on it", "")
    settings.columns[0].header = Text(f"to set on {fit.base}")
    for key, value in fit.settings.items():
        settings.add_row(key, Text(scalar(value)))
    parts += [Text(""), settings]
    parts += [Text(f"\ncareful: {note}", style="yellow") for note in fit.notes]
    return [*parts, Text("\nN: any block. Pyramid and heads are new in every detector.", style="dim")]


def _head(found: Inspection) -> list[tuple[str, str]]:
    facts = found.facts
    start = facts.initialisation or "unknown"
    name = f" ({found.size})" if found.size else ""
    heads = "" if facts.heads is None else f", {facts.heads} heads"
    positions = [
        *(["absolute embedding"] if facts.absolute else []),
        *([f"relative bias ({facts.relative})"] if facts.relative != "none" else []),
    ]
    where = f", learned on {facts.grid} x {facts.grid} tokens" if facts.grid else ""
    pixels = " or ".join(f"mean {_triple(mean)}, std {_triple(std)}" for mean, std in facts.pixels)
    rows = [
        ("file", facts.file),
        ("recognised", f"{facts.family}; initialisation {start}{', fine-tuned on labels' if facts.fine_tuned else ''}"),
        ("lies in", f"{found.container}, beside {', '.join(found.beside)}" if found.beside else found.container),
        ("model", f"width {facts.width}, depth {facts.depth}{heads}, patches of {facts.patch_size} px{name}"),
        ("positions", " and ".join(positions) + where if positions else "none"),
        ("layer scale", "yes" if facts.layer_scale else "no"),
        ("pixels", pixels),
        ("digest", facts.digest),
    ]
    return [(key, value) for key, value in rows if value]


def _triple(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:g}" for value in values)


def _shape(sides: tuple[int, ...]) -> str:
    return " x ".join(map(str, sides))


def _table(*columns: str) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        table.add_column(name)
    return table


def _lines(first: str, second: str, lines: tuple[Line, ...]) -> "Table":
    from rich.text import Text

    table = _table(first, second)
    table.add_column("tensors", justify="right")
    for line in lines:
        table.add_row(Text(line.source), Text(line.target), f"{line.count:,}")
    table.add_row("", "", f"{sum(line.count for line in lines):,}", style="dim")
    return table
