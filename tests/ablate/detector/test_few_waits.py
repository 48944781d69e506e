"""What is done for the sake of a GPU, that the host waits for it seldom: the same numbers, on a CPU."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.models.detection._utils import Matcher
from torchvision.ops import batched_nms

from ablate.config.schema import Coco
from ablate.data.coco import Target
from ablate.detector.boxes import (
    IGNORED,
    NEGATIVE,
    POSITIVE,
    Matching,
    best_of_groups,
    match,
    sample,
    without_unused,
)
from ablate.detector.mask_rcnn import Detector, build_detector
from benchmarks.host_waits import HostWaits
from tests.ablate.tiny import tiny_config

SEEDS = st.integers(0, 2**32)


def some_boxes(count: int, generator: torch.Generator) -> Tensor:
    """On a coarse grid, so that equal IoUs occur."""
    corners = torch.randint(0, 8, (count, 4), generator=generator).float()
    return torch.cat([corners[:, :2], corners[:, :2] + 1 + corners[:, 2:]], dim=1)


@given(SEEDS, st.integers(1, 6), st.integers(1, 40), st.booleans())
def test_matching_is_torchvisions(seed: int, truths: int, candidates: int, best_of_each: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    truth, candidate = some_boxes(truths, generator), some_boxes(candidates, generator)
    matched, label = match(truth, candidate, Matching(0.7, 0.3, best_of_each))
    from torchvision.ops import box_iou

    theirs = Matcher(0.7, 0.3, allow_low_quality_matches=best_of_each)(box_iou(truth, candidate))
    names = {Matcher.BELOW_LOW_THRESHOLD: NEGATIVE, Matcher.BETWEEN_THRESHOLDS: IGNORED}
    assert label.tolist() == [names.get(int(one), POSITIVE) for one in theirs]
    assert matched[theirs >= 0].tolist() == theirs[theirs >= 0].tolist()


@given(SEEDS, st.integers(0, 30), st.integers(0, 60), st.integers(1, 40))
def test_a_sample_by_keys_has_as_many_of_each_kind_as_one_by_permutations(
    seed: int, positives: int, negatives: int, count: int
) -> None:
    label = torch.tensor([POSITIVE] * positives + [IGNORED] * 5 + [NEGATIVE] * negatives)
    by_keys = sample(label, count, 0.25, torch.Generator().manual_seed(seed), by_keys=True)
    by_permutations = sample(label, count, 0.25, torch.Generator().manual_seed(seed))
    assert by_keys.positive_used is not None
    assert by_keys.negative_used is not None
    for kind, drawn, wanted, used in (
        (POSITIVE, by_keys.positive, by_permutations.positive, by_keys.positive_used),
        (NEGATIVE, by_keys.negative, by_permutations.negative, by_keys.negative_used),
    ):
        assert int(used.sum()) == len(wanted)
        assert used[: len(wanted)].all()
        assert (label[drawn[used]] == kind).all()
        assert len(set(drawn[used].tolist())) == len(wanted)
    (cut,) = without_unused([by_keys])
    assert [len(part) for part in cut] == [len(by_permutations.positive), len(by_permutations.negative)]


def test_every_candidate_is_as_likely() -> None:
    """2,000 samples of 5 of 20 positives: 500 each, with a standard deviation of 19."""
    label = torch.tensor([POSITIVE] * 20 + [NEGATIVE] * 100)
    seen = torch.zeros(120)
    generator = torch.Generator().manual_seed(0)
    for _ in range(2000):
        drawn = sample(label, 20, 0.25, generator, by_keys=True)
        seen[drawn.positive[drawn.positive_used]] += 1
        seen[drawn.negative[drawn.negative_used]] += 1
    assert (seen[:20] - 500).abs().max() < 5 * 19.4
    assert (seen[20:] - 300).abs().max() < 5 * 16


@given(SEEDS, st.integers(0, 80), st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_of_all_groups_at_once_is_that_of_each(seed: int, count: int, threshold: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = some_boxes(count, generator) * 40
    scores, groups = torch.rand(count, generator=generator), torch.randint(0, 5, (count,), generator=generator)
    kept = best_of_groups(boxes, scores, groups, threshold, at_once=True)
    assert kept.tolist() == batched_nms(boxes, scores, groups, threshold).tolist()


def made(**changes: object) -> Detector:
    torch.manual_seed(0)
    return build_detector(tiny_config(Coco(annotations="a.json", images="a"), **changes).model, 2).train()


def a_batch(images: int, objects: tuple[int, ...] = (2, 0, 3)) -> tuple[Tensor, Tensor, list[Target]]:
    generator = torch.Generator().manual_seed(1)
    pictures = torch.randint(0, 256, (images, 3, 32, 32), dtype=torch.uint8, generator=generator)
    targets = []
    for number in range(images):
        count = objects[number % len(objects)]
        boxes = some_boxes(count, generator) * 2
        masks = torch.zeros(count, 32, 32, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist(), strict=True):
            mask[top:bottom, left:right] = 1
        targets.append(Target(boxes, torch.randint(0, 2, (count,), generator=generator), masks, number))
    return pictures, torch.tensor([[32, 32]] * images), targets


def learned(detector: Detector, images: int = 3) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The losses and the gradients of one batch."""
    detector.zero_grad()
    pictures, sizes, targets = a_batch(images)
    losses = detector(pictures, sizes, targets, [torch.Generator().manual_seed(row) for row in range(images)])
    torch.stack(list(losses.values())).sum().backward()
    return losses, {name: weight.grad for name, weight in detector.named_parameters() if weight.grad is not None}


@pytest.mark.parametrize("head", ["paper", "plain"])
def test_where_all_candidates_are_taken_losses_and_gradients_are_the_same(head: str) -> None:
    """Then nothing depends on what is drawn: 512 anchors at least, of which there are some 70, and 512 RoIs."""
    large = {"model__detector__rpn_anchors_per_image": 1024, "model__detector__rois_per_image": 512}
    detector = made(model__detector__head=head, **large)
    wanted = learned(detector)
    detector.rpn.few_waits = detector.heads.few_waits = True
    found = learned(detector)
    assert found[0].keys() == wanted[0].keys()
    torch.testing.assert_close(found[0], wanted[0])
    assert found[1].keys() == wanted[1].keys() == dict(detector.named_parameters()).keys()
    torch.testing.assert_close(found[1], wanted[1], rtol=1e-4, atol=1e-6)
    assert all(loss > 0 for loss in found[0].values())


def test_images_without_objects_leave_no_parameter_without_a_gradient() -> None:
    """Processes that train together wait for the gradient of every parameter."""
    detector = made()
    detector.rpn.few_waits = detector.heads.few_waits = True
    pictures, sizes, targets = a_batch(2, objects=(0,))
    losses = detector(pictures, sizes, targets, [torch.Generator().manual_seed(row) for row in range(2)])
    torch.stack(list(losses.values())).sum().backward()
    assert losses["rpn_box"] == losses["box_delta"] == losses["mask"] == 0
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in detector.parameters())


def test_the_host_waits_once_more_for_every_further_image() -> None:
    detector, waits = made(), {}
    learned(detector)  # anchors and constants are made in the first step
    for few in (False, True):
        detector.rpn.few_waits = detector.heads.few_waits = few
        for images in (1, 3):
            pictures, sizes, targets = a_batch(images, objects=(2,))
            generators = [torch.Generator().manual_seed(row) for row in range(images)]
            with HostWaits() as counted:
                detector(pictures, sizes, targets, generators)
            waits[few, images] = counted.waits
            assert counted.copies <= (not few) * images  # torchvision's own, one a call of NMS
    # For all images: the proposals that can be used (2), the RoIs of each level (2), those that were drawn (1).
    assert waits[True, 1] == 5 + 1
    assert waits[True, 3] == 5 + 3
    assert waits[False, 3] - waits[False, 1] >= 2 * 5
