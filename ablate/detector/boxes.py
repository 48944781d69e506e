"""Boxes against reference boxes, as Faster R-CNN needs them.

- `encode` and `decode`: the deltas that are regressed, and `cell_anchors` and `grid_anchors`, from which they are.
- `match` and `sample`: which anchors and RoIs train a head, by IoU and a balanced random sample, drawn from a generator
  per image.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import box_iou

# Size deltas are cut here, so that no proposal grows by more than 1000 / 16 (detectron2 does the same).
LARGEST_LOG_SCALE = math.log(1000.0 / 16)

Weights = tuple[float, float, float, float]


def encode(boxes: Tensor, references: Tensor, weights: Weights) -> Tensor:
    """Deltas that turn references into boxes (R-CNN, arXiv 1311.2524, appendix C).

    Args:
        boxes: f32[n, 4], xyxy in pixels.
        references: f32[n, 4], xyxy in pixels, of positive width and height.
        weights: factors of dx, dy, dw, dh; in detectron2 (1, 1, 1, 1) for the RPN, (10, 10, 5, 5) for the RoI head.

    Returns:
        f32[n, 4]: weighted dx, dy (in units of the reference's width and height), log dw, log dh.
    """
    reference_size = references[:, 2:] - references[:, :2]
    size = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + 0.5 * size - references[:, :2] - 0.5 * reference_size) / reference_size
    return torch.cat([shift, torch.log(size / reference_size)], dim=1) * shift.new_tensor(weights)


def decode(deltas: Tensor, references: Tensor, weights: Weights) -> Tensor:
    """The inverse of `encode`, for k boxes a reference.

    Args:
        deltas: f32[..., 4 or k * 4] as `encode` makes them.
        references: f32[..., 4], xyxy in pixels, of the same leading shape.
        weights: as in `encode`.

    Returns:
        f32[..., 4] or f32[..., k * 4], as deltas: xyxy in pixels.
    """
    references = references.float().unsqueeze(-2)
    deltas = deltas.float().reshape(*deltas.shape[:-1], deltas.shape[-1] // 4, 4) / references.new_tensor(weights)
    size = references[..., 2:] - references[..., :2]
    centre = references[..., :2] + 0.5 * size + deltas[..., :2] * size
    half = 0.5 * size * torch.exp(deltas[..., 2:].clamp(max=LARGEST_LOG_SCALE))
    return torch.cat([centre - half, centre + half], dim=-1).flatten(-2)


def clip(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes f32[..., 4] (xyxy, pixels) cut at the borders of an image of size (height, width)."""
    height, width = size
    return torch.minimum(boxes.clamp(min=0), boxes.new_tensor([width, height, width, height]))


def cell_anchors(sizes: Sequence[float], ratios: Sequence[float]) -> Tensor:
    """Anchors f32[sizes * ratios, 4] around the origin: area size^2 px^2, height / width = ratio, ratios fastest.

    The coordinates are not rounded, as in detectron2; torchvision rounds them.
    """
    size = torch.tensor(sizes, dtype=torch.float32).repeat_interleave(len(ratios))
    ratio = torch.tensor(ratios, dtype=torch.float32).repeat(len(sizes))
    width = size / ratio.sqrt()
    height = width * ratio
    return torch.stack([-width, -height, width, height], dim=1) / 2


def grid_anchors(cells: Tensor, grid: tuple[int, int], stride: int) -> Tensor:
    """Every cell anchor at every place of a feature map.

    The first anchor is centred on pixel coordinate (0, 0), as in detectron2 with offset 0.

    Args:
        cells: f32[a, 4] from `cell_anchors`.
        grid: height and width of the feature map.
        stride: pixels from one place of the map to the next.

    Returns:
        f32[height * width * a, 4], rows first, anchors of one place together.
    """
    y, x = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float32, device=cells.device) * stride,
        torch.arange(grid[1], dtype=torch.float32, device=cells.device) * stride,
        indexing="ij",
    )
    return (torch.stack([x, y, x, y], dim=-1).reshape(-1, 1, 4) + cells).reshape(-1, 4)


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
