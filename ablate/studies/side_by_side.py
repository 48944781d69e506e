"""Several studies in one table, where their data and settings are equal: what each variant scores, and its errors."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
from rich.console import RenderableType
from rich.text import Text

from ablate.runs.folder import Workspace, read_json
from ablate.runs.manifest import Manifest
from ablate.studies.results import Summary
from ablate.studies.study import Study, finished_runs, launch_command, slug
from ablate.studies.tables import banner, errors_table, measured_on, remarks, scores_table, wide_table
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.exceptions import BadInput
from analysis.files import write_all
from analysis.io import json_bytes
from analysis.render.latex import latex
from analysis.render.screen import NOTE, dimmed, fact_list
from analysis.render.table import Column, Table, csv_text, markdown, without_bold

Known = Mapping[str, str]  # what must agree -> what it is in a study; empty where it is not known
NO_DIFFERENCES = (
    "Each difference is between a variant and the baseline of its own study; settings may differ from one study to "
    "the next. Cost is left out, because it was not measured under the same conditions: ablate table STUDY shows it."
)


def check_equal(workspace: Workspace, studies: Sequence[Study], summaries: Sequence[Summary]) -> list[str]:
    """Refuse studies whose numbers cannot stand in one table -> what a reader must know of those that can.

    Raises:
        BadInput: a study is named twice or has no finished run, or two differ in data or settings.
    """
    for study in studies:
        if [one.name for one in studies].count(study.name) > 1:
            raise BadInput(f"study {study.name!r} is named twice; name each once")
    known = [_known(workspace, study, summary) for study, summary in zip(studies, summaries, strict=True)]
    unknown: dict[str, list[str]] = {}  # names of studies -> what is not known of them
    for what in known[0]:
        values: dict[str, str] = {}
        for study, one in zip(studies, known, strict=True):
            if one[what]:
                values.setdefault(one[what], study.name)
        if len(values) > 1:
            first, second, *_ = values.values()
            raise BadInput(
                f"studies {first!r} and {second!r} differ in {what}, so their numbers cannot be shown in one table; "
                "show each study separately"
            )
        lacking = [study.name for study, one in zip(studies, known, strict=True) if not one[what]]
        if lacking:
            unknown.setdefault(" / ".join(lacking), []).append(what)
    return [f"Not known for {names}, so not compared: {', '.join(what)}." for names, what in unknown.items()]


def _known(workspace: Workspace, study: Study, summary: Summary) -> Known:
    """The settings of a study that must be equal in all studies; `summarise` has checked that its runs agree."""
    done = finished_runs(workspace, study)
    if not done:
        raise BadInput(f"study {study.name!r} has no finished run yet; run it: {launch_command(workspace, study)}")
    manifest = read_json(workspace.run(done[0].run_id).manifest, Manifest)
    config = done[0].config
    varied = [key for key in study.allowed_keys if key.partition(".")[0] in ("evaluate", "data")]
    settings = "" if config is None else msgspec.json.encode(config.evaluate).decode()
    return {
        "their validation data": manifest.validation_data,
        "their validation images": manifest.validation_images,
        "the cap of the evaluation": str(summary.max_dets),
        "the IoU of the errors": str(summary.iou),
        "their training data": "" if "data" in varied else manifest.training_data,
        "their training images": "" if "data" in varied else manifest.training_images,
        "how they predict (evaluate)": settings,
    }


def joined(summaries: Sequence[Summary], tables: Sequence[Table], title: str) -> Table:
    """Tables of several studies as one, a row a variant, with a column that names the study."""
    heads: dict[str, Column] = {}
    for table in tables:
        for column in table.columns[1:]:
            heads.setdefault(_key(column), column)
    rows = []
    for summary, table in zip(summaries, tables, strict=True):
        for first, *cells in table.cells:
            own = dict(zip(map(_key, table.columns[1:]), cells, strict=True))
            rows.append((summary.study, replace(first, style=""), *(own.get(name) for name in heads)))
    columns = (Column("study", kind="text"), replace(tables[0].columns[0]), *heads.values())
    return Table(title, columns, tuple(tuple(row) for row in rows), names=2)


def _key(column: Column) -> str:
    return f"{column.group}/{column.name}"


def both_tables(summaries: Sequence[Summary]) -> list[Table]:
    """The tables of scores and of errors of the variants of several studies.

    Nothing is in bold: the best of one study is not the best of all.
    """
    return [
        without_bold(joined(summaries, tables, tables[0].title))
        for tables in ([build(one) for one in summaries] for build in (scores_table, errors_table))
    ]


def side_by_side_screen(summaries: Sequence[Summary], notes: Sequence[str]) -> list[RenderableType]:
    """Heading, two tables, notes."""
    facts = [
        *(("study", f"{one.study}: {one.title}") for one in summaries),
        ("measured on", f"all on {measured_on(summaries[0])}"),
        *((NOTE, f"{one.study}: {banner(one)}") for one in summaries if banner(one)),
    ]
    parts: list[RenderableType] = [fact_list(facts)]
    for table in both_tables(summaries):
        parts += [Text(""), table]
    return [*parts, dimmed(NO_DIFFERENCES), *map(Text, _remarks(summaries, notes))]


def _remarks(summaries: Sequence[Summary], notes: Sequence[str]) -> list[str]:
    found: dict[str, list[str]] = {}
    for one in summaries:
        for remark in remarks(one):
            found.setdefault(remark, []).append(one.study)
    return [*notes, *(f"{' / '.join(names)}: {remark}" for remark, names in found.items())]


def write_side_by_side(out: Path, summaries: Sequence[Summary], notes: Sequence[str]) -> None:
    """Write `table.csv`, `.md`, `.tex` and `.json`.

    Raises:
        BadInput: the folder cannot be written.
    """
    tables, about = both_tables(summaries), [NO_DIFFERENCES, *_remarks(summaries, notes)]
    title = "; ".join(one.title for one in summaries)
    wide = joined(summaries, [wide_table(one) for one in summaries], title)
    names = [column.group for column in wide.columns]
    kept = [place for place, group in enumerate(names) if group not in ("cost", "whole command, from outside")]
    wide = replace(
        without_bold(wide),
        columns=tuple(wide.columns[place] for place in kept),
        rows=tuple(tuple(replace(row[place], bold=False) for place in kept) for row in wide.cells),
        notes=tuple(about),
        label=slug(" ".join(one.study for one in summaries)),
    )
    text = "\n".join([*(f"### {table.title}\n\n{markdown(table)}" for table in tables), *about, ""])
    units = {f"{name}*": "points" for name in ("box_", "mask_", *ERROR_TYPES)}
    records = [{"study": one.study, **_record(one, place)} for one in summaries for place in range(len(one.rows))]
    contents = {
        "table.csv": csv_text(Table.from_records(records, units)).encode(),
        "table.md": text.encode(),
        "table.tex": latex(wide).encode(),
        "table.json": json_bytes({"studies": summaries, "notes": about}),
    }
    write_all(out, contents)


def _record(summary: Summary, place: int) -> dict[str, object]:
    row = summary.rows[place]
    metrics = {name: row.metrics.get(name) for name in ("AP", "AP50", "AP75")}
    errors = {name: row.errors.get(name) for name in ("cls", "loc", "both", "dup", "bg", "miss", "fp", "fn")}
    found: dict[str, object] = {"variant": row.variant, "state": row.state, "n": row.n}
    for name, one in {**{f"{summary.kinds[0]}_{key}": value for key, value in metrics.items()}, **errors}.items():
        found |= {name: one and one.mean, f"{name}_half": one and one.half}
    return found
