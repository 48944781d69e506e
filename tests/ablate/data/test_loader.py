"""The order of training images, and what a batch is."""

from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ablate.data.coco import Sample, Target
from ablate.data.loader import TrainingOrder, collate, normalise, packed, unpacked


def order(**changes: int) -> TrainingOrder:
    return TrainingOrder(**{"images": 10, "batch_size": 4, "per_pass": 4, "seed": 0, "first": 0, "last": 10, **changes})


def test_every_image_comes_once_an_epoch_in_a_new_order() -> None:
    keys = list(chain.from_iterable(order()))
    assert len(keys) == 40
    epochs = [[index for epoch, index in keys if epoch == number] for number in range(4)]
    assert all(sorted(indices) == list(range(10)) for indices in epochs)
    assert len({tuple(indices) for indices in epochs}) == 4
    assert keys == list(chain.from_iterable(order()))
    assert keys != list(chain.from_iterable(order(seed=1)))


@given(st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(0, 5))
def test_processes_and_accumulation_share_one_stream(
    images: int, world: int, per_pass: int, grad_accum_steps: int, first: int
) -> None:
    batch = world * per_pass * grad_accum_steps
    single = order(images=images, batch_size=batch, per_pass=batch, first=first, last=first + 3)
    ranks = [
        list(
            order(
                images=images, batch_size=batch, per_pass=per_pass, first=first, last=first + 3, rank=rank, world=world
            )
        )
        for rank in range(world)
    ]
    assert all(len(keys) == 3 * grad_accum_steps for keys in ranks)
    merged = [key for step in zip(*ranks, strict=True) for part in step for key in part]
    assert merged == list(chain.from_iterable(single))
    assert len(single) == 3


def test_a_resumed_order_is_the_rest() -> None:
    assert list(order(first=6)) == list(order())[6:]
    assert len(order(first=6)) == 4
    assert len(order(first=12)) == 0


def test_processes_that_do_not_divide_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="do not divide batch_size 4"):
        order(world=3, per_pass=1)


def test_batches_stack_samples_and_normalise_only_content() -> None:
    image = torch.zeros((3, 4, 6), dtype=torch.uint8)
    image[:, :2, :5] = torch.tensor([0, 255, 51], dtype=torch.uint8)[:, None, None]
    target = Target(torch.ones(1, 4), torch.zeros(1, dtype=torch.int64), None, 7)
    batch = collate([Sample(image, (2, 5), target), Sample(image, (2, 5), target)])
    assert batch.images.shape == (2, 3, 4, 6)
    assert batch.sizes.tolist() == [[2, 5], [2, 5]]
    values = normalise(batch.images, batch.sizes, (0.5, 0.25, 0.2), (0.5, 0.25, 0.1))
    assert values.dtype == torch.float32
    np.testing.assert_allclose(values[1, :, 1, 4].numpy(), [-1, 3, 0], atol=1e-6)
    assert not values[:, :, 2:].any()
    assert not values[:, :, :, 5:].any()
    moved = batch.to(torch.device("cpu"))
    assert moved.targets[0].image_id == 7
    assert torch.equal(moved.images, batch.images)


@pytest.mark.parametrize("width", [1, 8, 31])
def test_masks_travel_with_eight_pixels_in_a_byte(width: int) -> None:
    masks = torch.randint(0, 2, (3, 5, width), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    bits = packed(masks)
    assert bits.shape == (3, 5, -(-width // 8))
    assert torch.equal(unpacked(bits, width), masks)
    image = torch.zeros((3, 5, width), dtype=torch.uint8)
    target = Target(torch.ones(3, 4), torch.zeros(3, dtype=torch.int64), masks, 7)
    batch = collate([Sample(image, (5, width), target)])
    assert target.masks is masks, "the sample is left as it is"
    assert batch.targets[0].masks is None
    arrived = batch.to(torch.device("cpu")).targets[0].masks
    assert arrived is not None
    assert torch.equal(arrived, masks)
    without = collate([Sample(image, (5, width), Target(target.boxes, target.labels, None, 7))])
    assert without.to(torch.device("cpu")).targets[0].masks is None
