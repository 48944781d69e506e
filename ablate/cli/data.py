"""The verbs of ``data``: ``check``, ``init`` and ``shapes``."""

import logging
import os
import sys
from collections.abc import Iterator, Mapping
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
from analysis.shell import shell_command

if TYPE_CHECKING:
    from ablate.data.check import DataProblem, DataReport

logger = logging.getLogger(__name__)

NAMES = ("train", "validation")

InWorkspace = Annotated[
    Workspace,
    typer.Option(
        "--root",
        parser=as_workspace,
        metavar="<path>",
        help="Folder that contains results/; the embedded data set is kept in results/data.",
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
        typer.Option("--drop-invalid", help="Check the data without the bad annotations, and list these."),
    ] = False,
    write_clean: Annotated[
        Path | None,
        typer.Option(help="Write the annotations without the bad ones to this file, for training; takes one data set."),
    ] = None,
    as_json: AsJson = False,
    workspace: InWorkspace = HERE,
) -> None:
    """Find missing and broken images, bad boxes and masks, clashing and unknown ids; exit code 4 for errors."""
    sets = files_of(data, workspace)
    if write_clean:
        _write_clean(list(sets.values()), write_clean)
        return
    reports, together, errors = _checked(sets, drop_invalid=drop_invalid)
    if as_json:
        overlap = next((one for one in together if one.level == "warning"), None)
        print_json({"schema": SCHEMA, "errors": errors, "sets": reports, "overlap": overlap, "together": together})
    else:
        typer.echo("\n".join(_lines(reports, together)))
    if errors:
        raise BadInput(f"{_counted(errors)} in the data; correct the data before training")


def init(
    context: typer.Context,
    data: Annotated[
        list[str],
        typer.Argument(
            metavar="FOLDER",
            help="A COCO root, or a COCO export of Roboflow, CVAT, Label Studio or FiftyOne; or four paths: train "
            "JSON, train images, validation JSON, validation images; or the first two with --hold-out.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE.yaml", help="The file to write.", show_default="FOLDER's name.yaml"),
    ] = None,
    validation: Annotated[
        str,
        typer.Option("--validation", metavar="SPLIT", help="Validate on this set, such as test.", show_default=False),
    ] = "",
    hold_out: Annotated[
        float | None,
        typer.Option(
            "--hold-out",
            metavar="SHARE",
            help="Validate on this share of the training images, if there is no validation set.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of --hold-out.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Write a data YAML for --data: find the annotations and images of a folder, and check all of them.

    Nothing is overwritten, and with errors in the data nothing is written.
    """
    check_options(context, RULES["init"])
    from ablate.data.layouts import data_yaml, hold_out_lists

    sets, unused, folder = _found_sets(data, validation, hold_out)
    target = out if out is not None else Path(f"{folder.resolve().name or 'data'}.yaml")
    if target.suffix not in (".yaml", ".yml"):
        raise BadInput(f"{target}: name a file that ends in .yaml")
    lists = {} if hold_out is None else {name: target.with_name(f"{target.stem}-{name}.txt") for name in NAMES}
    for path in (target, *lists.values()):
        if os.path.lexists(path):
            raise BadInput(f"{path}: exists already; name another file with --out")
        check_target(path)
    texts = {} if hold_out is None else dict(zip(NAMES, hold_out_lists(sets["train"], hold_out, seed), strict=True))
    reports, together, errors = _checked({"train": sets["train"]} if lists else sets)
    if errors:
        typer.echo("\n".join(_lines(reports, together)), err=as_json)
        raise BadInput(f"{_counted(errors)} in the data, so nothing is written; correct the data and try again")
    both = sets if not lists else dict.fromkeys(NAMES, sets["train"])
    for name, path in lists.items():
        write_bytes(path, texts[name].encode())
    write_bytes(target, data_yaml(both, lists, target, str(folder)).encode())
    if as_json:
        print_json({"schema": SCHEMA, "written": str(target), "sets": reports, "together": together})
        return
    typer.echo("\n".join(_lines(reports, together)))
    for name, path in lists.items():
        typer.echo(f"{name}: {len(texts[name].splitlines()):,} images, listed in {path}")
    typer.echo("".join(f"left out: {line}\n" for line in unused) + f"written: {target}")
    boxes_alone = () if all(report.has_masks for report in reports) else ("--set", "model.detector.masks=false")
    words = ("--vary", "train.lr=1e-3,2e-3", "--data", str(target), *boxes_alone, "--name", "first", "--dry-run")
    typer.echo(f"next: {shell_command('ablate', 'vary', *words)}")


def _found_sets(data: list[str], validation: str, hold_out: float | None) -> "tuple[dict[str, Files], list[str], Path]":
    """The sets that ``data init`` writes down, those that it leaves out, and the folder."""
    from ablate.data.layouts import chosen_sets, find_sets

    if hold_out is not None and not 0 < hold_out < 1:
        raise BadInput(f"--hold-out {hold_out:g}: must be a share between 0 and 1, such as 0.2")
    if len(data) == 4:
        if hold_out is not None or validation:
            raise BadInput("four paths name the validation set; leave out --hold-out and --validation")
        return files_of(data, HERE), [], Path(data[0]).expanduser().parent
    if len(data) == 2 and hold_out is not None:
        return {"train": next(iter(files_of(data, HERE).values()))}, [], Path(data[0]).expanduser().parent
    if len(data) != 1:
        raise BadInput(f"data init takes one folder, four paths, or two with --hold-out; got {len(data)} values")
    folder = Path(data[0]).expanduser()
    found = find_sets(folder)
    sets = chosen_sets(folder, found, validation)
    if hold_out is not None and "validation" in sets:
        raise BadInput(f"{folder}: has a validation set, {sets['validation'].annotations}; leave out --hold-out")
    if hold_out is None and "validation" not in sets:
        test = " (or use test, with --validation test)" if any(one.split == "test" for one in found) else ""
        raise BadInput(
            f"{folder}: has no validation set; hold out a part of the training images with --hold-out 0.2{test}"
        )
    used = [files.annotations for files in sets.values()]
    return sets, [str(one.annotations) for one in found if one.annotations not in used], folder


def _checked(
    sets: Mapping[str, Files], *, drop_invalid: bool = False
) -> "tuple[list[DataReport], list[DataProblem], int]":
    """The reports of data sets, the problems of both together, and the number of errors."""
    from rich.console import Console
    from rich.progress import Progress

    from ablate.data.check import check as check_files
    from ablate.data.check import check_pair

    reports: list[DataReport] = []
    shown = sys.stderr.isatty() and logger.isEnabledFor(logging.WARNING)
    with Progress(console=Console(stderr=True), transient=True, disable=not shown) as progress:
        for name, files in sets.items():
            task = progress.add_task(f"images of {name}", total=None)
            tick = partial(progress.advance, task)
            reports.append(check_files(name, files, tick, drop_invalid=drop_invalid))
    together = check_pair(*sets.values()) if len(sets) == 2 else []
    errors = sum(report.errors for report in reports) + sum(one.level == "error" for one in together)
    return reports, together, errors


def shapes(
    context: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Folder to create; use it as a COCO_ROOT.")
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
            f"{report.objects:,} objects{' without masks' * (not report.has_masks)}, {report.crowds:,} crowds, "
            f"{report.categories:,} categories  "
            f"{report.annotations}"
        )
        for finding in report.findings:
            yield from _finding_lines(finding)
        if not report.findings:
            yield "  nothing wrong"
    if together:
        yield "both sets:"
    for finding in together:
        yield from _finding_lines(finding)


def _counted(errors: int) -> str:
    return "1 error" if errors == 1 else f"{errors:,} errors"


def _finding_lines(finding: "DataProblem") -> Iterator[str]:
    yield f"  {finding.level}: {finding.kind} ({finding.count:,})"
    yield from (f"    {example}" for example in finding.examples)
    if finding.count > len(finding.examples):
        yield f"    ... and {finding.count - len(finding.examples):,} more"
