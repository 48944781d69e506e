"""Which anchors and RoIs train a head: IoU matching and a balanced random sample, drawn from a generator per image."""

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

IGNORED = -1
NEGATIVE = 0
POSITIVE = 1


def match(truths: Tensor, candidates: Tensor, matcher: Matcher) -> tuple[Tensor, Tensor]:
    """The truth that each candidate box should predict.

    Args:
        truths: f32[n, 4] (xyxy, pixels); n may be 0.
        candidates: f32[m, 4] (xyxy, pixels).
        matcher: torchvision's IoU thresholds, and whether every truth gets its best candidate whatever their IoU.

    Returns:
        i64[m]: the best truth of each candidate (0 where it has none), and i64[m]: POSITIVE, NEGATIVE or IGNORED.
    """
    if len(truths) == 0 or len(candidates) == 0:
        nothing = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
        return nothing, nothing.clone()
    matched = matcher(box_iou(truths, candidates))
    label = torch.full_like(matched, POSITIVE)
    label[matched == Matcher.BELOW_LOW_THRESHOLD] = NEGATIVE
    label[matched == Matcher.BETWEEN_THRESHOLDS] = IGNORED
    return matched.clamp(min=0), label


def sample(label: Tensor, count: int, positive_fraction: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A random subset with at most a given fraction of positives, filled up with negatives.

    Args:
        label: i64[m] from `match`.
        count: size of the sample; it is smaller only where there are too few candidates.
        positive_fraction: at most this share of count is positive.
        generator: source of the randomness, on the device of label.

    Returns:
        i64 indices of the positives and of the negatives.
    """
    positive = torch.where(label == POSITIVE)[0]
    negative = torch.where(label == NEGATIVE)[0]
    positives = min(len(positive), int(count * positive_fraction))
    negatives = min(len(negative), count - positives)
    device = label.device
    first = torch.randperm(len(positive), generator=generator, device=device)[:positives]
    second = torch.randperm(len(negative), generator=generator, device=device)[:negatives]
    return positive[first], negative[second]
