"""What is legal in ground truth and predictions but looks wrong, one sentence each."""

from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.arrays import Bools, Floats, Ints, best_in_group, blocks, distinct, is_among, order_by_index
from analysis.coco.masks import Masks

if TYPE_CHECKING:
    from analysis.coco.ground_truth import GroundTruth

# Rates above which a warning is given. COCO has 1 % crowds, Open Images about 5 % groups, VOC 20 % difficult objects.
MOST_CROWDS = 0.2
MOST_IGNORED = 0.4
MOST_UNSEEN = 0.5  # of images without detections, of detections that can match nothing, of categories never predicted
FEW = 3  # crowds or ignored objects that are no matter, unless they are all there is
FEW_CATEGORIES = 5  # of which some may well have no detection
ANNOTATION_ID_0 = (
    "annotation id 0 is used: pycocotools counts the detection that matches it as wrong, but here it is correct"
)


def of_ground_truth(
    columns: dict[str, Any], box: Floats, masks: Masks, from_masks: int, respect_ignore: bool
) -> list[str]:
    """What is legal but looks wrong in ground truth.

    Args:
        columns: of the objects: ``crowd`` and ``marked`` bool[M], ``annotation_id`` i64[M].
        box: f64[M, 4] xywh.
        masks: of the objects.
        from_masks: boxes that were taken from masks.
        respect_ignore: objects marked ``ignore`` are left out of the evaluation.
    """
    flat = int((box[:, 2:] == 0).any(axis=1).sum())
    marked = int((columns["marked"] & ~columns["crowd"]).sum())
    cases = (
        (bool((columns["annotation_id"] == 0).any()), ANNOTATION_ID_0),
        (flat, f"{flat:,} annotations have a zero-size box: no detection can match them, so each is missed"),
        (
            marked and not respect_ignore,
            f"{marked:,} annotations have ignore=1 (difficult in VOC?) and are counted as normal objects, "
            "as in pycocotools; use --respect-ignore to leave them out",
        ),
        (from_masks, f"{from_masks:,} annotations have no bbox: it was computed from their masks"),
    )
    found = [sentence for holds, sentence in cases if holds]
    return found + implausible(box, columns["crowd"], columns["marked"] & respect_ignore, masks)


def implausible(box: Floats, crowd: Bools, ignored: Bools, masks: Masks) -> list[str]:
    """Warnings about properties of so many objects that they are probably unintended.

    Args:
        box: f64[M, 4] xywh.
        crowd: bool[M].
        ignored: bool[M] marked ``ignore``, where that is respected.
        masks: of the objects.
    """
    objects, crowds, left_out = len(box), int(crowd.sum()), int((ignored & ~crowd).sum())
    too_many = _is_implausible(crowds, objects, MOST_CROWDS)
    painted = too_many and bool(masks.in_run_lengths[crowd].all())
    cause = "CVAT and Datumaro write every painted mask as RLE with iscrowd 1; " if painted else ""
    cases = (
        (
            too_many,
            f"{crowds:,} of {objects:,} objects are crowds (iscrowd 1) and left out of the evaluation: {cause}if each "
            "is a single object, set iscrowd to 0",
        ),
        (
            _is_implausible(left_out, objects, MOST_IGNORED),
            f"{left_out:,} of {objects:,} objects are marked ignore=1 and left out of the evaluation: check that the "
            "mark means that an object does not count",
        ),
        (
            objects > 0 and box.max() <= 1,
            "all coordinates of the ground truth are at most 1: are its boxes normalised instead of in pixels?",
        ),
    )
    return [sentence for holds, sentence in cases if holds]


def _is_implausible(count: int, of: int, most: float) -> bool:
    return count > 0 and (count == of or (count >= FEW and count > most * of))


def of_detections(box: Floats, score: Floats, image: Ints, category: Ints, ground_truth: "GroundTruth") -> list[str]:
    """What is legal but looks wrong in detections.

    Args:
        box: f64[N, 4] xywh.
        score: f64[N].
        image: i64[N] index into the ground truth's.
        category: i64[N] index into the ground truth's.
        ground_truth: that they are detections on.
    """
    if not len(box):
        return ["there are no detections: every object is missed"]
    images = len(ground_truth.image_id)
    outside = 0 if score.min() >= 0 and score.max() <= 1 else int(((score < 0) | (score > 1)).sum())
    normalised = bool(box.max() <= 1)
    sized: Bools = np.asarray((ground_truth.image_size > 0).all(axis=1))
    height, width = np.where(sized, ground_truth.image_size.T * 1.05, np.inf)
    flat = beyond = 0
    for block in blocks(len(box)):
        x, y, w, h = np.ascontiguousarray(box[block].T)
        flat += int(((w == 0) | (h == 0)).sum())
        beyond += int(((x + w > width[image[block]]) | (y + h > height[image[block]])).sum())
    on_sized = len(image) if sized.all() else int(sized[image].sum())
    past = beyond / max(1, on_sized)  # the share of the boxes on images of known size
    unseen = int((np.bincount(image, minlength=images) == 0).sum())
    cases = (
        (outside, f"{outside:,} scores are outside 0..1 (logits?): only their order is used"),
        (flat, f"{flat:,} boxes have zero width or height: they cannot match any object"),
        (normalised, "all box coordinates are at most 1: are they normalised instead of in pixels?"),
        (
            past > 0.5 and not normalised,
            f"{100 * past:.0f} % of the boxes extend beyond their image: is bbox written as x1, y1, x2, y2 "
            "instead of x, y, width, height?",
        ),
        (
            unseen > images * MOST_UNSEEN,
            f"{unseen:,} of {images:,} images have no detection at all: was the detector run on a subset? Their "
            "objects all count as missed",
        ),
    )
    found = [sentence for holds, sentence in cases if holds]
    shifted = _shifted_categories(score, category, image, ground_truth)
    return found + ([shifted] if shifted else _lonely(image, category, ground_truth))


def _lonely(image: Ints, category: Ints, ground_truth: "GroundTruth") -> list[str]:
    """Warnings about detections on images or of categories without objects, and about categories never predicted."""
    count = len(ground_truth.category_id)
    objects = np.bincount(ground_truth.category, minlength=count)
    detections = np.bincount(category, minlength=count)
    populated = np.bincount(ground_truth.image, minlength=len(ground_truth.image_id)) > 0
    missing = np.flatnonzero((objects > 0) & (detections == 0))
    needed = int((objects > 0).sum())
    stray = int(detections[objects == 0].sum())
    empty = int((~populated[image]).sum())
    cases = (
        (
            stray > MOST_UNSEEN * len(category) and needed and not ground_truth.federated,  # few are in a part of LVIS
            f"{stray:,} of {len(category):,} detections are of categories without an object in the ground truth: "
            "check that both files use the same category ids",
        ),
        (
            empty > MOST_UNSEEN * len(image) and populated.any(),
            f"{empty:,} of {len(image):,} detections are on images without an object in the ground truth: check that "
            "both files use the same image ids",
        ),
        (
            needed >= FEW_CATEGORIES and len(missing) > MOST_UNSEEN * needed,
            f"{len(missing):,} of {needed:,} categories with objects have no detection (first: "
            f"{', '.join(ground_truth.category_name[one] for one in missing[:3])}): their AP is 0",
        ),
    )
    return [sentence for holds, sentence in cases if holds]


def _shifted_categories(box_score: Floats, category: Ints, image: Ints, ground_truth: "GroundTruth") -> str:
    """Class indices written as category ids: legal numbers, wrong meaning.

    The best detection of an image is mostly of a category that the image contains; if another reading of the ids
    makes that true far more often, the ids are probably shifted.
    """
    ids = np.array(ground_truth.category_id)
    classes = len(ids)
    present = distinct(ground_truth.image * classes + ground_truth.category)
    if (image[1:] >= image[:-1]).all():  # as most files are
        best = best_in_group(image, box_score)[1]
    else:
        order = order_by_index(image, len(ground_truth.image_id))
        best = order[best_in_group(image[order], box_score[order])[1]]
    if not len(present) or len(best) < 20:
        return ""

    def agreement(index: Ints) -> float:
        there = is_among(image[best] * classes + index, present)
        return float((there & (index >= 0) & (index < classes)).mean())

    as_read = agreement(category[best])
    for first in (0, 1):
        as_index = agreement(ids[category[best]] - first)
        if as_index > max(0.3, 2 * as_read):
            return (
                f"category ids look shifted: the best detection of an image is of a category it contains in "
                f"{100 * as_read:.0f} % of the images, but in {100 * as_index:.0f} % if the ids are class indices "
                f"counted from {first}; the ground truth's ids run from {ids[0]} to {ids[-1]}"
            )
    return ""
