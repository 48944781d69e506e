"""The comparison of a study's variants in a terminal."""

from typing import TYPE_CHECKING

from ablate.summary.summarise import Summary
from analysis.comparison.compare import Comparison
from analysis.ground_truth import GroundTruth

if TYPE_CHECKING:
    from rich.console import RenderableType


def study_comparison_screen(
    summary: Summary, ground_truth: GroundTruth, comparison: Comparison
) -> "list[RenderableType]":
    """Heading, the table of differences, where the noise comes from, the findings as sentences."""
    from rich.table import Table
    from rich.text import Text

    from analysis.comparison.screen import comparison_tables, findings_grid, resampled_sentence, sources_table

    grid = Table.grid(padding=(0, 2))
    grid.add_row(Text("study", style="bold"), Text(f"{summary.study}: {summary.title}"))
    seeds = ", ".join(map(str, summary.seeds))
    grid.add_row(
        Text("held", style="bold"), f"everything else of {summary.base}; seed{'s' * (len(summary.seeds) > 1)} {seeds}"
    )
    data = f"{comparison.images:,} images, {len(ground_truth):,} objects, digest {ground_truth.digest[:12]}"
    grid.add_row(Text("measured on", style="bold"), data)
    grid.add_row(Text("resampled", style="bold"), resampled_sentence(comparison))
    for caution in comparison.cautions:
        grid.add_row(Text("careful", style="bold yellow"), Text(caution, style="yellow"))
    tables = [*comparison_tables(comparison), *sources_table(comparison)]
    return [grid, Text(""), *tables, Text(""), findings_grid(comparison)]
