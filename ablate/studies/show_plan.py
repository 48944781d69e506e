"""What a study and an axis look like before anything has run."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from ablate.axes.base import Axis, Variant
from ablate.config.yaml import scalar
from ablate.detector.flops import decimals
from ablate.runs.folder import Workspace
from ablate.studies.published import Finding, findings_of
from ablate.studies.study import CAREFUL, DetectorSize, Study, StudyRun, configs_folder, leaves, nested

if TYPE_CHECKING:
    from rich.console import RenderableType


def plan_screen(study: Study, workspace: Workspace, *, written: bool) -> "list[RenderableType]":
    """The variants of a study, what each changes against the baseline, what it costs, and how it stands."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("variant")
    table.add_column("differs from the baseline in")
    for name in ("param. M", "GMAC"):
        table.add_column(name, justify="right")
    table.add_column("runs")
    shapes = _counts([run.size for run in study.runs if run.size is not None])
    for variant in study.variants:
        runs = [run for run in study.runs if run.variant == variant]
        first, baseline = runs[0], variant == study.baseline
        differs = Text("(the baseline)", style="dim") if baseline else Text(_differences(study, first))
        if first.confounders:
            differs.append(f"\nnot controlled: also {', '.join(first.confounders)}", style="yellow")
        if CAREFUL in first.note:
            differs.append(f"\n{first.note[first.note.index(CAREFUL) :]}", style="yellow")
        size = ["", ""] if first.size is None else [shape(first.size) for shape in shapes]
        table.add_row(Text(variant, style="bold" if baseline else ""), differs, *size, _stands(runs, workspace))
    grid = Table.grid(padding=(0, 2))
    seeds = ", ".join(map(str, study.seeds))
    held = f"{study.base}, everything else held" + (f"; seeds {seeds}" if len(study.seeds) > 1 else f"; seed {seeds}")
    for name, value in (
        ("study", f"{study.name}: {study.title}"),
        ("asked by", study.source),
        ("base", held),
        ("for all", "; ".join(f"{key}: {scalar(value)}" for key, value in study.settings.items())),
        ("plan", f"{configs_folder(workspace, study.name)}" if written else "nothing is written (--dry-run)"),
    ):
        if value:
            grid.add_row(Text(name, style="bold"), value)
    for job in study.pretrainings:
        state = workspace.run(job.identity).read_status()
        stands = "to do" if state is None or state.state == "prepared" else state.state.replace("_", " ")
        recipe = job.pretraining.pretrain
        grid.add_row(
            Text("needs", style="bold"), f"{job.variant}: MAE, {recipe.epochs:g} epochs, {job.identity} ({stands})"
        )
    notes = [
        Text("\nParameters and multiply-adds (GMAC, the paper's GFLOPs) of the detector, for one image.", style="dim")
    ]
    return [grid, Text(""), table, *notes]


def plan_document(study: Study) -> dict[str, Any]:
    """The study for ``--json``."""
    document: dict[str, Any] = msgspec.to_builtins(study)
    for record, run in zip(document["runs"], study.runs, strict=True):
        record["identity"] = run.identity
        del record["config"]
    return document


def axis_document(axis: Axis, variants: Sequence[Variant] | str) -> dict[str, Any]:
    """An axis for ``--json``; variants on some base, or why there are none."""
    return {
        "name": axis.name,
        "title": axis.title,
        "source": axis.source,
        "touches": sorted(axis.touches),
        "baseline": axis.baseline,
        "variants": [] if isinstance(variants, str) else [msgspec.to_builtins(variant) for variant in variants],
        "refused": variants if isinstance(variants, str) else None,
        "published": [msgspec.to_builtins(finding) for finding in findings_of(axis.name)],
    }


def axes_screen(axes: Sequence[tuple[Axis, tuple[Variant, ...] | str]]) -> "list[RenderableType]":
    """All axes, a row each; variants on some base, or why there are none."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("axis", "what is varied", "variants", "asked by"):
        table.add_column(name)
    for axis, variants in axes:
        names = variants if isinstance(variants, str) else " | ".join(variant.name for variant in variants)
        table.add_row(Text(axis.name, style="bold"), axis.title, names, Text(axis.source, style="dim"))
    return [table, Text("\nOne of them: ablate axes AXIS. Run one: ablate AXIS --launch. Any other key: ablate vary.")]


def axis_screen(axis: Axis, variants: Sequence[Variant], base: str) -> "list[RenderableType]":
    """One axis: its variants on a base, and what was published of it."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    for name, value in (
        ("axis", f"{axis.name}: {axis.title}"),
        ("asked by", axis.source),
        ("touches", ", ".join(sorted(axis.touches))),
    ):
        grid.add_row(Text(name, style="bold"), value)
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in (f"variant (base {base})", "sets", "note"):
        table.add_column(name)
    short = _Short([key for variant in variants for key in _shown(variant.changes)])
    for variant in variants:
        sets = ", ".join(f"{short[key]} {scalar(value)}" for key, value in _shown(variant.changes).items())
        note = Text(variant.note)
        if variant.blocked is not None:
            note.append(f"{'; ' if variant.note else ''}{variant.blocked}", style="yellow")
        table.add_row(Text(variant.name, style="bold" if variant.name == axis.baseline else ""), sets, note)
    return [grid, Text(""), table, *_findings(findings_of(axis.name))]


def _findings(findings: Sequence[Finding]) -> "list[RenderableType]":
    from rich.table import Table
    from rich.text import Text

    if not findings:
        return [Text("\nNo published number of this axis is shipped.", style="dim")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, side in (("published", "left"), ("size", "left"), ("box AP", "right"), ("mask AP", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    table.add_column("trained")
    table.add_column("source")
    for finding in findings:
        table.add_row(
            finding.variant,
            finding.size,
            "" if finding.box_ap is None else f"{finding.box_ap:.1f}",
            "" if finding.mask_ap is None else f"{finding.mask_ap:.1f}",
            finding.training,
            Text(finding.source, style="dim"),
        )
    return [Text(""), table]


def _counts(sizes: Sequence[DetectorSize]) -> list[Callable[[DetectorSize], str]]:
    """Millions of parameters and GMAC in print, with the digits that tell near variants apart."""
    first = decimals([size.parameters / 1e6 for size in sizes], 2)
    second = decimals([size.macs / 1e9 for size in sizes], 2)
    return [lambda size: f"{size.parameters / 1e6:,.{first}f}", lambda size: f"{size.macs / 1e9:,.{second}f}"]


def _differences(study: Study, run: StudyRun) -> str:
    """What a run sets otherwise than the baseline, with keys as short as the study allows."""
    reference = next(other for other in study.runs if other.variant == study.baseline)
    theirs = leaves(msgspec.to_builtins(reference.config)) | leaves(nested(reference.changes))
    own = _shown(run.changes)
    short = _Short([key for other in study.runs for key in _shown(other.changes)])
    differing = [
        f"{short[key]} {scalar(value)}" for key, value in own.items() if _plain(theirs.get(key)) != _plain(value)
    ]
    return ", ".join(differing) or "nothing"


def _shown(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes by dotted keys; of a whole recipe of pre-training how long it is, the rest is in the config."""
    recipe = changes.get("init.pretraining")
    short = {"init.pretraining": {"epochs": recipe["epochs"]}} if isinstance(recipe, Mapping) else {}
    return leaves(nested({**changes, **short}))


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


class _Short(dict[str, str]):
    """Dotted keys -> as few of their last parts as tell them apart."""

    def __init__(self, keys: Sequence[str]) -> None:
        unique = dict.fromkeys(keys)
        last = Counter(key.rpartition(".")[2] for key in unique)
        for key in unique:
            parts = key.split(".")
            self[key] = parts[-1] if last[parts[-1]] == 1 and parts[-1] != "type" else ".".join(parts[-2:])


def _stands(runs: Sequence[StudyRun], workspace: Workspace) -> "Any":
    """How the runs of a variant stand, in words."""
    from rich.text import Text

    if runs[0].blocked is not None:
        return Text(runs[0].blocked, style="yellow")
    states = Counter(_state(run, workspace) for run in runs)
    words = [state if len(runs) == 1 else f"{count} {state}" for state, count in states.items()]
    return Text(", ".join(words), style="green" if set(states) == {"finished"} else "")


def _state(run: StudyRun, workspace: Workspace) -> str:
    if not run.identity:
        return "to run"
    status = workspace.run(run.identity).read_status()
    if status is None or status.state == "prepared":
        return "to run"
    return status.state.replace("_", " ")
