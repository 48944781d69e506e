import math

import pytest
import torch
from torch import nn
from torchvision.ops import roi_align

from ablate.data.coco import Target
from ablate.detector.roi_heads import BoxHead, MaskHead, RoIHeads, RoIPooler, mask_targets

SIZE = (64, 64)


def make_heads(masks: bool = True, paper: bool = True) -> RoIHeads:
    torch.manual_seed(0)
    return RoIHeads(
        strides=(4, 8),
        box_head=BoxHead(4, 3, [8] * 4 if paper else [], 16),
        mask_head=MaskHead(4, 3, [8] * 4, norm="batch" if paper else "none") if masks else None,
        classes=3,
        sample_size=8,
    )


def make_features() -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [torch.randn(2, 4, 16, 16), torch.randn(2, 4, 8, 8)]


def target(boxes: list[list[float]], labels: list[int]) -> Target:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[int(top) : int(bottom), int(left) : int(right)] = 1
    return Target(torch.tensor(boxes).reshape(-1, 4), torch.tensor(labels, dtype=torch.int64), masks, 1)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (1, 2)]


def test_mixed_precision_does_not_round_the_rois() -> None:
    """Between 512 and 1024 a bfloat16 can say every fourth pixel only."""
    ramp = (torch.arange(256.0) - 228).expand(1, 1, 256, 256)  # small whole numbers, exact in bfloat16
    boxes = torch.tensor([[901.0, 901, 929, 929], [903, 901, 931, 929]])
    with torch.autocast("cpu", torch.bfloat16):
        pooled = RoIPooler((4,), 7)([ramp.bfloat16()], [boxes])
    assert pooled.dtype == torch.bfloat16
    moved = (pooled[1].float() - pooled[0].float()).mean()
    torch.testing.assert_close(moved, torch.tensor(0.5), rtol=0.1, atol=0)  # 2 px on a map of stride 4


@pytest.mark.parametrize(
    ("side", "stride"), [(10, 4), (111, 4), (112, 8), (223, 8), (224, 16), (447, 16), (448, 32), (2000, 32)]
)
def test_a_roi_of_224_pixels_belongs_to_stride_16(side: int, stride: int) -> None:
    pooler = RoIPooler((4, 8, 16, 32), 7)
    assert pooler.strides[pooler.levels(torch.tensor([[0.0, 0, side, side]]))[0]] == stride


def test_levels_follow_the_area_not_the_side() -> None:
    assert RoIPooler((4, 8, 16, 32), 7).levels(torch.tensor([[0.0, 0, 448, 112]])).tolist() == [2]


def test_single_level() -> None:
    assert RoIPooler((16,), 7).levels(torch.tensor([[0.0, 0, 5, 5], [0, 0, 900, 900]])).tolist() == [0, 0]


def test_pooling_is_aligned_and_keeps_the_order() -> None:
    features = make_features()
    boxes = [torch.tensor([[3.0, 5, 20, 30], [0, 0, 150, 150], [2, 2, 9, 9]]), torch.tensor([[10.0, 1, 40, 22]])]
    pooled = RoIPooler((4, 8), 7)(features, boxes)
    one = roi_align(features[0], [boxes[0][2:], boxes[1]], 7, 1 / 4, aligned=True)
    torch.testing.assert_close(pooled[2:], one)
    large = roi_align(features[1], [boxes[0][1:2], boxes[1][:0]], 7, 1 / 8, aligned=True)
    torch.testing.assert_close(pooled[1:2], large)


def test_aligned_pooling_of_a_ramp_gives_the_coordinates_of_the_bins() -> None:
    """On a map whose value is the pixel coordinate of its cell's centre, the bins give the centres of their pixels."""
    ramp = (torch.arange(64.0) + 0.5) * 4
    feature = ramp.expand(1, 1, 64, 64).contiguous()
    pooled = RoIPooler((4,), 7)([feature], [torch.tensor([[20.0, 20, 76, 76]])])
    torch.testing.assert_close(pooled[0, 0, 0], 20 + 8 * (torch.arange(7) + 0.5))


def test_paper_and_plain_heads() -> None:
    paper, plain = make_heads(), make_heads(paper=False)
    assert [type(m) for m in paper.box_head.modules()].count(nn.BatchNorm2d) == 4
    assert [type(m) for m in paper.box_head.layers.modules()].count(nn.Linear) == 1
    assert [type(m) for m in plain.box_head.modules()].count(nn.Conv2d) == 0
    assert [type(m) for m in plain.box_head.layers.modules()].count(nn.Linear) == 2
    assert paper.mask_head is not None
    assert plain.mask_head is not None
    assert [type(m) for m in paper.mask_head.modules()].count(nn.BatchNorm2d) == 4
    assert [type(m) for m in plain.mask_head.modules()].count(nn.BatchNorm2d) == 0


def test_mask_target_of_a_box_is_full_and_half_of_it_is_half() -> None:
    wide = target([[8.0, 8, 40, 40]], [0])
    assert wide.masks is not None
    assert mask_targets(wide.masks, wide.boxes, torch.tensor([0]), 28).all()
    half = mask_targets(wide.masks, torch.tensor([[8.0, 8, 72, 40]]), torch.tensor([0]), 28)
    assert half[0, :, :14].all()
    assert not half[0, :, 14:].any()


def test_losses_of_undecided_heads_are_known() -> None:
    heads = make_heads()
    assert heads.mask_head is not None
    for layer in (heads.box_head.score, heads.box_head.deltas, heads.mask_head.logits):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    truths = [target([[8.0, 8, 40, 40]], [2]), target([], [])]
    # The truth itself and a proposal shifted by 1/8 of its width are positive, the others are background.
    proposals = [torch.tensor([[12.0, 8, 44, 40], [0, 0, 6, 6]]), torch.tensor([[0.0, 0, 30, 30]])]
    losses = heads.losses(make_features(), proposals, truths, generators())
    torch.testing.assert_close(losses["box_class"], torch.tensor(math.log(4)))
    # 4 RoIs in all; of dx the weight is 10.
    torch.testing.assert_close(losses["box_delta"], torch.tensor(10 * 0.125 / 4))
    torch.testing.assert_close(losses["mask"], torch.tensor(math.log(2)))


def test_images_without_objects_train_the_background() -> None:
    heads = make_heads()
    losses = heads.losses(make_features(), [torch.tensor([[0.0, 0, 30, 30]])] * 2, [target([], [])] * 2, generators())
    assert losses["box_delta"] == 0
    assert losses["mask"] == 0
    assert losses["box_class"] > 0
    sum(losses.values(), torch.zeros(())).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())


def test_no_proposals_at_all() -> None:
    heads = make_heads()
    losses = heads.losses(make_features(), [torch.zeros(0, 4)] * 2, [target([], [])] * 2, generators())
    assert all(value == 0 for value in losses.values())
    detections = heads.eval().detect(
        make_features(),
        [torch.zeros(0, 4)] * 2,
        torch.tensor([SIZE] * 2),
        score_threshold=0.05,
        nms_threshold=0.5,
        max_detections=9,
    )
    assert [len(found.boxes) for found in detections] == [0, 0]


def test_detections_respect_threshold_nms_and_cap() -> None:
    heads = make_heads().eval()
    nn.init.zeros_(heads.box_head.score.weight)
    nn.init.zeros_(heads.box_head.deltas.weight)
    heads.box_head.score.bias.data = torch.tensor([2.0, 1.0, -9.0, 0.0])  # class 2 stays below the threshold
    # The second overlaps the first by 0.8, the third is apart, the fourth sticks out of the image.
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 16], [30, 30, 50, 50], [60, 60, 90, 90]])

    def detect(threshold: float, most: int) -> list[list[float]]:
        (found, _) = heads.detect(
            make_features(),
            [boxes, boxes[:0]],
            torch.tensor([SIZE] * 2),
            score_threshold=threshold,
            nms_threshold=0.5,
            max_detections=most,
        )
        assert found.masks is not None
        assert found.masks.shape == (len(found.boxes), 28, 28)
        assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)
        return [[float(label), *box] for label, box in zip(found.labels, found.boxes.tolist(), strict=True)]

    kept = [[0.0, 0, 20, 20], [30, 30, 50, 50], [60, 60, 64, 64]]
    assert sorted(detect(0.05, 100)) == sorted([[k, *box] for k in (0.0, 1.0) for box in kept])
    assert sorted(detect(0.5, 100)) == sorted([[0.0, *box] for box in kept])
    assert len(detect(0.05, 2)) == 2


def test_box_only() -> None:
    heads = make_heads(masks=False)
    losses = heads.losses(make_features(), [torch.zeros(0, 4)] * 2, [target([[8.0, 8, 40, 40]], [1])] * 2, generators())
    assert set(losses) == {"box_class", "box_delta"}
