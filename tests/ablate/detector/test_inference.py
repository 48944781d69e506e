import logging
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from ablate import progress as progress_module
from ablate.config.schema import Coco
from ablate.data.coco import EvaluationSet
from ablate.detector.inference import Afterwards, encode_mask, paste_mask, predict
from ablate.detector.mask_rcnn import build_detector
from ablate.detector.roi_heads import DetectedInstances
from ablate.train.distributed import Processes
from analysis import read_ground_truth
from tests.ablate.tiny import tiny_config

ALONE = Processes(0, 1, torch.device("cpu"))


def pasted_on(mask: torch.Tensor, box: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """u8[height, width] of the whole image."""
    inside, (top, left) = paste_mask(mask, box)
    canvas = np.zeros(size, dtype=np.uint8)
    canvas[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return canvas


def test_a_full_mask_fills_its_box() -> None:
    pasted = pasted_on(torch.ones(28, 28), np.array([3.0, 5, 20, 9]), (12, 30))
    expected = np.zeros((12, 30), dtype=np.uint8)
    expected[5:9, 3:20] = 1
    np.testing.assert_array_equal(pasted, expected)


def test_pixels_count_by_their_centres() -> None:
    pasted = pasted_on(torch.ones(28, 28), np.array([3.4, 5.6, 19.6, 8.4]), (12, 30))
    expected = np.zeros((12, 30), dtype=np.uint8)
    expected[6:8, 3:20] = 1  # centres 3.5 .. 19.5 and 6.5, 7.5
    np.testing.assert_array_equal(pasted, expected)


def test_a_mask_is_pasted_as_it_is_painted() -> None:
    mask = torch.zeros(28, 28)
    mask[:14, :7] = 1  # upper half, left quarter
    pasted = pasted_on(mask, np.array([8.0, 4, 64, 60]), (64, 80))
    rows, columns = np.nonzero(pasted)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (4, 32, 8, 22)
    assert pasted.sum() == 28 * 14


def test_a_sliver_between_pixel_centres_is_empty() -> None:
    assert pasted_on(torch.ones(28, 28), np.array([3.6, 2.0, 4.4, 9.0]), (12, 12)).sum() == 0


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_run_lengths_of_a_window_are_pycocotools_of_the_image(seed: int, filled: float) -> None:
    """Any window, also as high as the image, where a column goes on in the next one."""
    rng = np.random.default_rng(seed)
    height, width = (int(side) for side in rng.integers(1, 12, 2))
    top, left = int(rng.integers(0, height)), int(rng.integers(0, width))
    bottom, right = int(rng.integers(top + 1, height + 1)), int(rng.integers(left + 1, width + 1))
    image = np.zeros((height, width), dtype=np.uint8, order="F")
    image[top:bottom, left:right] = rng.uniform(size=(bottom - top, right - left)) < filled
    wanted = coco_mask.encode(image)
    found = encode_mask(image[top:bottom, left:right].astype(bool), (top, left), (height, width))
    assert found == {"size": [height, width], "counts": wanted["counts"].decode()}


@pytest.mark.parametrize("threads", [0, 2])
def test_what_is_done_afterwards_keeps_its_order_and_its_errors(threads: int) -> None:
    begun: list[int] = []

    def act(number: int) -> list[dict[str, int]]:
        begun.append(number)
        time.sleep(0.002 * (7 - number))  # the first takes longest
        if number == 6:
            raise ValueError("the seventh")
        return [{"number": number}]

    with Afterwards(act, threads) as afterwards:
        waiting = [afterwards(number) for number in range(6)]
        assert [records() for records in waiting] == [[{"number": number}] for number in range(6)]
        with pytest.raises(ValueError, match="the seventh"):
            afterwards(6)()
    assert sorted(begun) == list(range(7))


@pytest.mark.parametrize("padding", ["full", "least"])
def test_records_lie_in_the_original_images(
    data: Coco, padding: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The images are 40 x 32 pixels, the network's input 32 x 32: they are shrunk by 0.8 on the way in."""
    config = tiny_config(data, evaluate__score_threshold=0.0, evaluate__padding=padding)
    detector = build_detector(config.model, 2)
    truth = read_ground_truth(data.annotations)
    views = EvaluationSet(truth, Path(data.images), 32, None if padding == "full" else 16)

    class Known(torch.nn.Module):
        """Finds the same two things in every image."""

        def predict(self, images: torch.Tensor, sizes: torch.Tensor, _: object) -> list[DetectedInstances]:
            assert sizes.tolist() == [[26, 32]]
            assert images.shape[2:] == (32, 32)
            boxes = torch.tensor([[8.0, 0, 16, 13], [31.99, 5, 32, 5]])
            return [DetectedInstances(boxes, torch.tensor([0.9, 0.8]), torch.tensor([1, 0]), torch.ones(2, 28, 28))]

    caplog.set_level(logging.INFO, "ablate")
    monkeypatch.setattr(progress_module, "SECONDS_BETWEEN_LINES", -1.0)
    for model in (Known(), detector):
        found = predict(
            model,  # type: ignore[arg-type]
            views,
            settings=config.evaluate,
            precision="fp32",
            processes=ALONE,
            workers=0,
        )
        assert caplog.messages == [f"predicting: image {number} of 6" for number in range(1, 6)]
        caplog.clear()
        assert [record["image_id"] for record in found] == sorted(record["image_id"] for record in found)
        for record in found:
            left, top, width, height = record["bbox"]
            assert left >= 0
            assert top >= 0
            assert left + width <= 40 + 1e-9
            assert top + height <= 32 + 1e-9
            assert min(width, height) > 0
            assert record["category_id"] in (3, 7)
            assert record["segmentation"]["size"] == [32, 40]
        if isinstance(model, Known):
            assert len(found) == 6, "the second thing has no height"
            np.testing.assert_allclose(found[0]["bbox"], [10, 0, 10, 16])
            assert (found[0]["score"], found[0]["category_id"]) == (pytest.approx(0.9), 7)
            assert coco_mask.area({**found[0]["segmentation"]}) == 160
    assert detector.training, "the mode is as it was"
