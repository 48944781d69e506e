"""A comparison as documents for programs and papers: JSON, CSV, Markdown, LaTeX.

A comparison read aloud: what differs beyond noise, in sentences with their numbers, and of what they speak.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERRORS, SPECIAL
from analysis.evaluation.settings import ap_name
from analysis.render.errors import SCHEMA, ground_truth_summary, settings_sentence
from analysis.render.printed_tables import escape, markdown, one_line
from analysis.stats.bootstrap import MEAN_AP
from analysis.stats.compare import CategoryIntervals, Comparison, OutcomeTransitions, VsBaseline
from analysis.stats.intervals import Difference, Interval

CAUSES = {
    "cls": "classification",
    "loc": "localisation",
    "both": "errors of category and place at once",
    "dup": "duplicates",
    "bg": "background",
    "miss": "missed objects",
    "fp": "all wrong detections together (FP)",
    "fn": "all objects not found together (FN)",
}


def findings(comparison: Comparison) -> list[str]:
    """One sentence or two on each entrant against the baseline."""
    return [_finding(comparison, one) for one in comparison.vs_baseline]


def _finding(comparison: Comparison, one: VsBaseline) -> str:
    name = ap_name(comparison.settings.iou)
    scope = of_whom(one)
    differences = one.differences
    if all(difference.p != difference.p for difference in differences.values()):
        return f"{one.name} and {comparison.baseline}: no interval can be given, so nothing is said about noise."
    scores = [key for key in (MEAN_AP, name) if key in differences and differences[key].significant]
    causes = [key for key in ERRORS if differences[key].significant]
    whole = [key for key in SPECIAL if differences[key].significant]
    clauses = []
    if scores:
        gains = [f"{amount(differences[key])} {_more(differences[key])} {key}" for key in scores]
        clauses.append(f"has {_listed(gains)}")
    if causes or (whole and not scores):
        keys = sorted(causes or whole, key=lambda key: -abs(differences[key].value))
        parts = [f"{amount(differences[key])} {_more(differences[key])} to {CAUSES[key]}" for key in keys]
        parts[0] = parts[0].replace("] ", f"] {name} ", 1)
        clauses.append(f"loses {_listed(parts)}")
    if not clauses:
        shown = MEAN_AP if MEAN_AP in differences else name
        return (
            f"{one.name} and {comparison.baseline} do not differ beyond noise, {scope}: {shown} by "
            f"{signed(differences[shown])}."
        )
    also = [f"{key.upper()} {signed(differences[key])}" for key in whole if causes or scores]
    rest = f" ({', '.join(also)})" if also else ""
    if not all(difference.significant for difference in differences.values()):
        rest += "; nothing else differs beyond noise"
    return f"{one.name} {' and '.join(clauses)} than {comparison.baseline}, {scope}{rest}."


def _more(difference: Difference) -> str:
    return "more" if difference.value > 0 else "less"


def of_whom(one: VsBaseline) -> str:
    """What a difference speaks of: two models, or designs over n seeds.

    >>> of_whom(VsBaseline("b", (0,), {}, {}, None)), of_whom(VsBaseline("b", (0, 1), {}, {}, None))
    ('on these two models', 'over n = 2 seeds')
    """
    return "on these two models" if len(one.seeds) == 1 else f"over n = {len(one.seeds)} seeds"


def what_of(comparison: Comparison) -> str:
    """What all the differences speak of, for a legend."""
    models = (
        "Of one model each: the intervals tell how the choice of images moves the numbers, not what other seeds do."
    )
    designs = "Of designs: means over seeds; the intervals hold the noise of seeds and that of images."
    if comparison.of_designs:
        return designs
    single = [one.name for one in comparison.vs_baseline if len(one.seeds) == 1]
    return (
        models if len(single) == len(comparison.vs_baseline) else f"{designs} But {_listed(single)}: one model, n = 1."
    )


def amount(difference: Difference) -> str:
    """How much, and its interval, without a sign: the words around it say more or less.

    >>> amount(Difference(-1.8, -2.4, -1.1, 0.3))
    '1.8 [1.1, 2.4]'
    """
    turned = difference.value < 0
    low, high = (-difference.high, -difference.low) if turned else (difference.low, difference.high)
    return f"{_rounded(abs(difference.value))} [{_rounded(low)}, {_rounded(high)}]"


def signed(difference: Difference) -> str:
    """How much, with its sign, and its interval.

    >>> signed(Difference(-1.8, -2.4, 0.04, 0.3))
    '-1.8 [-2.4, +0.0]'
    """
    return f"{difference.value:+z.1f} [{difference.low:+z.1f}, {difference.high:+z.1f}]"


def moved(
    ground_truth: GroundTruth, transitions: OutcomeTransitions, name: str, baseline: str, most: int = 3
) -> list[str]:
    """The most frequent moves between fates from the baseline to the other, with the images where they happen most."""
    pairs = [
        (int(transitions.count[before, after]), before, after)
        for before in range(len(transitions.outcomes))
        for after in range(len(transitions.outcomes))
        if before != after and transitions.count[before, after]
    ]
    sentences = []
    for count, before, after in sorted(pairs, key=lambda pair: -pair[0])[:most]:
        where = [
            f"{image_name(ground_truth, image)} ({times})"
            for image, times in transitions.images(ground_truth.image, before, after)
        ]
        objects = "1 object" if count == 1 else f"{count:,} objects"
        are = "is" if count == 1 else "are"
        sentences.append(
            f"{objects} {transitions.outcomes[before]} by {baseline} {are} {transitions.outcomes[after]} by "
            f"{name}; most in {', '.join(where)}"
        )
    return sentences or [f"every object meets the same fate with {name} as with {baseline}"]


def image_name(ground_truth: GroundTruth, image: int) -> str:
    """The file of an image, or its id where the ground truth names none."""
    return ground_truth.file_name[image] or f"image {ground_truth.image_id[image]}"


def _rounded(value: float) -> str:
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def comparison_document(ground_truth: GroundTruth, comparison: Comparison) -> dict[str, Any]:
    """The document of ``analyze compare --json``: points, unrounded; null where nothing can be told."""
    return {
        "schema": SCHEMA,
        "ground_truth": ground_truth_summary(ground_truth),
        "settings": asdict(comparison.settings),
        "resampling": {**_resampling(comparison), "family": comparison.family},
        "baseline": comparison.baseline,
        "cautions": list(comparison.cautions),
        "runs": [
            {
                "name": one.name,
                "seeds": list(one.seeds),
                "numbers": {name: _interval(found) for name, found in one.numbers.items()},
                "categories": _categories(ground_truth, one.categories),
            }
            for one in comparison.candidates
        ],
        "against_baseline": [
            {
                "name": one.name,
                "seeds": list(one.seeds),
                "differences": {name: _difference(found) for name, found in one.differences.items()},
                "categories": _categories(ground_truth, one.categories),
                "fates": _moves(ground_truth, one.transitions) if one.transitions else None,
                "finding": sentence,
            }
            for one, sentence in zip(comparison.vs_baseline, findings(comparison), strict=True)
        ],
    }


def intervals_entries(comparison: Comparison, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Add ``intervals`` to the entries of runs in a document; returns what the document says of the resampling."""
    for entry, one in zip(runs, comparison.candidates, strict=True):
        entry["intervals"] = {name: _interval(found) for name, found in one.numbers.items()}
    return {"resampling": _resampling(comparison), "cautions": list(comparison.cautions)}


def _resampling(comparison: Comparison) -> dict[str, Any]:
    return {"unit": "images", "resamples": comparison.resamples, "seed": comparison.seed, "confidence": 0.95}


def _interval(found: Interval) -> dict[str, Any]:
    return {
        "value": _known(found.value),
        "low": _known(found.low),
        "high": _known(found.high),
        "error_images": _known(found.images),
        "error_seeds": None if found.seeds is None else _known(found.seeds),
        "n": found.n,
    }


def _difference(found: Difference) -> dict[str, Any]:
    more = {"p": _known(found.p), "p_family": _known(found.p_adjusted), "stands": found.significant}
    return {**_interval(found), **more}


def _known(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _categories(ground_truth: GroundTruth, categories: dict[str, CategoryIntervals]) -> list[dict[str, Any]]:
    return [
        {
            "id": ground_truth.category_id[at],
            "name": ground_truth.category_name[at],
            **{
                name: {"value": _known(of.value[at]), "low": _known(of.low[at]), "high": _known(of.high[at])}
                for name, of in categories.items()
            },
        }
        for at in range(len(ground_truth.category_id))
    ]


def _moves(ground_truth: GroundTruth, transitions: OutcomeTransitions) -> dict[str, Any]:
    outcomes = range(len(transitions.outcomes))
    return {
        "names": list(transitions.outcomes),
        "objects": transitions.count.tolist(),
        "images": [
            {
                "before": transitions.outcomes[before],
                "after": transitions.outcomes[after],
                "objects": int(transitions.count[before, after]),
                "most": [
                    {"id": ground_truth.image_id[image], "file_name": ground_truth.file_name[image], "objects": count}
                    for image, count in transitions.images(ground_truth.image, before, after)
                ],
            }
            for before in outcomes
            for after in outcomes
            if before != after and transitions.count[before, after]
        ],
    }


def comparison_csv(comparison: Comparison) -> str:
    """A row a run and number: its value and interval, and where it is not the baseline its difference."""
    vs_baseline = {one.name: one for one in comparison.vs_baseline}
    rows = []
    for candidate in comparison.candidates:
        for number, found in candidate.numbers.items():
            row: dict[str, Any] = {
                "run": candidate.name,
                "baseline": comparison.baseline,
                "number": number,
                "n": found.n,
                "value": found.value,
                "low": found.low,
                "high": found.high,
                "error_images": found.images,
                "error_seeds": found.seeds,
            }
            names = ("value", "low", "high", "images", "seeds", "p")
            difference = vs_baseline[candidate.name].differences[number] if candidate.name in vs_baseline else None
            row |= {f"difference_{name}": getattr(difference, name) if difference else None for name in names}
            row["difference_p_family"] = difference.p_adjusted if difference else None
            row["difference_stands"] = difference.significant if difference else None
            rows.append(row)
    return _csv(rows)


def categories_csv(ground_truth: GroundTruth, comparison: Comparison) -> str:
    """A row a run, category and number, likewise."""
    vs_baseline = {one.name: one for one in comparison.vs_baseline}
    rows = []
    for candidate in comparison.candidates:
        for number, of in candidate.categories.items():
            difference = vs_baseline[candidate.name].categories[number] if candidate.name in vs_baseline else None
            for at, category in enumerate(ground_truth.category_name):
                row: dict[str, Any] = {
                    "run": candidate.name,
                    "category_id": ground_truth.category_id[at],
                    "category": category,
                    "number": number,
                }
                for prefix, columns in (("", of), ("difference_", difference)):
                    for name in ("value", "low", "high"):
                        row[f"{prefix}{name}"] = float(getattr(columns, name)[at]) if columns else None
                rows.append(row)
    return _csv(rows)


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]) if rows else [], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    return stream.getvalue()


def comparison_markdown(ground_truth: GroundTruth, comparison: Comparison) -> str:
    """A row a run: the baseline's numbers, then differences; what stands is bold."""
    heads = ["run", *(number.upper() if number in SPECIAL else number for number in comparison.numbers)]
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * len(comparison.numbers)]
    base = next(one for one in comparison.candidates if one.name == comparison.baseline)
    cells = [f"{markdown(base.name)} (baseline)", *(_text(found) for found in base.numbers.values())]
    lines.append("| " + " | ".join(cells) + " |")
    for one in comparison.vs_baseline:
        cells = [_text(found, sign=True) for found in one.differences.values()]
        cells = [
            f"**{cell}**" if found.significant else cell
            for cell, found in zip(cells, one.differences.values(), strict=True)
        ]
        lines.append("| " + " | ".join([f"{markdown(one.name)}, difference", *cells]) + " |")
    said = [f"- {markdown(sentence)}" for sentence in findings(comparison)]
    facts = [markdown(fact) for fact in _facts(ground_truth, comparison)]
    return "\n".join([*lines, "", *said, "", *facts, ""])


def _text(found: Interval, *, sign: bool = False) -> str:
    if math.isnan(found.value):
        return "-"
    shape = "+z.1f" if sign else "z.1f"
    value = format(found.value, shape)
    return value if math.isnan(found.low) else f"{value} [{found.low:{shape}}, {found.high:{shape}}]"


def comparison_latex(ground_truth: GroundTruth, comparison: Comparison) -> str:
    r"""A ``table*`` for papers that use booktabs: a row a number, a column a run; what stands is bold."""
    base = next(one for one in comparison.candidates if one.name == comparison.baseline)
    others = comparison.vs_baseline
    lines = [
        *(f"% {one_line(fact)}" for fact in _facts(ground_truth, comparison)),
        r"% needs \usepackage{booktabs}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{Differences to {_tex_name(comparison.baseline)} in points, with 95\,\% intervals.}}",
        rf"\begin{{tabular}}{{l{'r' * (len(others) + 1)}}}",
        r"\toprule",
        " & ".join(["", _tex_name(base.name), *(_tex_name(one.name) for one in others)]) + r" \\",
        r"\midrule",
    ]
    name = ap_name(comparison.settings.iou)
    for number in comparison.numbers:
        label = number.upper() if number in SPECIAL else number
        label = label if number in (MEAN_AP, name) else f"{name} lost to {label}"
        cells = [_tex(base.numbers[number], sign=False, bold=False)]
        cells += [_tex(one.differences[number], sign=True, bold=one.differences[number].significant) for one in others]
        lines.append(" & ".join([escape(label), *cells]) + r" \\")
        if number == name:
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table*}", ""])


def _tex_name(name: str) -> str:
    return escape(one_line(name))


def _tex(found: Interval, *, sign: bool, bold: bool) -> str:
    text = _text(found, sign=sign)
    if text == "-":
        return "--"
    value, _, limits = text.partition(" ")
    value = rf"\mathbf{{{value}}}" if bold else value
    return f"${value}\\ {limits}$" if limits else f"${value}$"


def _facts(ground_truth: GroundTruth, comparison: Comparison) -> list[str]:
    return [
        f"Differences to {comparison.baseline} in points, [95 % interval], {comparison.resamples:,} resamples of "
        f"{comparison.images:,} images, seed {comparison.seed}. {what_of(comparison)}",
        f"In bold: stands at the 5 % level after Holm's correction over {comparison.family}.",
        f"{settings_sentence(comparison.settings)} Ground truth: {ground_truth.path.name}, "
        f"{len(ground_truth):,} objects, digest {ground_truth.digest[:12]}.",
        *(f"Careful: {caution}." for caution in comparison.cautions),
    ]
