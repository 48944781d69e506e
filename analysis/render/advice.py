"""What to look at next: where the AP of a run is at stake, and what lies outside the measure, as sentences.

Everything is ranked by the AP to gain, never by how often it occurs: many low-scored errors cost next to nothing.
"""

from statistics import median  # np.median imports numpy.ma, a 50th of the time of a small command

import numpy as np

from analysis.arrays import Ints
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.cap import OverCap
from analysis.evaluation.confusion import Confusion
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS, SHAPES_MANY
from analysis.evaluation.matched_run import IGNORED, LOW_SCORE, OVER_CAP
from analysis.evaluation.selection import LowScores
from analysis.evaluation.settings import Settings, ap_name, iou_name

NOTABLE = 0.05  # points of AP: what is less is printed as 0.0
MOST_LISTED = 4  # classes that are never detected
ENOUGH_OBJECTS = 20  # of a class: with fewer, chance decides its AP
FEWEST_OF_A_LIMIT = 10  # detections of an image: detectors that keep at most so few are rare
SHARE_AT_A_LIMIT = 0.9  # of the images
LOW_ENOUGH = 0.01  # a file with scores below it was hardly cut at a threshold that matters
COSTLY_MEANS = (
    "costly: the smallest set of errors of a type that has 90 % of the cost of all its errors, each fixed alone (for a "
    "missed object: the mean cost in its class)"
)


def error_takeaways(ground_truth: GroundTruth, one: RunAnalysis, most: int = 2) -> list[str]:
    """Sentences on the costliest types of error of a run, the costliest first, each with where to look."""
    delta, name = one.breakdown.delta_ap, ap_name(one.breakdown.settings.iou)
    if not one.breakdown.positives:
        return ["no annotated object counts, so there is no AP and nothing to gain"]
    costliest = [e for e in sorted(ERRORS, key=lambda e: -delta[e]) if delta[e] > NOTABLE][:most]
    sentences = [f"{e} costs {delta[e]:.1f} {name}: {_where_to_look(ground_truth, one, e)}" for e in costliest]
    if not costliest:
        sentences.append(nothing_costs(one))
    silent = [ground_truth.category_name[c] for c in one.breakdown.never_detected]
    if silent:
        more = f" and {len(silent) - MOST_LISTED} more" if len(silent) > MOST_LISTED else ""
        least, its = one.breakdown.settings.min_score, "Its" if len(silent) == 1 else "Their"
        share = 100 * len(silent) / int((~np.isnan(one.breakdown.category_ap)).sum())
        above = "" if least is None else f" with a score of {least:g} or more"
        sentences.append(
            f"never detected{above}: {', '.join(silent[:MOST_LISTED])}{more}. {its} AP is 0, which lowers the mean by "
            f"up to {share:.2f} points; of the errors above, only cls can include part of this"
        )
    return sentences


def nothing_costs(one: RunAnalysis) -> str:
    """The sentence for a run in which no type of error costs a notable amount of AP."""
    labels = one.breakdown.labels
    ignored = int(((labels.error == IGNORED) | labels.ignored).sum())
    over, low = (int((labels.error == label).sum()) for label in (OVER_CAP, LOW_SCORE))
    said = "no type of error costs 0.1 points or more"
    counted = (
        (ignored, "in crowds or on ignored objects"),
        (over, "over the cap"),
        (low, "with a score that is too low"),
    )
    parts = [f"{count:,} {where}" for count, where in counted if count]
    if not parts:
        return said
    return (
        f"{said} among the detections that count; {ignored + over + low:,} of {len(labels.error):,} do not: "
        f"{', '.join(parts)}"
    )


def _where_to_look(ground_truth: GroundTruth, one: RunAnalysis, error: str) -> str:
    """How many errors of a type there are, how many of them are costly, where most is at stake, and what follows."""
    assert one.at_stake is not None
    kind = ERROR_TYPES[error]
    many = {"loc": SHAPES_MANY[one.breakdown.settings.iou_type], "miss": "objects"}.get(error, "detections")
    costly = np.flatnonzero(one.at_stake.costly[error])
    told = f"{int(kind.occurs(one.breakdown.labels).sum()):,} {many}, {len(costly):,} of them costly"
    if not len(costly):
        told = f"{int(kind.occurs(one.breakdown.labels).sum()):,} {many}, none of which costs AP on its own"
    what = _of_costly(ground_truth, one, error, costly) if len(costly) else ""
    where = worst_pair_sentence(ground_truth, one) if error == "cls" else _worst_class(ground_truth, one, error, many)
    return "; ".join(part for part in (told + what, where, _hint(one, error)) if part)


def _of_costly(ground_truth: GroundTruth, one: RunAnalysis, error: str, costly: Ints) -> str:
    """What the costly errors of a type, by their rows, have in common."""
    labels, dt = one.breakdown.labels, one.detections
    if error == "miss":
        small = 100 * float((ground_truth.area_of(one.breakdown.settings.iou_type)[costly] <= 32**2).mean())
        return f" ({small:.0f} % of them at most 32 x 32 pixels)"
    if error == "loc":
        return (
            f" (median {iou_name(one.breakdown.settings.iou_type)} of these: {median(labels.iou[costly].tolist()):.2f})"
        )
    sure = int((dt.score[costly] >= 0.5).sum())
    return f" ({sure:,} of them with a score of 0.5 or more)"


def _worst_class(ground_truth: GroundTruth, one: RunAnalysis, error: str, many: str) -> str:
    """The class whose errors of this type cost most, in points of the mean AP."""
    assert one.at_stake is not None
    labels, kind = one.breakdown.labels, ERROR_TYPES[error]
    classes = max(int((~np.isnan(one.breakdown.category_ap)).sum()), 1)
    if classes == 1:
        return ""
    gain = np.nan_to_num(one.breakdown.category_raw[error]) / classes
    top = int(np.argmax(gain))
    if gain[top] < 0.005:
        return ""
    own = (ground_truth if kind.of_object else one.detections).category == top
    count, costly = (int((which & own).sum()) for which in (kind.occurs(labels), one.at_stake.costly[error]))
    objects = objects_of(ground_truth, top)
    found = f"{count:,} of {objects} missed" if kind.of_object else f"{objects}; {count:,} {many}"
    return (
        f"class with the highest cost: {ground_truth.category_name[top]}, {gain[top]:.2f} "
        f"{ap_name(one.breakdown.settings.iou)} ({found}, {costly:,} costly)"
    )


def objects_of(ground_truth: GroundTruth, category: int) -> str:
    """How many objects of a class count: few of them make its AP a matter of chance."""
    count = int(((ground_truth.category == category) & ~ground_truth.ignore).sum())
    return f"{'only ' * (count < ENOUGH_OBJECTS)}{count:,} object{'s' * (count != 1)}"


def worst_pair(confusion: Confusion) -> int | None:
    """The pair that costs most, by its place among the pairs; none where no pair costs AP."""
    wrong = confusion.wrong(1)
    if not len(wrong) or confusion.cost is None or confusion.cost[wrong[0]] <= 0:
        return None
    return int(wrong[0])


def worst_pair_sentence(ground_truth: GroundTruth, one: RunAnalysis) -> str:
    """Which class is taken for which at the highest cost."""
    confusion = one.confusion or (one.at_stake.confusion if one.at_stake else None)
    i = None if confusion is None else worst_pair(confusion)
    if confusion is None or confusion.cost is None or confusion.costly is None or i is None:
        return ""
    names, count, costly = ground_truth.category_name, int(confusion.count[i]), int(confusion.costly[i])
    true, lost = int(confusion.true[i]), int(confusion.objects[i])
    return (
        f"the costliest pair is {names[true]} predicted as {names[confusion.predicted[i]]}: {confusion.cost[i]:.2f} "
        f"{ap_name(one.breakdown.settings.iou)} ({objects_of(ground_truth, true)}, {lost:,} not found because of it; "
        f"{count:,} detection{'s' * (count != 1)}, {costly:,} costly)"
    )


def _hint(one: RunAnalysis, error: str) -> str:
    if error == "bg":
        return "check for objects without an annotation, and for similar-looking things"
    if error == "dup":
        return _of_duplicates(one)
    return _of_misses(one) if error == "miss" else ""


def _of_duplicates(one: RunAnalysis) -> str:
    """What a stricter suppression could do: the box IoU of the costly duplicates with the detection that was first."""
    assert one.at_stake is not None
    costly = np.flatnonzero(one.at_stake.costly["dup"])
    first = one.outcomes.by[one.breakdown.labels.target[costly]]
    if not len(costly):
        return ""
    a, b = one.detections.box[costly], one.detections.box[first]
    low, high = np.maximum(a[:, :2], b[:, :2]), np.minimum(a[:, :2] + a[:, 2:], b[:, :2] + b[:, 2:])
    shared = np.prod(np.maximum(high - low, 0), axis=1)
    union = np.prod(a[:, 2:], axis=1) + np.prod(b[:, 2:], axis=1) - shared
    iou = median(np.divide(shared, union, out=np.zeros(len(shared)), where=union > 0).tolist())
    return (
        f"half of the costly ones have a box IoU of {iou:.2f} or more with the correct detection: a lower NMS "
        "threshold would remove them, and also detections of objects that overlap as much"
    )


def _of_misses(one: RunAnalysis) -> str:
    """Why no detection matches the missed objects, as far as the file shows."""
    assert one.at_stake is not None
    settings, over, dt = one.breakdown.settings, one.at_stake.over_cap, one.detections
    low, causes = one.at_stake.low_scores, []
    if over and over.effect and over.effect.missed_for_the_cap:
        causes.append(
            f"{over.effect.missed_for_the_cap:,} of them are missed only because of the cap of {settings.max_dets:,} "
            f"detections: --max-dets {over.most}"
        )
    if low and low.missed_for_the_score:
        causes.append(
            f"{low.missed_for_the_score:,} of them are missed only because of --min-score {settings.min_score:g}"
        )
    if causes:
        return "; ".join(causes)
    if not len(dt):
        return "the file contains no detection"
    images = np.bincount(dt.image)
    full, limit = int((images == images.max()).sum()), int(images.max())
    if limit >= FEWEST_OF_A_LIMIT and full >= SHARE_AT_A_LIMIT * int((images > 0).sum()):
        return (
            f"{full:,} images have exactly {limit:,} detections and none has more: a limit in the detector may have "
            "removed their detections"
        )
    lowest = float(dt.score.min())
    if lowest < LOW_ENOUGH:
        return f"the file contains scores down to {lowest:.2g}, so a lower score threshold can add little"
    return f"the file contains no score below {lowest:.2g}: detections with lower scores may match them"


def over_cap_sentence(settings: Settings, over: OverCap, score: str) -> str:
    """The number of detections beyond the cap, and their effect on ``score``."""
    by_category = settings.cap_per_category and not settings.class_agnostic
    of = "image and category" if by_category else "image"
    images = f"{over.images:,} image{'s' * (over.images > 1)}"
    detections = f"{over.detections:,} detection{'s' * (over.detections > 1)}"
    said = (
        f"{detections} in {images} exceed the cap of {settings.max_dets:,} per {of} (at most {over.most_objects:,} "
        f"objects are annotated per {of})"
    )
    effect = over.effect
    if effect is None:
        return said
    if cap_matters(over):
        return (
            f"{said}: {score} is {effect.ap:.1f} with the cap and {effect.ap_without:.1f} with --max-dets {over.most}"
        )
    return f"{said}; without the cap {score} changes by less than {NOTABLE:g} points"


def cap_matters(over: OverCap) -> bool:
    """Whether the cap changes the AP by as much as 0.05 points."""
    effect = over.effect
    return effect is not None and abs(effect.ap_without - effect.ap) >= NOTABLE


def low_scores_sentence(settings: Settings, low: LowScores, score: str) -> str:
    """How much was left out for its score, and the AP with and without it."""
    change = "changes nothing" if low.ap == low.ap_with else f"changes {score} from {low.ap_with:.2f} to {low.ap:.2f}"
    return f"{low.detections:,} detections with a score below {settings.min_score:g} are left out, which {change}"
