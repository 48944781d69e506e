"""A comparison read aloud: what differs beyond noise, in sentences with their numbers, and of what they speak."""

from analysis.comparison.compare import Against, Comparison, Moves
from analysis.comparison.intervals import Difference
from analysis.comparison.resample import MEAN_AP
from analysis.error_types import ERRORS, SPECIAL, ap_name
from analysis.ground_truth import GroundTruth

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
    return [_finding(comparison, one) for one in comparison.against]


def _finding(comparison: Comparison, one: Against) -> str:
    name = ap_name(comparison.settings.iou)
    scope = of_whom(one)
    differences = one.differences
    if all(difference.p != difference.p for difference in differences.values()):
        return f"{one.name} and {comparison.baseline}: no interval can be given, so nothing is said about noise."
    scores = [key for key in (MEAN_AP, name) if key in differences and differences[key].stands]
    causes = [key for key in ERRORS if differences[key].stands]
    whole = [key for key in SPECIAL if differences[key].stands]
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
    if not all(difference.stands for difference in differences.values()):
        rest += "; nothing else differs beyond noise"
    return f"{one.name} {' and '.join(clauses)} than {comparison.baseline}, {scope}{rest}."


def _more(difference: Difference) -> str:
    return "more" if difference.value > 0 else "less"


def of_whom(one: Against) -> str:
    """What a difference speaks of: two models, or designs over n seeds.

    >>> of_whom(Against("b", (0,), {}, {}, None)), of_whom(Against("b", (0, 1), {}, {}, None))
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
    single = [one.name for one in comparison.against if len(one.seeds) == 1]
    return models if len(single) == len(comparison.against) else f"{designs} But {_listed(single)}: one model, n = 1."


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


def moved(ground_truth: GroundTruth, moves: Moves, name: str, baseline: str, most: int = 3) -> list[str]:
    """The most frequent moves between fates from the baseline to the other, with the images where they happen most."""
    pairs = [
        (int(moves.count[before, after]), before, after)
        for before in range(len(moves.fates))
        for after in range(len(moves.fates))
        if before != after and moves.count[before, after]
    ]
    sentences = []
    for count, before, after in sorted(pairs, key=lambda pair: -pair[0])[:most]:
        where = [
            f"{image_name(ground_truth, image)} ({times})"
            for image, times in moves.images(ground_truth.image, before, after)
        ]
        objects = "1 object" if count == 1 else f"{count:,} objects"
        sentences.append(
            f"{objects} {moves.fates[before]} by {baseline} {'is' if count == 1 else 'are'} {moves.fates[after]} by "
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
