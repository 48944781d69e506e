import math

import torch
from torch import nn

from ablate.data.coco import Target
from ablate.detector.rpn import ProposalCounts, RegionProposals


def make_rpn(convs: int = 2) -> RegionProposals:
    torch.manual_seed(0)
    return RegionProposals(
        channels=4,
        strides=(4, 8),
        anchor_sizes=((8.0,), (16.0,)),
        ratios=(0.5, 1.0, 2.0),
        convs=convs,
        training_counts=ProposalCounts(30, 20),
        nms_threshold=0.7,
        sample_size=16,
    )


def make_features(batch: int = 2) -> list[torch.Tensor]:
    return [torch.randn(batch, 4, 8, 8), torch.randn(batch, 4, 4, 4)]


def target(*boxes: list[float]) -> Target:
    box = torch.tensor(boxes).reshape(-1, 4)
    return Target(box, torch.zeros(len(boxes), dtype=torch.int64), None, 1)


def generators() -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in (1, 2)]


def test_the_paper_has_two_hidden_convolutions_without_norm() -> None:
    kinds = [type(module) for module in make_rpn().head.modules()]
    assert kinds.count(nn.Conv2d) == 2 + 2
    assert kinds.count(nn.ReLU) == 2
    assert nn.BatchNorm2d not in kinds


def test_proposals_lie_in_the_image_without_padding_best_first() -> None:
    rpn = make_rpn().eval()
    sizes = torch.tensor([(32, 32), (20, 12)])
    proposals, losses = rpn(make_features(), sizes, counts=ProposalCounts(10, 5))
    assert losses == {}
    for boxes, (height, width) in zip(proposals, sizes.tolist(), strict=True):
        assert 1 <= len(boxes) <= 5
        assert (boxes >= 0).all()
        assert boxes[:, [0, 2]].max() <= width
        assert boxes[:, [1, 3]].max() <= height
        assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_losses_of_an_undecided_head_are_known() -> None:
    """All logits 0: log 2 for each sampled anchor; deltas 0: the L1 norm of the targets, over the full sample size."""
    rpn = make_rpn()
    for parameter in rpn.head.parameters():
        nn.init.zeros_(parameter)
    # The anchor of ratio 1 at (8, 8) of the first level is exactly 8 pixels; this truth is shifted by an eighth of it.
    _, losses = rpn(make_features(), torch.tensor([(32, 32)] * 2), [target([5.0, 4, 13, 12]), target()], generators())
    torch.testing.assert_close(losses["rpn_objectness"], torch.tensor(math.log(2)))
    # One positive: its delta dx is 1/8; 16 anchors are sampled in each of 2 images.
    torch.testing.assert_close(losses["rpn_box"], torch.tensor(0.125 / 32))


def test_what_an_image_is_batched_with_does_not_matter() -> None:
    rpn = make_rpn()
    features, targets = make_features(), [target([4.0, 4, 14, 12]), target([8.0, 2, 26, 20])]
    together = rpn(features, torch.tensor([(32, 32)] * 2), targets, generators())[1]
    alone = [
        rpn([f[i : i + 1] for f in features], torch.tensor([(32, 32)]), targets[i : i + 1], generators()[i : i + 1])[1]
        for i in (0, 1)
    ]
    for name, value in together.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)


def test_gradients_reach_the_features_but_not_through_proposals() -> None:
    rpn = make_rpn()
    features = [f.requires_grad_() for f in make_features()]
    proposals, losses = rpn(features, torch.tensor([(32, 32)] * 2), [target([4.0, 4, 14, 12]), target()], generators())
    assert not any(boxes.requires_grad for boxes in proposals)
    sum(losses.values(), torch.zeros(())).backward()
    assert all(f.grad is not None and f.grad.abs().sum() > 0 for f in features)


def test_a_diverged_head_proposes_nothing() -> None:
    rpn = make_rpn().eval()
    nn.init.constant_(rpn.head.cls_logits.bias, float("nan"))
    proposals, _ = rpn(make_features(), torch.tensor([(32, 32)] * 2))
    assert [len(boxes) for boxes in proposals] == [0, 0]
