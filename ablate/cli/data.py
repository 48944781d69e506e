"""The verbs of ``data``: parse the command line, call the library, show the result."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ablate.runs.folder import Workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ablate.data.check import DataProblem, DataReport

app = typer.Typer(help="Check data sets, and write the embedded one.", no_args_is_help=True)

SCHEMA = 1
Root = Annotated[Path, typer.Option(help="The embedded data set is kept in results/data under it.")]


@app.command()
def check(
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="DATA",
            help="shapes, COCO_ROOT, FILE.yaml (data or run), ANNOTATIONS IMAGES, or the four paths of both sets.",
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Print the whole report as JSON.")] = False,
    root: Root = Path(),
) -> None:
    """Find missing and broken images, bad boxes and masks, clashing and unknown ids; exit code 4 for errors."""
    import sys

    import msgspec
    from rich.console import Console
    from rich.progress import Progress

    from ablate.data.check import check as check_files
    from ablate.data.check import check_overlap
    from ablate.data.sources import files_of
    from analysis.exceptions import BadInput

    sets = files_of(data, Workspace(root))
    reports: list[DataReport] = []
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        for name, files in sets.items():
            task = progress.add_task(f"images of {name}", total=None)
            reports.append(check_files(name, files, lambda task=task: progress.advance(task)))  # type: ignore[misc]
    overlap = check_overlap(*sets.values()) if len(sets) == 2 else None
    errors = sum(report.errors for report in reports)
    if json:
        document = {"schema": SCHEMA, "errors": errors, "sets": reports, "overlap": overlap}
        typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=1).decode())
    else:
        for report in reports:
            typer.echo("\n".join(_rendered(report)))
        if overlap is not None:
            typer.echo("\n".join(_rendered_findings([overlap])))
    if errors:
        raise BadInput(f"{errors:,} errors in the data; mend them before training")


@app.command()
def shapes(
    out: Annotated[Path | None, typer.Option(help="Folder to make; it then works as a COCO_ROOT.")] = None,
    root: Root = Path(),
) -> None:
    """Write the embedded data set: 800 training and 240 validation images with boxes and masks."""
    from ablate.data.shapes import write_shapes
    from ablate.data.sources import shapes_folder
    from analysis.exceptions import BadInput

    folder = out if out is not None else shapes_folder(Workspace(root))
    if out is not None and out.exists():
        raise BadInput(f"{out}: exists already; name a folder that does not")
    try:
        write_shapes(folder)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); name another folder") from None
    typer.echo(str(folder))


def _rendered(report: "DataReport") -> list[str]:
    head = (
        f"{report.name}: {report.images:,} images ({report.images_without_objects:,} without objects), "
        f"{report.objects:,} objects, {report.crowds:,} crowds, {report.categories:,} categories  {report.annotations}"
    )
    return [head, *(_rendered_findings(report.findings) or ["  nothing wrong"])]


def _rendered_findings(findings: "Sequence[DataProblem]") -> list[str]:
    lines = []
    for finding in findings:
        lines.append(f"  {finding.level}: {finding.kind} ({finding.count:,})")
        lines += [f"    {example}" for example in finding.examples]
        if finding.count > len(finding.examples):
            lines.append(f"    ... and {finding.count - len(finding.examples):,} more")
    return lines
