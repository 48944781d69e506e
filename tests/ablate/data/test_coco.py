"""The data sets against pycocotools and torch's loader, and their refusals."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from torch._utils import ExceptionWrapper  # what the loader carries exceptions in
from torch.utils.data import DataLoader
from torchvision.ops import box_iou

from ablate.data.coco import EvaluationSet, Sample, TrainingSet, decode_rle, draw_masks, draw_polygons, read_image
from ablate.data.loader import TrainingOrder, collate, worker_error
from ablate.data.sources import Files
from ablate.data.transforms import ResizeCrop, jitter, large_enough
from analysis import read_ground_truth
from analysis.exceptions import BadInput
from tests.detectron2 import needs_detectron2
from tests.shared_data import shared_data

CPU = torch.device("cpu")

# pycocotools decodes masks with a call that NumPy 2 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

Writer = Callable[..., Files]


def training_set(files: Files, *, side: int = 40, masks: bool = True, **settings: Any) -> TrainingSet:
    chosen = {"scale": (1.0, 1.0), "flip": 0.0, "seed": 0, **settings}
    return TrainingSet(read_ground_truth(files.annotations), files.images, side=side, masks=masks, **chosen)


def same(first: Sample, second: Sample) -> bool:
    tensors = [(first.image, second.image), (first.target.boxes, second.target.boxes)]
    tensors.append((first.target.labels, second.target.labels))
    if first.target.masks is not None and second.target.masks is not None:
        tensors.append((first.target.masks, second.target.masks))
    return all(torch.equal(a, b) for a, b in tensors) and first.target.image_id == second.target.image_id


def test_a_sample_is_what_the_file_says(small: Writer) -> None:
    files = small()
    data = training_set(files)
    assert len(data) == 2  # image 11 has no object
    first, second = data[0, 0], data[0, 1]
    assert (first.target.image_id, second.target.image_id) == (3, 7)
    assert first.size == (30, 40)
    assert first.image.shape == (3, 40, 40)
    pixels = np.asarray(Image.open(files.images / "3.png"))
    np.testing.assert_array_equal(first.image[:, :30].permute(1, 2, 0).numpy(), pixels)
    assert not first.image[:, 30:].any()
    assert first.target.boxes.tolist() == [[10, 5, 30, 15]]
    assert first.target.labels.tolist() == [1]  # index among the sorted ids 2, 90
    assert first.target.masks is not None
    expected = torch.zeros(40, 40, dtype=torch.uint8)
    expected[5:15, 10:30] = 1
    assert torch.equal(first.target.masks[0], expected)
    assert second.target.boxes.tolist() == [[0, 0, 30, 1]]  # the crowd is no target
    assert second.target.labels.tolist() == [0]


def test_images_without_boxes_are_kept_on_demand(small: Writer) -> None:
    data = training_set(small(), keep_without_boxes=True)
    assert len(data) == 3
    empty = data[0, 2].target
    assert empty.boxes.shape == (0, 4)
    assert empty.labels.shape == (0,)
    assert empty.masks is not None
    assert empty.masks.shape == (0, 40, 40)


@pytest.mark.parametrize(
    "name", ["coco_train2017_208/gt_masks_180.json", "coco_val2017_206/gt_tiny80_original_instances.json"]
)
def test_masks_of_real_data_are_pycocotools(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    files = Files(shared_data(*name.split("/")), shared_data(name.split("/")[0], "images"))
    reference = COCO(str(files.annotations))
    capsys.readouterr()
    data = training_set(files, side=640)
    compared = 0
    for index in range(0, len(data), 5):
        sample = data[0, index]
        record = reference.imgs[sample.target.image_id]
        if max(record["height"], record["width"]) != 640 or sample.target.masks is None:
            continue
        assert sample.size == (record["height"], record["width"])  # the scale is exactly 1
        records = reference.loadAnns(reference.getAnnIds([sample.target.image_id], iscrowd=False))
        expected = [reference.annToMask(annotation) for annotation in records]
        kept = [mask for mask in expected if mask.any()]
        assert len(sample.target.masks) == len(kept)
        labels = [data.truth.category_id[label] for label in sample.target.labels.tolist()]
        assert labels == [a["category_id"] for a, mask in zip(records, expected, strict=True) if mask.any()]
        for mask, wanted in zip(sample.target.masks.numpy(), kept, strict=True):
            np.testing.assert_array_equal(mask[: sample.size[0], : sample.size[1]], wanted)
            compared += 1
        boxes = np.array([a["bbox"] for a, mask in zip(records, expected, strict=True) if mask.any()])
        boxes[:, 2:] += boxes[:, :2]
        np.testing.assert_allclose(sample.target.boxes.numpy(), boxes, atol=0.02)  # some lie 0.01 beyond their image
    assert compared > 50


def test_jittered_targets_stay_inside_and_fit_their_masks() -> None:
    folder = shared_data("coco_train2017_208")
    files = Files(folder / "gt_masks_180.json", folder / "images")
    data = training_set(files, side=160, scale=(0.1, 2.0), flip=0.5)
    for index in range(0, len(data), 9):
        sample = data[2, index]
        target = sample.target
        assert target.masks is not None
        boxes = target.boxes.numpy()
        assert (boxes[:, 2:] - boxes[:, :2] >= 1).all()
        assert (boxes[:, 2:] <= [sample.size[1], sample.size[0]]).all()
        assert not sample.image[:, sample.size[0] :].any()
        assert not target.masks[:, :, sample.size[1] :].any()
        for mask, (x1, y1, x2, y2) in zip(target.masks, boxes.tolist(), strict=True):
            ys, xs = np.nonzero(mask.numpy())  # to a pixel: COCO's rule rounds the corners of polygons
            assert x1 - 1 <= xs.min() <= xs.max() + 1 <= x2 + 1
            assert y1 - 1 <= ys.min() <= ys.max() + 1 <= y2 + 1


L_SHAPE = [10, 5, 12, 5, 12, 13, 30, 13, 30, 15, 10, 15]
ANNOTATED = [[10, 4.5, 30.5, 15]]  # half a pixel wider than the mask, above and on the right


@pytest.mark.parametrize("written", ["polygon", "run lengths"])
@pytest.mark.parametrize(
    ("corner", "kept", "flip", "expected"),
    [
        ((0, 0), (30, 40), False, [10, 4.5, 30.5, 15]),
        ((0, 0), (30, 40), True, [9.5, 4.5, 30, 15]),
        ((0, 20), (30, 20), False, [0, 13, 10, 15]),  # the foot of the L, without its end half a pixel further
        ((0, 20), (30, 20), True, [10, 13, 20, 15]),
        ((0, 0), (10, 40), False, [10, 5, 12, 10]),  # the leg
        ((0, 14), (10, 10), False, None),  # what lies between them
    ],
)
def test_boxes_are_the_annotated_ones_and_shrink_to_the_mask_where_they_are_cut(
    written: str,
    corner: tuple[int, int],
    kept: tuple[int, int],
    flip: bool,
    expected: list[float] | None,
    small: Writer,
) -> None:
    rle = coco_mask.merge(coco_mask.frPyObjects([L_SHAPE], 30, 40))
    counts = {"size": [30, 40], "counts": rle["counts"].decode()}
    mask = [L_SHAPE] if written == "polygon" else counts
    data = training_set(small(lambda d: d["annotations"][0].update(bbox=[10, 4.5, 20.5, 10.5], segmentation=mask)))
    crop, boxes = ResizeCrop((30, 40), (30, 40), corner, kept, flip), np.array(ANNOTATED)
    cut = crop.cuts(boxes)
    assert cut.tolist() == [kept != (30, 40)]
    masks = np.zeros((1, 32, 48), dtype=np.uint8)
    (occupied,), (found,) = draw_masks(data.truth, np.array([0]), crop.boxes(boxes), crop, cut, masks)
    assert occupied == masks.any() == (expected is not None)
    assert not masks[:, kept[0] :].any()
    assert not masks[:, :, kept[1] :].any()
    assert large_enough(found[None]).tolist() == [expected is not None]
    if expected is not None:
        assert found.tolist() == expected


def test_nothing_that_was_decoded_is_kept(small: Writer) -> None:
    """A process that loads images would grow with each of them."""
    data = training_set(small())
    before = len(pickle.dumps(data))
    assert all(data[0, index].target.masks is not None for index in range(len(data)))
    assert len(pickle.dumps(data)) == before


@pytest.mark.detectron2
@needs_detectron2[1]
@pytest.mark.filterwarnings("ignore")
def test_boxes_are_those_of_detectron2() -> None:
    """Real polygons, resized, cut and flipped by detectron2's own transforms."""
    from detectron2.data import transforms as d2
    from detectron2.structures import PolygonMasks
    from fvcore.transforms.transform import CropTransform, HFlipTransform, TransformList

    folder = shared_data("coco_train2017_208")
    data = training_set(Files(folder / "gt_masks_180.json", folder / "images"), side=512)
    truth, compared, cut_some = data.truth, 0, 0
    for image in data.images.tolist():
        size = (int(truth.image_size[image, 0]), int(truth.image_size[image, 1]))
        crop = jitter(size, 512, (0.1, 2.0), 0.5, np.random.default_rng(image))
        (top, left), (rows_kept, columns) = crop.corner, crop.kept
        steps = [d2.ResizeTransform(*size, *crop.scaled), CropTransform(left, top, columns, rows_kept)]
        theirs = TransformList([*steps, HFlipTransform(columns)] if crop.flip else steps)
        for row in np.flatnonzero((truth.image == image) & ~truth.crowd & ~truth.masks.in_run_lengths).tolist():
            written = truth.masks.segmentation(row)
            assert isinstance(written, list)
            moved = [polygon.ravel() for polygon in theirs.apply_polygons(written)]
            (wanted,) = PolygonMasks([moved]).get_bounding_boxes().tensor.numpy()
            annotated = truth.box[[row]] + np.pad(truth.box[[row], :2], ((0, 0), (2, 0)))
            cut = crop.cuts(annotated)
            canvas = np.zeros((1, *crop.kept), dtype=np.uint8)
            _, (found,) = draw_masks(truth, np.array([row]), crop.boxes(annotated), crop, cut, canvas)
            if large_enough(found[None]).any():
                np.testing.assert_allclose(found, wanted, atol=0.05)  # annotations are written to 0.01 pixels
                compared, cut_some = compared + 1, cut_some + int(cut[0])
    assert compared > 100
    assert cut_some > 10


def test_boxes_alone_agree_with_boxes_of_masks_on_shapes(shapes_root: Path) -> None:
    files = Files(shapes_root / "annotations/instances_val.json", shapes_root / "val")
    settings: dict[str, Any] = {"side": 160, "scale": (0.9, 1.1), "flip": 0.5, "seed": 4}
    with_masks, alone = training_set(files, **settings), training_set(files, masks=False, **settings)
    assert len(with_masks) == len(alone)
    ious = []
    for index in range(45):
        first, second = with_masks[1, index].target, alone[1, index].target
        assert second.masks is None
        if len(first.boxes) == len(second.boxes):  # a cut may leave less of a mask than of its box
            assert torch.equal(first.labels, second.labels)
            ious += box_iou(first.boxes, second.boxes).diag().tolist()
    assert len(ious) > 150
    assert np.quantile(ious, 0.1) > 0.75  # thin tips fall between the pixels of a smaller mask


def test_a_sample_depends_on_seed_epoch_and_index_alone(shapes_root: Path) -> None:
    files = Files(shapes_root / "annotations/instances_val.json", shapes_root / "val")
    settings: dict[str, Any] = {"side": 64, "scale": (0.5, 2.0), "flip": 0.5}
    data = training_set(files, **settings)
    copy = pickle.loads(pickle.dumps(data))
    first = data[1, 7]
    data[3, 4]
    assert same(data[1, 7], first)
    assert same(copy[1, 7], first)
    assert not same(data[2, 7], first)
    assert not same(training_set(files, **{**settings, "seed": 1})[1, 7], first)


def test_the_loader_gives_the_same_with_workers(shapes_root: Path) -> None:
    files = Files(shapes_root / "annotations/instances_val.json", shapes_root / "val")
    data = training_set(files, side=64, scale=(0.5, 2.0), flip=0.5)
    order = TrainingOrder(len(data), batch_size=4, per_pass=2, seed=5, first=3, last=5)
    alone = list(DataLoader(data, batch_sampler=order, collate_fn=collate))
    helped = list(DataLoader(data, batch_sampler=order, collate_fn=collate, num_workers=1))
    assert len(alone) == len(helped) == 4
    for first, second in zip(alone, helped, strict=True):
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.sizes, second.sizes)
        for one, other in zip(first.to(CPU).targets, second.to(CPU).targets, strict=True):
            assert torch.equal(one.boxes, other.boxes)
            assert one.masks is not None
            assert other.masks is not None
            assert torch.equal(one.masks, other.masks)
            assert one.masks.any()


@given(st.integers(0, 2**32), st.integers(1, 3))
def test_polygons_are_drawn_as_pycocotools_draws_them(seed: int, parts: int) -> None:
    """Any shape and place, partly or wholly outside, on a canvas that is larger than what is drawn."""
    rng = np.random.default_rng(seed)
    size = (int(rng.integers(1, 40)), int(rng.integers(1, 40)))
    polygons = [rng.uniform(-20, 60, (int(rng.integers(3, 9)), 2)).round(1) for _ in range(parts)]
    canvas = np.zeros(np.add(size, 2), dtype=np.uint8)
    drawn = draw_polygons(polygons, size, canvas)
    rle = coco_mask.merge(coco_mask.frPyObjects([polygon.ravel().tolist() for polygon in polygons], *size))
    np.testing.assert_array_equal(canvas[:-2, :-2], decode_rle(rle))
    assert drawn == canvas.any()
    assert canvas.sum() == coco_mask.area(rle)


def test_a_refusal_of_a_worker_is_one_sentence(small: Writer) -> None:
    files = small()
    data = training_set(files)
    (files.images / "7.png").write_bytes(b"\x89PNG\r\n\x1a\n damaged")

    def in_a_worker() -> None:
        try:
            data[0, 1]
        except BadInput:
            ExceptionWrapper(where="in DataLoader worker process 0").reraise()  # type: ignore[no-untyped-call]

    with pytest.raises(BadInput, match="Original Traceback") as refusal:
        in_a_worker()
    sentence = str(worker_error(refusal.value))
    assert sentence.startswith(str(files.images / "7.png") + ": cannot be decoded (")
    assert "\n" not in sentence


def test_evaluation_shows_every_image_whole(small: Writer) -> None:
    files = small()
    truth = read_ground_truth(files.annotations)
    square = EvaluationSet(truth, files.images, side=80)
    assert [sample.image_id for sample in (square[i] for i in range(len(square)))] == [3, 7, 11]
    sample = square[0]
    assert sample.image.shape == (3, 80, 80)
    assert sample.crop.kept == (60, 80)
    assert not sample.image[:, 60:].any()
    least = EvaluationSet(truth, files.images, side=80, multiple=32)
    assert least[0].image.shape == (3, 64, 96)
    assert torch.equal(least[0].image[:, :60, :80], sample.image[:, :60, :80])
    with pytest.raises(IndexError):
        square[3]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda d: d["annotations"][0].pop("segmentation"), "1 of 2 objects have no segmentation"),
        (lambda d: d.update(annotations=d["annotations"][2:]), "no image has an object for training"),
        (lambda d: d.update(annotations=[]), "no image has an object for training"),
        (lambda d: d["images"][0].update(file_name="gone.png"), "1 of 2 images of"),
        (lambda d: d["images"][0].update(file_name="no/where.png"), r"are missing \(first: no/where.png\)"),
        (lambda d: d["images"][0].pop("file_name"), "image id 3 has no file_name"),
    ],
)
def test_unusable_data_is_refused_at_once(
    change: Callable[[dict[str, Any]], None], sentence: str, small: Writer
) -> None:
    with pytest.raises(BadInput, match=sentence):
        training_set(small(change))


def test_a_missing_folder_is_refused(small: Writer) -> None:
    files = small()
    with pytest.raises(BadInput, match="no such folder of images"):
        training_set(Files(files.annotations, files.images / "none"))


def test_a_box_without_area_is_no_target(small: Writer) -> None:
    data = training_set(small(lambda d: d["annotations"][0].update(bbox=[10, 5, 0, 10])))
    assert len(data) == 1


def test_broken_images_are_named(small: Writer) -> None:
    files = small(lambda d: d["images"][0].update(height=31))
    truth = read_ground_truth(files.annotations)
    with pytest.raises(BadInput, match=r"3.png: is 40 x 30 pixels, annotated as 40 x 31; .*\(image id 3 of "):
        read_image(truth, files.images, 0)
    path = files.images / "7.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(BadInput, match=r"7.png: cannot be decoded"):
        read_image(truth, files.images, 1)
    path.unlink()
    with pytest.raises(BadInput, match=r"7.png: no such image; .*\(image id 7 of "):
        read_image(truth, files.images, 1)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(mode: str, small: Writer) -> None:
    files = small(lambda d: d["images"][0].update(file_name="x.tiff"))
    Image.open(files.images / "3.png").convert(mode).save(files.images / "x.tiff")
    assert training_set(files)[0, 0].image.shape == (3, 40, 40)


@pytest.mark.parametrize("orientation", [1, 3, 5, 6, 7, 8])
def test_exif_orientation_is_applied_where_the_sizes_say_so(orientation: int, small: Writer) -> None:
    from PIL import ImageOps

    files = small(lambda d: d["images"][0].update(file_name="turned.png"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    upright = orientation in (1, 3)  # sides not swapped
    stored = Image.fromarray(np.arange(30 * 40 * 3, dtype=np.uint8).reshape((30, 40, 3) if upright else (40, 30, 3)))
    stored.save(files.images / "turned.png", exif=exif)
    got = read_image(read_ground_truth(files.annotations), files.images, 0)
    with Image.open(files.images / "turned.png") as file:
        wanted = file.convert("RGB") if upright else ImageOps.exif_transpose(file)
    np.testing.assert_array_equal(np.asarray(got), np.asarray(wanted))


def test_order_and_jitter_share_no_stream(small: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy takes the seeds [s, e] and [s, e, 0] for the same."""
    data = training_set(small())
    drawn: list[int] = []
    make = np.random.default_rng

    def noting(seed: Any) -> np.random.Generator:
        drawn.append(int(make(seed).integers(2**62)))
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", noting)
    for keys in TrainingOrder(images=2, batch_size=2, per_pass=2, seed=0, first=0, last=3):
        for key in keys:
            data[key]
    assert len(set(drawn)) == len(drawn) == 3 + 6


def test_a_view_is_pinned_with_its_image_alone(small: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    files = small()
    sample = EvaluationSet(read_ground_truth(files.annotations), files.images, 40)[0]
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)  # really pinning needs a GPU
    pinned = sample.pin_memory()
    assert torch.equal(pinned.image, sample.image + 1)
    assert (pinned.crop, pinned.image_id) == (sample.crop, sample.image_id)
