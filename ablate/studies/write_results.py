"""The answer of a study as files for programs and papers (JSON, CSV, Markdown, LaTeX, figures).

Every format holds the same numbers: the raw ones in JSON and CSV, the tables of a terminal in Markdown, LaTeX and HTML.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ablate.studies.cost import Range
from ablate.studies.results import METRICS, Row, Summary
from ablate.studies.tables import (
    banner,
    cost_table,
    errors_table,
    facts_table,
    findings_table,
    legend,
    measured_on,
    outside_table,
    over_seeds,
    published_cost_table,
    published_table,
    remarks,
    scores_table,
    wide_table,
    without_empty,
)
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.files import write_all
from analysis.io import json_bytes
from analysis.render.latex import latex
from analysis.render.table import Column, Table, csv_text, escape_markdown, markdown, markdown_paragraph
from analysis.stats.intervals import Estimate

if TYPE_CHECKING:  # matplotlib is for figures alone
    from ablate.studies.training_curves import TrainingCurves
    from analysis.render.figure_style import FigureStyle


def write_files(
    out: Path,
    summary: Summary,
    curves: "TrainingCurves | None" = None,
    style: "FigureStyle | None" = None,
    columns: Sequence[str] = (),
) -> list[Path]:
    """Write `table.csv`, `.md`, `.tex`, `.json`, what was published, and the figures; all is made before it is written.

    Args:
        out: the folder.
        summary: of the study.
        curves: what its runs measured while they were trained.
        style: of the figures; none: for the screen.
        columns: of `table.md` and `table.tex`, by name; none: what there is. The others hold everything.

    Raises:
        BadInput: the folder cannot be written, or there is no such column.
    """
    from ablate.studies.cost_figure import cost_figure
    from ablate.studies.plots import about, curves_figure, errors_figure
    from ablate.studies.training_curves import training_figure
    from analysis.render.figure_style import SCREEN, figures_tex

    contents = {
        "table.csv": as_csv(summary).encode(),
        "table.md": as_markdown(summary, columns).encode(),
        "table.tex": as_latex(summary, columns).encode(),
        "table.json": as_json(summary),
    }
    if summary.published:
        contents |= {
            "published.csv": published_csv(summary).encode(),
            "published.tex": published_latex(summary).encode(),
        }
    style, told = style or SCREEN, about(summary)
    made = {
        "errors": errors_figure(summary, style),
        "curve": curves_figure(summary, style),
        "cost": cost_figure(summary, told, style),
        "training": training_figure(curves or {}, told, style),
    }
    pictures = {name: picture for name, picture in made.items() if picture is not None}
    for name, picture in pictures.items():
        contents |= picture.named(name)
    if pictures:
        contents["figures.tex"] = figures_tex(pictures, style)
    write_all(out, contents)
    return [out / file for file in contents]


# Of the columns of the CSV files, by key or by its beginning.
UNITS = {
    **{f"{name}*": "points" for name in ("box_", "mask_", "published_box", "published_mask", *ERROR_TYPES)},
    "seconds_per_iteration_ratio": "",
    "seconds_per_image_ratio": "",
    "seconds_per_*": "s",
    "command_seconds*": "s",
    "peak_gib": "GiB",
    "command_peak_gpu_gib": "GiB",
}


def as_json(summary: Summary) -> bytes:
    """Everything, unrounded."""
    return json_bytes(summary)


def as_csv(summary: Summary) -> str:
    """A row a variant; for estimates the mean, and half the width of the interval where there is one."""
    return csv_text(Table.from_records([_record(summary, row) for row in summary.rows], UNITS))


def _record(summary: Summary, row: Row) -> dict[str, object]:
    kind, other = summary.kinds
    size, published = row.size, row.published
    return {
        "study": summary.study,
        "variant": row.variant,
        "baseline": row.baseline,
        "not_controlled": " ".join(row.confounders),
        "synthetic": summary.synthetic,
        "state": row.state,
        "n": row.n,
        **_means_and_halves({f"{kind}_{name}": row.metrics.get(name) for name in METRICS}),
        **_means_and_halves({f"{other}_AP": row.other_ap, f"{kind}_AP_difference": row.difference}),
        **_means_and_halves({name: row.errors.get(name) for name in ERROR_TYPES}),
        "peak_gib": row.peak_gib,
        "seconds_per_iteration": row.seconds_per_iteration,
        "seconds_per_image": row.seconds_per_image,
        **_limits("seconds_per_iteration", row.iteration_range),
        **_limits("seconds_per_image", row.image_range),
        "seconds_per_iteration_ratio": row.iteration_ratio,
        "seconds_per_image_ratio": row.image_ratio,
        "parameters": size.parameters if size else None,
        "macs": size.macs if size else None,
        "activations": size.activations if size else None,
        "cost_measured_on": summary.cost_place,
        "published_box_AP": published.box_ap if published else None,
        "published_mask_AP": published.mask_ap if published else None,
        "published_by": published.source if published else None,
        **_from_elsewhere(summary, row),
    }


def _from_elsewhere(summary: Summary, row: Row) -> dict[str, object]:
    """The cost of a row's command, and the facts given for it; empty for a detector trained here."""
    outside, names = row.outside, dict.fromkeys(name for one in summary.rows for name in one.facts)
    told = {f"as_given_{name}": row.facts.get(name) for name in names}
    if summary.kind != "command":
        return told
    return {
        **_means_and_halves({"command_seconds": outside.seconds if outside else None}),
        "command_peak_gpu_gib": outside and outside.peak_gpu_gib,
        "command_ran_on": "; ".join(outside.places) if outside else "",
    }


def _means_and_halves(found: dict[str, Estimate | None]) -> dict[str, object]:
    pairs = ({name: one and one.mean, f"{name}_half": one and one.half} for name, one in found.items())
    return {key: value for pair in pairs for key, value in pair.items()}


def _limits(name: str, rounds: Range | None) -> dict[str, object]:
    low, high = rounds or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def published_csv(summary: Summary) -> str:
    """One row per published number without a comparable run, with its difference to the baseline of the same source."""
    return csv_text(
        Table.from_records(
            [
                {
                    "study": summary.study,
                    **msgspec.to_builtins(one.finding),
                    "box_difference": one.box_difference,
                    "mask_difference": one.mask_difference,
                }
                for one in summary.published
            ],
            UNITS,
        )
    )


def as_markdown(summary: Summary, columns: Sequence[str] = ()) -> str:
    """The tables of the study, published findings, and what a reader has to know; or one table of some columns."""
    lines = [f"## {escape_markdown(summary.title)}", ""]
    if banner(summary):
        lines += [f"**{banner(summary)}**", ""]
    if columns:
        table = replace(wide_table(summary).choose(columns), title="")
        notes = (f"{markdown_paragraph(note)}\n" for note in _notes(summary, table.columns))
        return "\n".join([*lines, markdown(table), *notes])
    for table in study_tables(summary):
        lines += [f"### {escape_markdown(table.title)}", "", markdown(table)]
    if summary.published:
        table = findings_table(summary.published, [row.variant for row in summary.rows])
        lines += ["### Published on COCO under other conditions", "", markdown(table)]
    if summary.published_costs:
        table = published_cost_table(summary.published_costs)
        lines += [f"### {table.title}", "", markdown(table)]
    if summary.published_cautions:
        lines += [f"Published numbers: {escape_markdown(' '.join(summary.published_cautions))}", ""]
    return "\n".join([*lines, *(f"{markdown_paragraph(note)}\n" for note in _notes(summary))])


def as_latex(summary: Summary, columns: Sequence[str] = ()) -> str:
    r"""A table for papers that use booktabs and siunitx, what it shows and where it comes from below it."""
    title = ". ".join(filter(None, [summary.title, banner(summary).capitalize()]))
    table = wide_table(summary).choose(columns) if columns else wide_table(summary)
    return latex(replace(table, title=title, notes=tuple(_notes(summary, table.columns))))


def published_latex(summary: Summary) -> str:
    """A ``table`` of the published numbers, a column a source and size; what each stands for below."""
    table = published_table(summary, summary.kinds[0])
    return latex(
        replace(table, title=f"{summary.title}. {table.title}", notes=tuple(f"{about}." for about in table.notes))
    )


def study_tables(summary: Summary) -> list[Table]:
    """The tables of scores, errors and cost that have numbers."""
    made = (build(summary) for build in (scores_table, errors_table, cost_table, outside_table, facts_table))
    return [without_empty(table) for table in made if table.rows]


def _notes(summary: Summary, shown: Sequence[Column] = ()) -> list[str]:
    """The notes of a table for a paper: its study, its data, and the meaning of its numbers."""
    base = "" if summary.kind == "adopted" else f"base {summary.base}"
    about = ", ".join(filter(None, [f"Study {summary.study}", base, over_seeds(summary)]))
    facts = [f"{fact}." for fact in (about, measured_on(summary)) if fact]
    return [*facts, *legend(summary, shown), *remarks(summary)]
