"""The embedded data set: fixed, varied, annotated as drawn, written whole."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import ablate.data.shapes as shapes
from ablate.data.shapes import CLASSES, COUNTS, Figure, Split, draw_scene, hue, paint, write_shapes
from analysis import GroundTruth, read_ground_truth

# pycocotools decodes masks with a call that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

# Pinned: when what is drawn changes, raise shapes.REVISION, because every run on shapes gets another identity.
DIGESTS = {
    "train": "dcf6c1190b1d68db1f43b4335aa139cbca35b148319cc410883961057d4f3609",
    "val": "a734e9181a0b57a7a1ca43d9bd76e0e3e99bdc46333a109598efaf41f72a7010",
}


@pytest.fixture(scope="module")
def truths(shapes_root: Path) -> dict[str, GroundTruth]:
    return {split: read_ground_truth(shapes_root / f"annotations/instances_{split}.json") for split in COUNTS}


@pytest.mark.parametrize("split", COUNTS)
def test_it_is_the_same_everywhere(split: str, shapes_root: Path) -> None:
    content = (shapes_root / f"annotations/instances_{split}.json").read_bytes()
    assert hashlib.sha256(content).hexdigest() == DIGESTS[split]


def test_there_is_enough_of_everything(truths: dict[str, GroundTruth]) -> None:
    for split, count in COUNTS.items():
        truth = truths[split]
        assert len(truth.image_id) == count
        assert truth.category_name == list(CLASSES)
        alone = ~truth.crowd
        assert np.bincount(truth.category[alone], minlength=len(CLASSES)).min() > 100
        areas = truth.area[alone]
        small, large = (areas < 32**2).mean(), (areas >= 96**2).mean()
        assert 0.4 < small < 0.8
        assert large > 0.005
        assert truth.crowd.sum() >= 8
        assert len(np.unique(truth.image[alone])) == count
    assert len(truths["val"].image_id) >= 200


def test_objects_hide_one_another(truths: dict[str, GroundTruth]) -> None:
    truth = truths["val"]
    overlapping = 0
    for image in range(len(truth.image_id)):
        rows = np.flatnonzero(truth.image == image)
        boxes = truth.box[rows]
        ious = coco_mask.iou(boxes.tolist(), boxes.tolist(), [0] * len(boxes))
        overlapping += (np.triu(ious, 1) > 0.1).sum()
    assert overlapping > 100


@pytest.mark.parametrize("split", COUNTS)
def test_annotations_are_what_is_drawn(split: Split, shapes_root: Path, truths: dict[str, GroundTruth]) -> None:
    truth = truths[split]
    for number in range(0, COUNTS[split], 40):
        scene = draw_scene(split, number)
        with Image.open(shapes_root / split / str(truth.file_name[number])) as file:
            np.testing.assert_array_equal(np.asarray(file), scene.pixels)
        assert truth.image_size[number].tolist() == list(scene.pixels.shape[:2])
        rows = np.flatnonzero(truth.image == number)
        assert truth.category[rows].tolist() == scene.labels
        assert truth.crowd[rows].tolist() == scene.crowd
        for row, mask in zip(rows.tolist(), scene.masks, strict=True):
            np.testing.assert_array_equal(coco_mask.decode(truth.masks.rle(row)), mask)
            ys, xs = np.nonzero(mask)
            box = [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
            assert truth.box[row].tolist() == box
            assert truth.area[row] == mask.sum() >= shapes.SMALLEST
        assert np.sum(scene.masks, axis=0).max() <= 1  # a pixel belongs to the one on top


def test_splits_differ_and_drawing_repeats() -> None:
    np.testing.assert_array_equal(draw_scene("train", 3).pixels, draw_scene("train", 3).pixels)
    first, second = draw_scene("train", 3).pixels, draw_scene("val", 3).pixels
    assert first.shape != second.shape or (first != second).any()


@pytest.mark.parametrize(
    ("kind", "aspect", "area"),
    [
        ("circle", 1.0, np.pi),
        ("ellipse", 0.5, np.pi / 2),
        ("square", 1.0, 2.0),
        ("rectangle", 0.5, 4 * 0.5 / 1.25),
        ("triangle", 1.0, 3 * 3**0.5 / 4),
        ("star", 0.45, 10 * 0.5 * 0.45 * np.sin(np.pi / 5)),
        ("cross", 0.34, 4 * (2 * 0.34 - 0.34**2)),
    ],
)
def test_figures_have_the_area_of_geometry(kind: str, aspect: float, area: float) -> None:
    figure = Figure(kind, (50.0, 50.0), 80.0, 0.13, aspect, (1.0, 0.0, 0.0), 1.0, 0.0)
    stamp = paint(figure, (100, 100))
    assert (stamp.cover > 0.5).sum() == pytest.approx(area * 40**2, rel=0.015)
    assert stamp.cover.sum() == pytest.approx(area * 40**2, rel=0.02)


def test_hue_is_hsv() -> None:
    from colorsys import hsv_to_rgb

    for turn in np.linspace(0, 1, 23):
        assert hue(turn, 0.7, 0.8) == pytest.approx(hsv_to_rgb(turn, 0.7, 0.8))


def test_a_kill_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def killed(split: Split, number: int) -> shapes.Drawing:
        drawn.append(number)
        if len(drawn) > 2:
            raise KeyboardInterrupt
        return draw_scene(split, number)

    monkeypatch.setattr(shapes, "draw_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(tmp_path / "shapes")
    assert list(tmp_path.iterdir()) == []


def test_the_faster_of_two_writers_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shapes, "COUNTS", {"train": 1, "val": 1})
    write = shapes._annotate

    def overtaken(*arguments: object) -> None:
        (tmp_path / "shapes").mkdir(exist_ok=True)
        (tmp_path / "shapes" / "theirs").write_text("")
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(shapes, "_annotate", overtaken)
    write_shapes(tmp_path / "shapes")
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]
    assert [path.name for path in (tmp_path / "shapes").iterdir()] == ["theirs"]


def test_any_tool_can_read_it(shapes_root: Path) -> None:
    document = json.loads((shapes_root / "annotations/instances_val.json").read_text())
    assert document["categories"][0] == {"id": 1, "name": "circle"}
    assert (shapes_root / "val" / document["images"][0]["file_name"]).is_file()
