"""What a person should take away from the numbers, as sentences: slices of a run, a comparison of runs, settings."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.confusion import Confusion
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SHAPES_MANY, SPECIAL
from analysis.evaluation.outcomes import FOUND
from analysis.evaluation.selection import is_class_agnostic
from analysis.evaluation.settings import MEAN_AP, Settings, ap_name, iou_name
from analysis.evaluation.slices import ClassErrors, CrowdingBins, IouErrors, SizeErrors
from analysis.render.advice import ENOUGH_OBJECTS, worst_pair, worst_pair_sentence
from analysis.stats.intervals import SIGNIFICANCE, Difference, Interval

if TYPE_CHECKING:  # only comparisons need what makes them
    from analysis.stats.compare import Comparison, OutcomeTransitions, VsBaseline

LVIS_RULES = "LVIS's rules: a category counts only in images where it was checked"
OUTCOMES = (
    "found: matched by a detection; mislocalised: nearly matched, with too little overlap; confused: covered by a "
    "detection of another category; missed: none of these"
)
CROWDED = 0.5  # IoU from which OCHuman calls an object heavily occluded


def settings_sentence(settings: Settings, *, thresholds: bool = True) -> str:
    """What was compared, from which IoU on (unless several are shown), under which cap and convention."""
    what = SHAPES_MANY[settings.iou_type].capitalize()
    cap = "per image and category" if settings.cap_per_category else "per image, over all categories"
    if settings.class_agnostic:
        what, cap = f"{what}, all categories treated as one", "per image"
    scores = "" if settings.min_score is None else f"scores >= {settings.min_score:g}; "
    iou = iou_name(settings.iou_type)
    limits = f"correct at {iou} >= {settings.iou:g}, background at {iou} <= {settings.background_iou:g}; " * thresholds
    return (
        f"{what}; {limits}{scores}at most {settings.max_dets} detections {cap} "
        f"({settings.convention} convention{', ' + LVIS_RULES if settings.federated else ''})."
    )


def counts_sentence(ground_truth: GroundTruth, kinds: str = "categories", singular: str = "category") -> str:
    """The file of the ground truth and how much is in it; ``kinds`` is what categories are called."""
    crowd = int(ground_truth.crowd.sum())
    crowds = f", {crowd:,} of them crowds" if crowd else ""
    count = len(ground_truth.category_id)
    categories = f"{count:,} {kinds if count != 1 else singular}"
    if is_class_agnostic(ground_truth):
        categories = f"all {kinds} treated as one"
    if ground_truth.federated:
        categories += " (LVIS)"
    return (
        f"{ground_truth.path.name}: {len(ground_truth.image_id):,} images, {len(ground_truth):,} objects{crowds}, "
        f"{categories}"
    )


def source_sentence(ground_truth: GroundTruth, settings: Settings, *, thresholds: bool = True) -> str:
    """The note below a table or figure that leaves the terminal: settings and ground truth."""
    return (
        f"{settings_sentence(settings, thresholds=thresholds)} Ground truth: {ground_truth.path.name}, "
        f"{len(ground_truth.image_id):,} images, {len(ground_truth):,} objects, digest {ground_truth.digest[:12]}."
    )


def slice_takeaways(ground_truth: GroundTruth, one: RunAnalysis) -> dict[str, str]:
    """A sentence for every slice that was computed and has something to say: class, size, iou, crowding, confusion."""
    sentences = {
        "class": _of_classes(one.classes) if one.classes else "",
        "size": _of_sizes(one.sizes) if one.sizes else "",
        "iou": _of_thresholds(one.ious) if one.ious and len(one.ious.ious) else "",
        "crowding": _of_crowding(one.crowding) if one.crowding else "",
        "confusion": _of_confusion(ground_truth, one, one.confusion) if one.confusion else "",
    }
    return {part: sentence for part, sentence in sentences.items() if sentence}


def _of_classes(classes: ClassErrors) -> str:
    c = next((c for c in classes.costliest().tolist() if classes.positives[c] >= ENOUGH_OBJECTS), None)
    if c is None:
        return ""
    error = max(ERRORS, key=lambda e: np.nan_to_num(classes.delta_ap[e][c]))
    return (
        f"of the classes with {ENOUGH_OBJECTS} objects or more, {classes.names[c]} has the most to gain: fixing "
        f"{error} would raise its {ap_name(classes.settings.iou)} from {classes.ap[c]:.1f} to "
        f"{classes.ap[c] + classes.delta_ap[error][c]:.1f}"
    )


def _of_sizes(sizes: SizeErrors) -> str:
    parts = []
    for place, size in enumerate(sizes.sizes):
        error = max(ERRORS, key=lambda e: sizes.delta_ap[e][place])
        if sizes.delta_ap[error][place] > 0.05:
            parts.append(f"{size.name} {error} ({sizes.delta_ap[error][place]:.1f})")
    costs = f"the costliest error of each size, in {ap_name(sizes.settings.iou)}: {', '.join(parts)}" if parts else ""
    counts = zip(sizes.sizes, sizes.objects.tolist(), sizes.found.tolist(), strict=True)
    shares = [f"{size.name} {100 * found / objects:.0f} %" for size, objects, found in counts if objects]
    return "; ".join(part for part in (costs, f"objects found: {', '.join(shares)}" if shares else "") if part)


def _of_thresholds(ious: IouErrors) -> str:
    error = max(ERRORS, key=lambda e: ious.mean_delta_ap[e])
    first, last = (f"{ious.ap[t]:.1f} at {iou_name(ious.settings.iou_type)} {ious.ious[t]:.2f}" for t in (0, -1))
    return (
        f"AP falls from {first} to {last}; over all thresholds {error} costs most: fixing it would raise the "
        f"mean from {ious.mean_ap:.1f} to {ious.mean_ap + ious.mean_delta_ap[error]:.1f}"
    )


def _of_crowding(bins: CrowdingBins) -> str:
    crowded = bins.low >= CROWDED
    objects, found = int(bins.objects[crowded].sum()), int(bins.outcome[crowded, FOUND].sum())
    if not objects or not bins.objects[0]:
        return ""
    return (
        f"{100 * bins.recall[0]:.0f} % of the objects that overlap no object of the same class are found, and "
        f"{100 * found / objects:.0f} % of those with a box IoU above {CROWDED:g} with such an object ({objects:,} "
        "objects)"
    )


def _of_confusion(ground_truth: GroundTruth, one: RunAnalysis, confusion: Confusion) -> str:
    if worst_pair(confusion) is None:
        return "no pair of classes costs AP on its own" if len(confusion.wrong(1)) else ""
    return worst_pair_sentence(ground_truth, one)


def comparison_takeaways(comparison: "Comparison") -> list[str]:
    """One sentence or two on each candidate against the baseline: what differs beyond noise."""
    return [_difference_takeaway(comparison, one) for one in comparison.vs_baseline]


def _difference_takeaway(comparison: "Comparison", one: "VsBaseline") -> str:
    name = ap_name(comparison.settings.iou)
    differences = one.differences
    label = MEAN_AP if MEAN_AP in differences else name
    shown = differences[label]
    if shown.low != shown.low:
        return (
            f"{one.name} and {comparison.baseline}: no interval can be computed, so it is not known whether the "
            "difference is significant."
        )
    if comparison.designs and len(one.seeds) == 1:
        return (
            f"{one.name} minus {comparison.baseline}, one training each: {label} {interval_text(shown, sign=True)} "
            "over the choice of images; the effect of another seed is not known."
        )
    significant = [key for key, difference in differences.items() if difference.significant]
    scores, causes, whole = ([key for key in keys if key in significant] for keys in ((MEAN_AP, name), ERRORS, SPECIAL))
    clauses = []
    if scores:
        clauses.append(f"has {_listed([f'{_more(differences[key])} {key}' for key in scores])}")
    if causes or (whole and not scores):
        keys = sorted(causes or whole, key=lambda key: -abs(differences[key].value))
        parts = [f"{_more(differences[key])} to {ERROR_TYPES[key].noun}" for key in keys]
        parts[0] = parts[0].replace("] ", f"] {name} ", 1)
        clauses.append(f"loses {_listed(parts)}")
    if not clauses:
        return (
            f"{one.name} and {comparison.baseline}: no difference is significant, {scope(one)}; {label} "
            f"{interval_text(shown, sign=True)}{_before_correction(one)}."
        )
    also = [f"{_label(key)} {interval_text(differences[key], sign=True)}" for key in whole if causes or scores]
    rest = f" ({', '.join(also)})" if also else ""
    if len(significant) < len(differences):
        rest += "; no other difference is significant"
    return f"{one.name} {' and '.join(clauses)} than {comparison.baseline}, {scope(one)}{rest}."


def _before_correction(one: "VsBaseline") -> str:
    """The numbers whose interval leaves out 0 although Holm's correction takes them for noise."""
    keys = [key for key, difference in one.differences.items() if difference.p <= SIGNIFICANCE]
    return (
        f"; before the correction for multiple tests, p <= 0.05 for {_listed(list(map(_label, keys)))}" if keys else ""
    )


def _label(key: str) -> str:
    """A number as it is printed: FN, AP50."""
    return ERROR_TYPES[key].label if key in ERROR_TYPES else key


def _more(difference: Difference) -> str:
    """How much, and its interval, without a sign, and whether it is more or less.

    >>> _more(Difference(-1.8, -2.4, -1.1, 0.3))
    '1.8 [1.1, 2.4] less'
    """
    if difference.value > 0:
        return f"{interval_text(difference)} more"
    amount = replace(difference, value=-difference.value, low=-difference.high, high=-difference.low)
    return f"{interval_text(amount)} less"


def interval_text(number: Interval, *, sign: bool = False) -> str:
    """A number and its interval in print; without one, the number alone.

    >>> interval_text(Interval(1.25, 0.5, 2.0, 0.4)), interval_text(Interval(-1.0, -2.0, 0.5, 0.6), sign=True)
    ('1.2 [0.5, 2.0]', '-1.0 [-2.0, +0.5]')
    >>> interval_text(Interval(-0.01, -0.02, 0.5, 0.6), sign=True)  # no negative zero
    '+0.0 [+0.0, +0.5]'
    >>> interval_text(Difference(-0.7, -1.5, -0.04, 0.4))  # leaves out 0, and says so
    '-0.7 [-1.5, -0.04]'
    """
    shape = "+z.1f" if sign else "z.1f"
    if number.value != number.value:
        return "-"
    value = format(number.value, shape)
    if number.low != number.low:
        return value
    leaves_out_zero = (sign or isinstance(number, Difference)) and (number.low > 0 or number.high < 0)
    shapes = [
        ("+.1g" if sign else ".1g") if leaves_out_zero and abs(end) < 0.05 else shape
        for end in (number.low, number.high)
    ]
    return f"{value} [{number.low:{shapes[0]}}, {number.high:{shapes[1]}}]"


def scope(one: "VsBaseline") -> str:
    """What a difference speaks of: two models, or designs over n seeds.

    >>> from analysis.stats.compare import VsBaseline
    >>> scope(VsBaseline("b", (0,), {}, {}, None)), scope(VsBaseline("b", (0, 1), {}, {}, None))
    ('for these two models', 'over n = 2 seeds')
    """
    return "for these two models" if len(one.seeds) == 1 else f"over n = {len(one.seeds)} seeds"


def scope_sentence(comparison: "Comparison") -> str:
    """What all the differences speak of, for a legend."""
    designs = "Designs are compared: means over seeds; intervals cover the variation between seeds and images."
    single = [one.name for one in comparison.vs_baseline if len(one.seeds) == 1]
    if not single:
        return designs
    if len(single) < len(comparison.vs_baseline):
        untested = ", so its interval is over images alone and it is not tested" * comparison.designs
        return f"{designs} Exception: {_listed(single)} with one training (n = 1){untested}."
    if comparison.designs:
        return (
            "Each design has one training: the intervals show how the choice of images changes the differences. "
            "Another seed may reverse any of them."
        )
    return (
        "The results hold for these trained models: intervals and p-values show how the choice of images changes the "
        "differences, not how other trainings of the same designs would differ."
    )


def resampled_sentence(comparison: "Comparison") -> str:
    """What was drawn, and how."""
    return (
        f"{comparison.images:,} images drawn {comparison.resamples:,} times with replacement, the same draws for all "
        f"runs (seed {comparison.seed})"
    )


def moves(transitions: "OutcomeTransitions") -> list[tuple[int, int]]:
    """The pairs of different outcomes, in the baseline and in the other run, that occur."""
    return [(b, a) for b, a in np.argwhere(transitions.count).tolist() if a != b]


def transition_takeaways(
    ground_truth: GroundTruth, transitions: "OutcomeTransitions", name: str, baseline: str, most: int = 3
) -> list[str]:
    """The most frequent moves between outcomes from the baseline to the other, and the images with most of them."""
    sentences = []
    for before, after in sorted(moves(transitions), key=lambda move: -transitions.count[move])[:most]:
        count = int(transitions.count[before, after])
        images = [
            f"{image_name(ground_truth, image)} ({times})"
            for image, times in transitions.images(ground_truth.image, before, after)
        ]
        objects, are = ("1 object", "is") if count == 1 else (f"{count:,} objects", "are")
        sentences.append(
            f"{objects} {transitions.outcomes[before]} by {baseline} {are} {transitions.outcomes[after]} by {name}; "
            f"most in {', '.join(images)}"
        )
    return sentences or [f"every object has the same outcome with {name} as with {baseline}"]


def image_name(ground_truth: GroundTruth, image: int) -> str:
    """The file of an image, or its id where the ground truth names none."""
    return ground_truth.file_name[image] or f"image {ground_truth.image_id[image]}"


def _listed(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def typeset(text: str) -> str:
    r"""Text of a terminal with the signs of a printed page; a number stays on the line of its unit.

    >>> typeset("correct at IoU >= 0.5; p <= 0.05; up to 32 x 32 pixels; 95 %")
    'correct at IoU ≥\xa00.5; p ≤\xa00.05; up to 32\xa0×\xa032 pixels; 95\xa0%'
    """
    text = re.sub(r"\b(IoU|p) ([<>])= (?=\d)", lambda found: f"{found[1]} {'≤≥'[found[2] == '>']}\xa0", text)
    text = re.sub(r"(\d) x (\d+)(?= pixels)", "\\1\xa0×\xa0\\2", text)
    return re.sub(r"(\d) %", "\\1\xa0%", text)
