"""Studies and their runs as `ablate list` and `ablate status` show them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from ablate.hints import command
from ablate.launch.cancel import launchers_folder
from ablate.launch.standing import Standing, counts, standings
from ablate.launch.view import runs_table, summary_words
from ablate.lease import owners
from ablate.store import SCHEMA, run_folder
from ablate.studies.study import Study, configs_folder

if TYPE_CHECKING:
    from rich.console import RenderableType


def studies_screen(root: Path, studies: Sequence[Study]) -> "list[RenderableType]":
    """A row a study."""
    from rich.table import Table
    from rich.text import Text

    if not studies:
        return [Text(f"no study under {root.absolute()} yet; make one: {command('ablate', 'attention', root=root)}")]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name, side in (("study", "left"), ("axis", "left"), ("variants", "right"), ("seeds", "right")):
        table.add_column(name, justify="right" if side == "right" else "left")
    table.add_column("runs")
    table.add_column("planned (UTC)")
    for study in studies:
        axis = study.axis if study.product is None else f"{study.axis} x {study.product}"
        numbers = (str(len(study.variants)), str(len(study.seeds)))
        runs = summary_words(standings(root, study))
        table.add_row(Text(study.name, style="bold"), axis, *numbers, runs, study.planned[:16].replace("T", " "))
    return [table]


def studies_document(root: Path, studies: Sequence[Study]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": SCHEMA,
        "studies": [
            {
                "name": study.name,
                "axis": study.axis,
                "product": study.product,
                "baseline": study.baseline,
                "variants": study.variants,
                "seeds": study.seeds,
                "planned": study.planned,
                "configs": str(configs_folder(root, study.name)),
                "runs": counts(standings(root, study)),
            }
            for study in studies
        ],
    }


def status_screen(root: Path, study: Study, found: Sequence[Standing]) -> "list[RenderableType]":
    """A row a run, and who is launching."""
    from rich.text import Text

    launchers = owners(launchers_folder(root, study.name))
    who = ", ".join(f"{owner}, since {owner.since[:16].replace('T', ' ')} UTC" for owner in launchers)
    return [
        Text(f"{study.name}: {summary_words(found)}", style="bold"),
        Text(f"launched by {who}" if who else "no launcher is running", style="dim"),
        Text(""),
        runs_table(found),
    ]


def status_document(root: Path, study: Study, found: Sequence[Standing]) -> dict[str, Any]:
    """The same for ``--json``."""
    return {
        "schema": SCHEMA,
        "study": study.name,
        "axis": study.axis,
        "launchers": msgspec.to_builtins(owners(launchers_folder(root, study.name))),
        "counts": counts(found),
        "runs": [
            {
                **msgspec.to_builtins(standing),
                "seconds_left": standing.remaining,
                "folder": str(run_folder(root, standing.identity).path) if standing.identity else None,
            }
            for standing in found
        ],
    }
