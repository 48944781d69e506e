"""The result of a study in a terminal: the scores of each variant, the AP lost to each type of error, and the cost.

And the comparison of its variants with the baseline: what differs beyond noise, in a table and in words.
"""

from collections.abc import Sequence
from dataclasses import replace

from rich.console import RenderableType
from rich.text import Text

from ablate.runs.folder import Workspace
from ablate.studies.results import Summary, summarise
from ablate.studies.study import Study, more_seeds
from ablate.studies.tables import (
    banner,
    cost_table,
    errors_table,
    facts_table,
    held,
    legend,
    measured_on,
    outside_table,
    published_cost_table,
    published_table,
    remarks,
    scores_table,
    wide_table,
)
from analysis.coco.ground_truth import GroundTruth
from analysis.render.comparison import differences_screen, resampling_facts
from analysis.render.screen import NOTE, dimmed, fact_list, print_whole
from analysis.stats.compare import Comparison


def show_table(workspace: Workspace, study: Study) -> None:
    """Print the table of a study on standard output."""
    summary = summarise(workspace, study)
    print_whole(*summary_screen(summary), *seeds_hint(workspace, study, summary))


def seeds_hint(workspace: Workspace, study: Study, summary: Summary) -> list[RenderableType]:
    """The command that gives intervals over seeds, where there are none."""
    return [Text(f"For intervals over seeds: {more_seeds(workspace, study)}")] if summary.of_single_seeds else []


def summary_screen(summary: Summary, columns: Sequence[str] = ()) -> list[RenderableType]:
    """Heading, three tables, published findings, notes; with ``columns``, one table of those instead.

    Raises:
        BadInput: there is no such column.
    """
    facts = [
        ("study", f"{summary.study}: {summary.title}"),
        ("source", summary.source),
        ("fixed settings", held(summary)),
        ("measured on", measured_on(summary)),
        (NOTE, banner(summary)),
    ]
    heading = fact_list([(name, fact) for name, fact in facts if fact])
    if columns:
        table = replace(wide_table(summary).choose(columns), title="")
        below = [dimmed(" ".join(legend(summary, table.columns))), *map(Text, remarks(summary))]
        return [heading, Text(""), table, *below]
    published = published_table(summary, summary.kinds[0])
    scores, *others = scores_table(summary), errors_table(summary), cost_table(summary), published
    others[1:1] = [outside_table(summary), facts_table(summary)]
    others.append(published_cost_table(summary.published_costs))
    parts: list[RenderableType] = [heading, Text(""), scores]
    for table in others:
        parts += [Text(""), table] if table.rows else []
    return [*parts, dimmed(" ".join(legend(summary))), *map(Text, remarks(summary))]


def study_comparison_screen(
    summary: Summary, ground_truth: GroundTruth, comparison: Comparison
) -> list[RenderableType]:
    """Heading, the table of differences, where the noise comes from, the findings as sentences."""
    facts = [
        ("study", f"{summary.study}: {summary.title}"),
        ("fixed settings", held(summary)),
        (
            "measured on",
            f"{comparison.images:,} images, {len(ground_truth):,} objects, digest {ground_truth.digest[:12]}",
        ),
        *resampling_facts(comparison),
    ]
    return [fact_list(facts), Text(""), *differences_screen(comparison)]
