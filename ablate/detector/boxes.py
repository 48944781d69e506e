"""Boxes against reference boxes, as Faster R-CNN needs them.

- `encode` and `decode`: the deltas that are regressed; `cell_anchors` and `grid_anchors`: the boxes they refer to.
- `match` and `sample`: which anchors and RoIs train a head, by IoU and a balanced random sample, drawn from a generator
  per image.

Constants are Python's numbers, not tensors: a tensor would be copied to the device in every call.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_iou, nms

# Size deltas are cut here, so that no proposal grows by more than 1000 / 16 (detectron2 does the same).
LARGEST_LOG_SCALE = math.log(1000.0 / 16)

Weights = tuple[float, float]  # of dx and dy, of dw and dh


def encode(boxes: Tensor, references: Tensor, weights: Weights) -> Tensor:
    """Deltas that turn references into boxes (R-CNN, arXiv 1311.2524, appendix C).

    Args:
        boxes: f32[n, 4], xyxy in pixels.
        references: f32[n, 4], xyxy in pixels, of positive width and height.
        weights: factors of dx and dy, of dw and dh; in detectron2 (1, 1) for the RPN, (10, 5) for the RoI head.

    Returns:
        f32[n, 4]: weighted dx, dy (in units of the reference's width and height), log dw, log dh.
    """
    reference_size = references[:, 2:] - references[:, :2]
    size = boxes[:, 2:] - boxes[:, :2]
    shift = (boxes[:, :2] + 0.5 * size - references[:, :2] - 0.5 * reference_size) / reference_size
    return torch.cat([shift * weights[0], torch.log(size / reference_size) * weights[1]], dim=1)


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
    deltas = deltas.float().reshape(*deltas.shape[:-1], deltas.shape[-1] // 4, 4)
    size = references[..., 2:] - references[..., :2]
    centre = references[..., :2] + 0.5 * size + deltas[..., :2] / weights[0] * size
    half = 0.5 * size * torch.exp((deltas[..., 2:] / weights[1]).clamp(max=LARGEST_LOG_SCALE))
    return torch.cat([centre - half, centre + half], dim=-1).flatten(-2)


def clip(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes f32[..., 4] (xyxy, pixels) cut at the borders of images of size i64[..., 2] (height, width)."""
    return torch.minimum(boxes.clamp(min=0), size.flip(-1).repeat(*[1] * (size.ndim - 1), 2).to(boxes.dtype))


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


class Matching(NamedTuple):
    """Which candidates are positive and which negative, by their best IoU; those between are ignored.

    Attributes:
        positive: from this IoU on.
        negative: below this IoU.
        best_of_each: whether every truth makes its best candidates positive, whatever their IoU.
    """

    positive: float
    negative: float
    best_of_each: bool = False


def match(truths: Tensor, candidates: Tensor, matching: Matching) -> tuple[Tensor, Tensor]:
    """The truth that each candidate box should predict; the host never waits for the device.

    Args:
        truths: f32[n, 4] (xyxy, pixels); n may be 0.
        candidates: f32[m, 4] (xyxy, pixels).
        matching: the thresholds.

    Returns:
        i64[m]: the best truth of each candidate (0 without truths), and i64[m]: POSITIVE, NEGATIVE or IGNORED.
    """
    if len(truths) == 0 or len(candidates) == 0:
        nothing = torch.zeros(len(candidates), dtype=torch.int64, device=candidates.device)
        return nothing, nothing.clone()
    iou = box_iou(truths, candidates)
    best, matched = iou.max(dim=0)
    positive = best >= matching.positive
    if matching.best_of_each:
        positive |= (iou == iou.max(dim=1, keepdim=True).values).any(dim=0)
    return matched, torch.where(positive, POSITIVE, torch.where(best < matching.negative, NEGATIVE, IGNORED))


class Sample(NamedTuple):
    """A random subset of candidates: indices i64[p] of positives and i64[n] of negatives.

    Drawn by keys, both are as long as they can be at most, and bool[p], bool[n] tell which are used; the
    used ones come first.
    """

    positive: Tensor
    negative: Tensor
    positive_used: Tensor | None = None
    negative_used: Tensor | None = None


def sample(
    label: Tensor, count: int, positive_fraction: float, generator: torch.Generator, *, by_keys: bool = False
) -> Sample:
    """A random subset with at most a given fraction of positives, filled up with negatives.

    Args:
        label: i64[m] from `match`.
        count: size of the sample; it is smaller only where there are too few candidates.
        positive_fraction: at most this share of count is positive.
        generator: source of the randomness, on the device of label.
        by_keys: draw by random keys: other samples, but no wait for the device to count the candidates.
    """
    most = int(count * positive_fraction)
    if by_keys:
        return _sample_by_keys(label, count, most, generator)
    positive = torch.where(label == POSITIVE)[0]
    negative = torch.where(label == NEGATIVE)[0]
    positives = min(len(positive), most)
    negatives = min(len(negative), count - positives)
    device = label.device
    first = torch.randperm(len(positive), generator=generator, device=device)[:positives]
    second = torch.randperm(len(negative), generator=generator, device=device)[:negatives]
    return Sample(positive[first], negative[second])


def _sample_by_keys(label: Tensor, count: int, most: int, generator: torch.Generator) -> Sample:
    """Every candidate draws a number; of each kind those with the smallest ones are taken."""
    key = torch.rand(len(label), generator=generator, device=label.device)
    first, positive = torch.where(label == POSITIVE, key, 1).topk(min(most, len(label)), largest=False)
    second, negative = torch.where(label == NEGATIVE, key, 1).topk(min(count, len(label)), largest=False)
    positive_used = first < 1
    room = count - positive_used.sum()
    return Sample(
        positive, negative, positive_used, (second < 1) & (torch.arange(len(second), device=label.device) < room)
    )


def without_unused(samples: Sequence[Sample]) -> list[tuple[Tensor, Tensor]]:
    """Indices of positives and of negatives in each sample; drawn by keys, the host waits once for all of them."""
    used = [(each.positive_used, each.negative_used) for each in samples]
    counts = [part.sum() for pair in used for part in pair if part is not None]
    if not counts:
        return [(each.positive, each.negative) for each in samples]
    numbers = torch.stack(counts).reshape(-1, 2).tolist()
    return [(each.positive[:p], each.negative[:n]) for each, (p, n) in zip(samples, numbers, strict=True)]


def best_of_groups(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float, *, at_once: bool = False) -> Tensor:
    """Indices i64[k] of the boxes that NMS within each group keeps, best first.

    Args:
        boxes: f32[n, 4] (xyxy, pixels).
        scores: f32[n].
        groups: i64[n], such as the level of a box.
        threshold: IoU above which the worse of two boxes is dropped.
        at_once: groups are moved apart and done in one call, for which the host waits once, and not several times a
            group; with five levels of 1024 pixels coordinates lose up to a two thousandth of a pixel.
    """
    if not at_once or len(boxes) == 0:
        return batched_nms(boxes, scores, groups, threshold)  # type: ignore[no-any-return]
    apart = groups.to(boxes.dtype)[:, None] * (boxes.max() + 1)
    return nms(boxes + apart, scores, threshold)  # type: ignore[no-any-return]
