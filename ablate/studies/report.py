"""The sections of a report that tell of a study: its tables, AP against cost, training, and what was published."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from ablate.studies.cost_figure import Cost, front_sentence, pareto_front, shown_costs
from ablate.studies.results import Row, Summary
from ablate.studies.tables import banner, held, legend, published_cost_table, published_table, remarks, seeds_in_words
from ablate.studies.training_curves import SHOWN, Line, TrainingCurves, mean_over_seeds
from ablate.studies.write_results import study_tables
from analysis.render.markup import Markup, join, tag
from analysis.render.takeaways import typeset
from analysis.report.charts import PlotLine, curves
from analysis.report.charts import legend as legend_of_runs
from analysis.report.components import notes, scrolling
from analysis.report.page import Section
from analysis.report.scatter import Point, even_ticks, scatter

MOST_POINTS = 200  # of a line
SCALE_PERCENT = 99  # of the losses that the scale holds: the first steps are far above the rest


def study_facts(summary: Summary) -> list[Markup | str]:
    """Sentences that describe the study, beginning with the note that must accompany all its numbers."""
    asked = f"Source: {summary.source}. " if summary.source else ""
    fact = f"{asked}All other settings are those of {summary.base}; {seeds_in_words(summary.seeds)}."
    if summary.kind == "adopted":
        fact = f"{asked}Fixed settings: {held(summary)}."
    return [tag("strong", f"{banner(summary).capitalize()}."), fact] if banner(summary) else [fact]


def study_sections(summary: Summary, training: TrainingCurves, names: Sequence[str]) -> list[Section]:
    """The sections of a study besides its runs; a section without numbers is left out.

    Args:
        summary: of the study.
        training: what its runs measured while they were trained.
        names: the variants of the report, in the order of their letters.
    """
    sections = [_results(summary, names)]
    if figures := _training_figures(training, names):
        several = any(len(lines) > 1 for of_key in training.values() for lines in of_key.values())
        text = "Measured while the runs were trained."
        text += " A line is the mean over seeds; faint lines are single seeds." * several
        body = [tag("p", text), legend_of_runs(names), tag("div", *figures, class_="charts")]
        measured = "Loss" if set(training) == {"loss"} else "Loss and AP" if "loss" in training else "AP"
        sections.append(Section("training", "Training", f"{measured} while training", join(body)))
    if published := _published(summary):
        sections.append(Section("published", "Published", "Published results of others", join(published)))
    return sections


def _results(summary: Summary, names: Sequence[str]) -> Section:
    """AP, errors and cost of every variant; more than one seed as mean and interval; then AP against cost."""
    parts: list[Markup] = [scrolling(table, table.title) for table in study_tables(summary)]
    remarked = [*legend(summary), *remarks(summary)]
    if summary.of_single_seeds:
        remarked.append("Several seeds give intervals and tests: plan the study with --seeds 0,1,2.")
    parts.append(notes(remarked))
    rows = [row for row in summary.rows if "AP" in row.metrics and row.variant in names]
    costs, equal = shown_costs(summary, rows)
    if costs:
        figures = [_cost_figure(summary, cost, rows, names) for cost in costs]
        ranges = any(row.iteration_range or row.image_range for row in rows)
        sentences = [
            front_sentence(rows, costs),
            "Vertical lines: 95 % intervals over seeds." * summary.several,
            "Horizontal lines: the range of the measurement rounds." * ranges,
            equal,
        ]
        text = typeset(" ".join(filter(None, sentences)))
        parts += [tag("h3", "AP against cost"), tag("p", text), legend_of_runs(names)]
        parts.append(tag("div", *figures, class_="charts"))
    return Section("study", "Study", "Results of the variants", join(parts))


def _cost_figure(summary: Summary, cost: Cost, rows: Sequence[Row], names: Sequence[str]) -> Markup:
    points, ap = [], f"{summary.kinds[0]} AP"
    ends: list[float] = []
    for row in rows:
        found, at = row.metrics["AP"], cost.of(row)
        span = None if found.half is None else (found.mean - found.half, found.mean + found.half)
        ends += span or (found.mean,)
        if at is None:
            continue
        hint = f"{row.variant}: {ap} {found.mean:.1f}, {cost.name} {at:.4g}"
        points.append(Point(names.index(row.variant), at, found.mean, cost.span(row), span, hint))
    front = [(points[place].x, points[place].y) for place in pareto_front([(one.x, one.y) for one in points])]
    label = f"{ap} against {cost.name}: {'; '.join(one.hint for one in points)}"
    chart = scatter(points, label=label, x_title=cost.name, y_title=f"{ap} (points)", front=front, y_values=ends)
    return tag("figure", tag("figcaption", tag("strong", cost.name)), chart)


def _training_figures(training: TrainingCurves, names: Sequence[str]) -> list[Markup]:
    """A chart for each measure that runs of the report have."""
    known = {key: [(name, of_key[name]) for name in names if name in of_key] for key, of_key in training.items()}
    return [_training_figure(key, lines, names) for key, lines in known.items() if lines]


def _training_figure(key: str, variants: Sequence[tuple[str, Mapping[int, Line]]], names: Sequence[str]) -> Markup:
    """Lines over iterations, of each variant that of its only seed, or the mean of its seeds over them all."""
    lines: list[PlotLine] = []
    for name, of_seed in variants:
        place, seeds = names.index(name), list(of_seed.values())
        mean = mean_over_seeds(seeds)
        if len(seeds) > 1:
            lines += [_line(place, seed, faint=mean is not None) for seed in seeds]
        if mean is not None:
            lines.append(_line(place, mean))
    values = np.concatenate([line.y for line in lines])
    most = float(np.percentile(values, SCALE_PERCENT) if key == "loss" else values.max())
    top = max(most, *(float(line.y[-1]) for line in lines)) * 1.05 or 1.0
    last = max(float(line.x[-1]) for line in lines if line.x is not None)
    ends = (f"{names[line.run]} {line.y[-1]:.3g}" for line in lines if not line.faint)
    chart = curves(
        [replace(line, y=np.clip(line.y, 0.0, top)) for line in lines],
        label=f"{SHOWN[key]} by iteration, in the end: {', '.join(ends)}",
        x_title="iteration",
        y_title=SHOWN[key].partition(" on ")[0],
        x_range=(0.0, last),
        x_ticks=even_ticks(0.0, last),
        y_top=top,
        y_ticks=even_ticks(0.0, top),
    )
    return tag("figure", tag("figcaption", tag("strong", SHOWN[key])), chart)


def _line(run: int, measured: Line, *, faint: bool = False) -> PlotLine:
    """At most so many points of what was measured."""
    iterations, values = measured
    kept = np.unique(np.linspace(0, len(values) - 1, MOST_POINTS).astype(np.int64))
    return PlotLine(run, values[kept], iterations[kept], faint=faint)


def _published(summary: Summary) -> list[Markup]:
    """The tables of what was published under other conditions, as in a terminal; nothing where there is none."""
    parts: list[Markup] = []
    for table in (published_table(summary, summary.kinds[0]), published_cost_table(summary.published_costs)):
        if table.rows:
            parts += [scrolling(table, table.title), notes(table.notes)]
    return parts
