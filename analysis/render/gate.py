"""The result of a gate: Markdown for the comment of a pull request, a sentence, and a document."""

from dataclasses import replace

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.render.comparison import differences_table, p_sentence
from analysis.render.documents import comparison_document
from analysis.render.table import escape_markdown, markdown
from analysis.render.takeaways import comparison_takeaways, interval_text, resampled_sentence, source_sentence
from analysis.stats.gate import Gate

SCOPE = (
    "The result holds for these two models: the interval shows how the choice of images changes the difference. The "
    "variation between trainings is not covered: another training of either model may give another result."
)


def gate_sentence(gate: Gate) -> str:
    """Whether it passed, and why, in one line."""
    shown = f"{gate.metric} of {gate.new} minus {gate.base}: {interval_text(gate.difference, sign=True)} points"
    allowed = f"a drop of {gate.max_drop:g} points is allowed"
    if gate.passed:
        return f"{shown}; {allowed}, and the 95 % interval is not entirely below that"
    return f"{shown}; {allowed}, and the whole 95 % interval is below that"


def gate_markdown(ground_truth: GroundTruth, gate: Gate) -> str:
    """The comment: the verdict, the errors that changed, every difference, and what it all does not cover."""
    comparison = gate.comparison
    differences = comparison.vs_baseline[0].differences
    changed = [name for name in ERROR_TYPES if differences[name].low > 0 or differences[name].high < 0]
    listed = ", ".join(f"{name} {interval_text(differences[name], sign=True)}" for name in changed)
    errors = (
        f"Error types that changed (interval excludes 0), in points lost to each: {listed}."
        if changed
        else ("No type of error changed: every interval includes 0.")
    )
    if all(one.value == one.low == one.high == 0 for one in differences.values()):
        errors = "The two files have the same AP in every resample: check that they are from different models."
    table = replace(differences_table(comparison, paper=True), title="")
    notes = [
        SCOPE,
        f"In points, [95 % interval]; {resampled_sentence(comparison)}. {p_sentence(comparison)}",
        source_sentence(ground_truth, comparison.settings),
        *(f"Note: {caution}." for caution in comparison.cautions),
    ]
    lines = [
        f"### detablate gate {'passed' if gate.passed else 'FAILED'}",
        "",
        f"**{escape_markdown(gate_sentence(gate))}.**",
        "",
        escape_markdown(errors),
        "",
        markdown(table),
        *(f"{escape_markdown(sentence)}\n" for sentence in (*comparison_takeaways(comparison), *notes)),
    ]
    return "\n".join(lines).rstrip() + "\n"


def gate_document(ground_truth: GroundTruth, gate: Gate) -> dict[str, object]:
    """The document of ``analyze gate --json``."""
    difference = gate.difference
    return {
        "passed": gate.passed,
        "metric": gate.metric,
        "max_drop": gate.max_drop,
        "difference": {"value": difference.value, "low": difference.low, "high": difference.high},
        "new": gate.new,
        "base": gate.base,
        "scope": SCOPE,
        "comparison": comparison_document(ground_truth, gate.comparison),
    }
