"""The verbs of ``data``: ``check`` and ``shapes``."""

import logging
import os
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.cli.option_rules import RULES
from ablate.cli.options import HERE, AsJson, as_workspace, print_json
from ablate.data.sources import Files, files_of, shapes_folder
from ablate.runs.folder import SCHEMA, Workspace
from analysis.cli.option_rules import check_options
from analysis.exceptions import BadInput
from analysis.files import check_target, write_bytes

if TYPE_CHECKING:
    from ablate.data.check import DataProblem, DataReport

logger = logging.getLogger(__name__)

InWorkspace = Annotated[
    Workspace,
    typer.Option(
        "--root", parser=as_workspace, metavar="<path>", help="The embedded data set is kept in results/data under it."
    ),
]


def check(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="shapes, COCO_ROOT, FILE.yaml (data or run), ANNOTATIONS IMAGES, or the four paths of both sets.",
        ),
    ],
    drop_invalid: Annotated[
        bool,
        typer.Option("--drop-invalid", help="Report the data as it is without the bad annotations, and list those."),
    ] = False,
    write_clean: Annotated[
        Path | None,
        typer.Option(help="Write the annotations without the bad ones to this file, to train on; takes one set."),
    ] = None,
    as_json: AsJson = False,
    workspace: InWorkspace = HERE,
) -> None:
    """Find missing and broken images, bad boxes and masks, clashing and unknown ids; exit code 4 for errors."""
    from rich.console import Console
    from rich.progress import Progress

    from ablate.data.check import check as check_files
    from ablate.data.check import check_pair

    sets = files_of(data, workspace)
    if write_clean:
        _write_clean(list(sets.values()), write_clean)
        return
    reports: list[DataReport] = []
    shown = sys.stderr.isatty() and logger.isEnabledFor(logging.WARNING)
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        for name, files in sets.items():
            task = progress.add_task(f"images of {name}", total=None)
            tick = partial(progress.advance, task)
            reports.append(check_files(name, files, tick, drop_invalid=drop_invalid))
    together = check_pair(*sets.values()) if len(sets) == 2 else []
    errors = sum(report.errors for report in reports) + sum(one.level == "error" for one in together)
    if as_json:
        overlap = next((one for one in together if one.level == "warning"), None)
        print_json({"schema": SCHEMA, "errors": errors, "sets": reports, "overlap": overlap, "together": together})
    else:
        typer.echo("\n".join(_lines(reports, together)))
    if errors:
        raise BadInput(f"{errors:,} errors in the data; mend them before training")


def shapes(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to make; it then works as a COCO_ROOT.")
    ] = None,
    workspace: InWorkspace = HERE,
) -> None:
    """Write the embedded data set: 800 training and 240 validation images with boxes and masks."""
    check_options(context, RULES["shapes"])
    from ablate.data.shapes import write_shapes

    folder = out if out is not None else shapes_folder(workspace)
    if out is not None and os.path.lexists(out):
        raise BadInput(f"{out}: exists already; name a folder that does not")
    try:
        write_shapes(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    typer.echo(str(folder))


def _write_clean(sets: list[Files], out: Path) -> None:
    from ablate.data.check import clean_copy

    if len(sets) != 1:
        raise BadInput("--write-clean takes one data set: give ANNOTATIONS IMAGES")
    if out.exists():
        raise BadInput(f"{out}: exists already; name a file that does not")
    check_target(out)
    content, notes = clean_copy(sets[0])
    write_bytes(out, content)
    typer.echo("\n".join([*notes, f"written to {out}"]))


def _lines(reports: "list[DataReport]", together: "list[DataProblem]") -> Iterator[str]:
    for report in reports:
        yield (
            f"{report.name}: {report.images:,} images ({report.images_without_objects:,} without objects), "
            f"{report.objects:,} objects, {report.crowds:,} crowds, {report.categories:,} categories  "
            f"{report.annotations}"
        )
        for finding in report.findings:
            yield from _finding_lines(finding)
        if not report.findings:
            yield "  nothing wrong"
    for finding in together:
        yield from _finding_lines(finding)


def _finding_lines(finding: "DataProblem") -> Iterator[str]:
    yield f"  {finding.level}: {finding.kind} ({finding.count:,})"
    yield from (f"    {example}" for example in finding.examples)
    if finding.count > len(finding.examples):
        yield f"    ... and {finding.count - len(finding.examples):,} more"
