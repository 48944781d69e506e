"""The compiled core gives what goes without it: the same bits, or the same sentence."""

import gzip
import json
import random
import shutil
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from pycocotools import mask as pycocotools

from analysis import BadInput, GroundTruth, break_down, load, native, read_detections, read_ground_truth
from analysis.arrays import order_by_index, order_descending
from analysis.coco import columns
from analysis.coco.columns import read_columns, stream_columns
from analysis.coco.run_lengths import run_lengths_of
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.evaluation.analysis import Analysis
from analysis.evaluation.ap_evaluation import evaluate
from analysis.evaluation.average_precision import COCO_IOUS, Ranking
from analysis.evaluation.matched_run import Curve
from analysis.evaluation.matching import pair_detections
from analysis.evaluation.settings import Settings
from analysis.stats.bootstrap import MOST_BLOCKS, resample, weighted_ap
from analysis.stats.resampling import LANES, draw_weights
from tests.analysis.mutations import KINDS, documents, mutate
from tests.analysis.scenes import SceneFiles, scenes

compiled = pytest.mark.skipif(native.core is None, reason="the compiled core is not in use here")


@contextmanager
def without_core() -> Iterator[None]:
    core, native.core = native.core, None
    try:
        yield
    finally:
        native.core = core


def both_ways(work: Callable[[], Any]) -> tuple[Any, Any]:
    """What a piece of work returns with and without the core; for bad input, its sentence."""

    def told() -> Any:
        try:
            return work()
        except BadInput as error:
            return str(error)

    with_core = told()
    with without_core():
        return with_core, told()


def test_the_core_is_compiled_where_a_compiler_is() -> None:
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        pytest.skip("no C compiler here")
    assert native.describe() != "not built", "reinstall it: uv sync --reinstall-package detablate"


@compiled
@given(st.one_of(st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**30), 10**30)))
def test_numbers_are_those_of_python(value: float) -> None:
    assert same_bits(native.core.parse_number(json.dumps(value).encode()), float(value))


@compiled
@given(st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_every_spelling_of_a_number_is_read_as_python_reads_it(text: str) -> None:
    read, value = native.core.parse_number(text.encode()), float(text)
    if abs(value) == float("inf"):
        assert read is None
    elif text.strip("0") == "-":
        assert same_bits(read, 0.0)  # a whole -0 is the integer 0, as msgspec has it
    else:
        assert same_bits(read, value)


@compiled
@pytest.mark.parametrize(
    "text", ["", "-", "01", "1.", ".5", "1e", "1e+", "+1", "NaN", "Infinity", "1 ", "0x1", "1e400"]
)
def test_what_is_no_number_is_left_to_others(text: str) -> None:
    assert native.core.parse_number(text.encode()) is None


def same_bits(read: float | None, value: float) -> bool:
    return read is not None and struct.pack("d", read) == struct.pack("d", value)


@compiled
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10**9), block=st.sampled_from([250, 400, columns.BLOCK]))
def test_damaged_predictions_give_the_same_arrays_or_the_same_sentence(
    kind: str, seed: int, block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(columns, "BLOCK", block)
    truth, predictions = documents(kind)
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    gt = read_ground_truth(tmp_path / "gt.json")
    path = tmp_path / "dt.json"
    path.write_bytes(mutate(predictions, random.Random(seed)))
    one, other = both_ways(lambda: arrays_of(path, gt))
    assert type(one) is type(other)
    assert one == other


@compiled
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 10**9))
def test_damaged_annotations_give_the_same_columns_or_the_same_sentence(kind: str, seed: int, tmp_path: Path) -> None:
    path = tmp_path / "gt.json"
    path.write_bytes(mutate(documents(kind)[0], random.Random(seed)))

    def read() -> Any:
        gt = read_ground_truth(path)
        return gt.digest, gt.warnings, gt.has_area, gt.file_name, gt.box.tobytes(), gt.area.tobytes()

    one, other = both_ways(read)
    assert one == other


def arrays_of(path: Path, gt: GroundTruth) -> Any:
    dt = read_detections(path, gt)
    arrays = (dt.box, dt.score, dt.category, dt.image, dt.row, dt.masks.present)
    masks = dt.masks.faults(np.flatnonzero(dt.masks.present).tolist())
    good = [row for row in np.flatnonzero(dt.masks.present).tolist() if row not in masks]
    return [one.tobytes() for one in arrays], dt.has_box, dt.warnings, masks, dt.masks.rles(good), dt.masks.notes


@compiled
@pytest.mark.parametrize(
    "record",
    [
        '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4], "score": 0.6}',
        '{"image_id": 1.0, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}',
        '{"image_id": "1", "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}',
        '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3]}',
        '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4, 5]}',
        '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4],}',
        '{"image_id": 1, "category_id": 1, "score": null, "bbox": [1, 2, 3, 4]}',
        '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4], "file_name": "a.jpg"}',
        '{"image\\u005fid": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}',
        '{"image_id": 1234567890123456789, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}',
        '{"image_id": 1, "category_id": 1, "score": 0.5}',
    ],
)
def test_what_is_unusual_is_left_to_the_rules(record: str) -> None:
    usual = '{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4], "other": {"deep": [null, "\\n"]}}'
    assert read_columns(f"[{usual}, {usual}]".encode()) is not None
    assert read_columns(f"[{usual}, {record}]".encode()) is None


@compiled
@pytest.mark.parametrize("end", ["", "]", "]}", ",", "]]", "{}]", ", ]", "\0]"])
def test_nothing_behind_the_end_is_read(end: str) -> None:
    text = f'[{{"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4]}}{end}'
    assert (read_columns(text.encode()) is not None) == (end == "]")
    whole = len(text) - len(end) + 1  # with one bracket
    for cut in range(whole):
        assert read_columns(text[:cut].encode()) is None


@compiled
@pytest.mark.parametrize("block", range(260, 480, 7))
@pytest.mark.parametrize("packed", [False, True])
def test_a_list_that_is_read_in_blocks_is_the_same(
    block: int, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is cut by the end of a block: a number, a key, a comma, the end of the list."""
    records = [
        {"image_id": n, "category_id": 1, "score": n / 7, "bbox": [n, 2.5, 3, 1e-3], "more": [{"deep": "]},"}]}
        for n in range(40)
    ]
    content = b"\xef\xbb\xbf \n" * (not packed) + json.dumps(records, indent=block % 3 or None).encode() + b"\n "
    path = tmp_path / "dt.json"
    path.write_bytes(gzip.compress(content) if packed else content)
    monkeypatch.setattr(columns, "BLOCK", block)
    read, whole = stream_columns(path), read_columns(json.dumps(records).encode())
    assert read is not None
    assert whole is not None
    for name in ("image_id", "category_id", "score", "bbox"):
        assert getattr(read, name).tobytes() == getattr(whole, name).tobytes()
    for end in (b"]", b"{}", b"\xff", content):
        path.write_bytes(content + end)
        assert stream_columns(path) is None


@compiled
@pytest.mark.parametrize("field", ["score", "bbox", "id", "area"])
@pytest.mark.parametrize("first", [20, 70, 110])
def test_a_field_that_only_later_records_have_is_unusual(
    field: str, first: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 2, 3, 4], "id": 1, "area": 2.0}
    records = [{key: value for key, value in whole.items() if n >= first or key != field} for n in range(120)]
    path = tmp_path / "dt.json"
    path.write_text(json.dumps(records))
    for block in (250, 1000, columns.BLOCK):
        monkeypatch.setattr(columns, "BLOCK", block)
        assert stream_columns(path) is None
    assert read_columns(path.read_bytes()) is None


def runs(width: int = 6) -> st.SearchStrategy[list[int]]:
    """Runs of a mask of ``width`` times 4 pixels; some of them 0 where others would be longer."""
    pixels = st.lists(st.booleans(), min_size=4 * width, max_size=4 * width)
    return st.tuples(pixels, st.lists(st.integers(0, 12), max_size=2)).map(lambda given: _runs(*given))


def _runs(pixels: list[bool], zeros: list[int]) -> list[int]:
    found, value = [0], False
    for pixel in pixels:
        if pixel != value:
            found.append(0)
            value = pixel
        found[-1] += 1
    for place in zeros:  # not minimal: a run cut in two by one of no pixels
        if place < len(found) and found[place] > 1:
            found[place : place + 1] = [1, 0, found[place] - 1]
    return found


@compiled
@settings(deadline=None)
@given(st.lists(runs(), min_size=1, max_size=4), st.lists(runs(), min_size=1, max_size=4), st.data())
def test_masks_have_pycocotools_areas_boxes_and_ious(ours: list[list[int]], theirs: list[list[int]], data: Any) -> None:
    a, b = ([pycocotools.frPyObjects({"size": [4, 6], "counts": one}, 4, 6) for one in some] for some in (ours, theirs))
    inside = data.draw(st.lists(st.booleans(), min_size=len(b), max_size=len(b)))
    decoded = run_lengths_of(a), run_lengths_of(b)
    assert decoded[0] is not None
    assert decoded[1] is not None
    assert decoded[0].area.tolist() == [float(pycocotools.area(one)) for one in a]
    minimal = decoded[0].minimal
    assert minimal.tolist() == [0 not in one[1:] for one in ours]
    boxes = np.asarray(pycocotools.toBbox(a))
    np.testing.assert_array_equal(decoded[0].box[minimal], boxes[minimal])
    starts = np.array([0, len(a)]), np.array([0, len(b)])
    rows = np.arange(len(a)), np.arange(len(b))
    found = native.core.pair_masks(1, *starts, *rows, decoded[0].parts, decoded[1].parts, np.array(inside))
    d, g, iou = (np.frombuffer(one, kind) for one, kind in zip(found, (np.int64, np.int64, np.float64), strict=True))
    expected = pycocotools.iou(a, b, [int(one) for one in inside])
    both = minimal[d] & decoded[1].minimal[g]  # of others the caller asks pycocotools
    dense = np.zeros_like(expected)
    dense[d[both], g[both]] = iou[both]
    expected[~minimal], expected[:, ~decoded[1].minimal] = 0, 0
    np.testing.assert_array_equal(dense, expected)


@compiled
def test_masks_of_other_sizes_make_no_pair() -> None:
    tall, wide = (pycocotools.encode(np.ones(size, dtype=np.uint8, order="F")) for size in ((4, 6), (6, 4)))
    a, b = run_lengths_of([tall]), run_lengths_of([wide])
    assert a is not None
    assert b is not None
    one, row = np.array([0, 1]), np.array([0])
    assert native.core.pair_masks(1, one, one, row, row, a.parts, b.parts, np.array([False])) == (b"", b"", b"")
    assert pycocotools.iou([tall], [wide], [0])[0, 0] <= 0


@compiled
@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("convention", ["coco", "tidecv"])
def test_pairs_are_those_of_numpy_and_pycocotools(iou_type: str, convention: str, tmp_path: Path) -> None:
    truth, predictions = documents("compressed")
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(predictions))

    def pairs() -> list[bytes]:
        gt = read_ground_truth(tmp_path / "gt.json")
        paired = pair_detections(
            gt, read_detections(tmp_path / "dt.json", gt), Settings(iou_type=iou_type, convention=convention)
        )
        assert len(paired.pairs.iou)
        return [
            paired.row.tobytes(),
            *(one.tobytes() for one in (paired.pairs.detection, paired.pairs.truth, paired.pairs.iou)),
        ]

    one, other = both_ways(pairs)
    assert one == other


@compiled
@pytest.mark.parametrize(
    ("images", "edges", "rows", "inside"),
    [
        (1, ([0, 2], [0, 1]), ([0], [0]), 1),
        (1, ([0, 1], [0, 1]), ([0], [0]), 2),
        (2, ([0, 2, 1], [0, 0, 1]), ([0], [0]), 1),
        (1, ([-1, 1], [0, 1]), ([0], [0]), 1),
        (1, ([0, 1], [0, 1]), ([1], [0]), 1),
        (1, ([0, 1], [0, 1]), ([0], [-1]), 1),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(images: int, edges: Any, rows: Any, inside: int) -> None:
    columns = [np.array(one) for one in (*edges, *rows)]
    with pytest.raises(ValueError, match=r"an array has|the images do not|does not exist"):
        native.core.pair_boxes(images, *columns, np.zeros((1, 4)), np.zeros((1, 4)), np.zeros(inside, bool))


@compiled
@given(
    arrays(np.int64, st.integers(0, 300), elements=st.integers(0, 90_000)),
    arrays(
        np.float64,
        st.integers(0, 300),
        elements=st.sampled_from([0.0, -0.0, 1.5, -1.5, 5e-324, -5e-324]) | st.floats(allow_nan=False),
    ),
)
def test_orders_are_those_of_stable_sorts(index: NDArray[np.int64], values: NDArray[np.float64]) -> None:
    limits = [int(index.max(initial=0)) + 1, 1 << 17, 1 << 40]
    for limit in limits:
        np.testing.assert_array_equal(order_by_index(index, limit), np.argsort(index, kind="stable"))
    np.testing.assert_array_equal(order_descending(values), np.argsort(-values, kind="stable"))


RECALLS = (np.linspace(0, 1, 101), np.append(np.linspace(0.01, 1, 100), np.inf))
INTS, FLOATS, FLAGS = (lambda *values, kind=kind: np.array(values, dtype=kind) for kind in (np.int64, np.float64, bool))

NARROW = lambda *values: np.array(values, dtype=np.int32)  # noqa: E731

LANED = lambda *values: np.repeat(NARROW(*values)[:, None], LANES, axis=1)  # noqa: E731
OBJECTS = INTS(1, 1, 1, 1)  # of one category, in each lane
# Sums, hits, one peak of one category, one curve, one set of objects.
PEAKS = (LANED(0, 1), LANED(0, 1), NARROW(1), INTS(0, 1), INTS(0), FLOATS(0), INTS(0, 1), (OBJECTS,))
CURVE = (INTS(1, 3), INTS(0, 2), INTS(1, 2))  # true positives at the ranks 1 and 3, two recalls


@compiled
def test_a_category_without_a_peak_adds_nothing() -> None:
    alone = native.core.weigh_peaks(*PEAKS, (NARROW(1),), (NARROW(0),), *RECALLS, 0.0)
    columns = (INTS(0, 0, 1), INTS(0, 0), FLOATS(1, 0), INTS(0, 1), (OBJECTS,))
    both = native.core.weigh_peaks(*PEAKS[:3], *columns, (NARROW(1),), (NARROW(0, 0),), *RECALLS, 0.0)
    assert np.frombuffer(alone).tolist() == np.frombuffer(both).tolist() == [101.0] * LANES


@compiled
@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("match_pairs", (1, 1, INTS(1), INTS(0), FLAGS(1), None)),
        ("match_pairs", (1, 1, INTS(0), INTS(-1), FLAGS(1), None)),
        ("match_pairs", (-1, 1, INTS(), INTS(), FLAGS(), None)),
        ("match_pairs", (1, 1, INTS(0), INTS(0), FLAGS(1), FLAGS(1, 1))),
        ("best_objects", (1, 1, INTS(0), INTS(1), FLOATS(1), FLAGS(1))),
        ("best_objects", (1, 1, INTS(0), INTS(0), FLOATS(), FLAGS(1))),
        ("match_coco", (1, 1, INTS(0), INTS(0), FLOATS(1), 0.5, FLAGS(0), FLAGS(0), FLAGS(0, 0))),
        ("interpolate", (1, INTS(0, 1), INTS(1), FLAGS(1), FLAGS(1), INTS(1), 0.0)),
        ("interpolate", (1, INTS(0, 1), INTS(0), FLAGS(1), FLAGS(1), INTS(0), 0.0)),
        ("interpolate", (1, INTS(0, 2), INTS(0), FLAGS(1), FLAGS(1), INTS(1), 0.0)),
        ("interpolate_hits", (1, INTS(0, 2), INTS(1), INTS(1), 0.0)),
        ("interpolate_hits", (1, INTS(0, 1), INTS(1), INTS(0), 0.0)),
        ("running_weights", (LANED(1, 1), NARROW(0, 2))),
        ("running_weights", (LANED(1, 1), NARROW(-1))),
        ("weigh_peaks", (*PEAKS, (NARROW(0),), (NARROW(2),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS, (NARROW(-1),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS, (NARROW(0, 1),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS, (NARROW(0),) * 65, (NARROW(1),) * 65, *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:2], NARROW(2), *PEAKS[3:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:2], NARROW(-1), *PEAKS[3:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:3], INTS(0, 2), *PEAKS[4:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:4], INTS(1), *PEAKS[5:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (PEAKS[0], LANED(), *PEAKS[2:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (PEAKS[0], LANED(0, 9), *PEAKS[2:], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:6], INTS(1, 1), PEAKS[7], (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:7], (), (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("weigh_peaks", (*PEAKS[:7], (OBJECTS, INTS(1, 1)), (NARROW(0),), (NARROW(1),), *RECALLS, 0.0)),
        ("group_weights", (NARROW(1, 1), NARROW(0, 2), INTS(0, 2))),
        ("group_weights", (NARROW(1, 1), NARROW(0, -1), INTS(0, 2))),
        ("group_weights", (NARROW(1, 1), NARROW(0, 1), INTS(0, 1))),
        ("group_weights", (NARROW(1, 1), NARROW(), INTS())),
        ("hit_aps_without", (INTS(0, 3), INTS(0, 2), INTS(1))),
        ("hit_aps_without", (INTS(1, 3), INTS(0, 2), INTS(0))),
        ("hit_aps_without", (INTS(1, 3), INTS(0, 1), INTS(1))),
        ("hit_aps_without", (INTS(1, 3), INTS(), INTS(1))),
        ("hit_aps_without", (INTS(-1, 3), INTS(0, 2), INTS(1))),
        ("hit_aps_with_one", (*CURVE[:2], INTS(9, 1), INTS(0), INTS(1), 1)),
        ("hit_aps_with_one", (*CURVE, INTS(1), INTS(1), 1)),
        ("hit_aps_with_one", (*CURVE, INTS(0), INTS(0), 1)),
        ("hit_aps_with_one", (*CURVE, INTS(0), INTS(1, 1), 1)),
        ("hit_aps_moved", (*CURVE, 0.0, INTS(1), INTS(2), INTS(0, 1), True)),
        ("hit_aps_moved", (*CURVE, 0.0, INTS(0), INTS(2), INTS(0, 2), True)),
        ("weigh_peaks", (*PEAKS, (NARROW(0),), (NARROW(1),), *RECALLS[:1], FLOATS(1), 0.0)),
    ],
)
def test_rows_that_do_not_exist_are_an_error(function: str, arguments: Any) -> None:
    with pytest.raises(ValueError, match=r"an array has|not exist|the images do not|too many|no edge|below 1|column"):
        getattr(native.core, function)(*arguments)


@compiled
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scenes(), st.sampled_from(["coco", "tidecv"]))
def test_every_label_and_curve_is_the_same(scene: SceneFiles, convention: str) -> None:
    """With crowds, ignored objects, equal scores and equal IoUs."""
    ground_truth, detections = scene.read()

    def measured() -> list[bytes]:
        found = break_down(ground_truth, detections, convention=convention)
        curves = evaluate(ground_truth, detections, max_dets=[2, 7], every_cap=True)
        labels = [getattr(found.labels, field.name) for field in fields(found.labels)]
        numbers = [np.array([found.ap, *found.raw.values()]), *found.category_raw.values()]
        return [one.tobytes() for one in (*labels, *numbers, curves.precision, curves.recall, curves.detections)]

    one, other = both_ways(measured)
    assert one == other


@compiled
def test_every_resample_is_the_same() -> None:
    scene = simulate_scene(60, 9, seed=2)
    ground_truth, detections = load(ground_truth_document(scene), simulate_detector(scene, Flaws(), seed=1))
    run = Analysis(ground_truth, Settings(), ious=COCO_IOUS).of("run", detections)

    def drawn() -> list[bytes]:
        (found,) = resample(ground_truth, [run], resamples=40, seed=3)
        return [one.tobytes() for one in (found.value, found.drawn, found.category_drawn)]

    one, other = both_ways(drawn)
    assert one == other


@compiled
def test_more_kinds_of_detections_than_a_curve_has_bits_for() -> None:
    """Seven curves that each leave out others: 128 kinds. Counted without the core, they are the same number."""
    rng = np.random.default_rng(0)
    count, images = 4000, 40
    rows, category = np.arange(count), np.repeat([0, 1], count // 2)
    ranking = Ranking(rows, category, np.array([0, count // 2, count]))
    is_tp = rng.random(count) < 0.3
    valid = np.ones(int(is_tp.sum()), dtype=np.bool_)
    curves = [Curve(ranking, is_tp, is_tp | (rng.random(count) < 0.5), valid) for _ in range(7)]
    image = rng.integers(0, images, count)
    ready = weighted_ap(curves, image, image[is_tp], category[is_tp], images, 2)
    assert max(len(one.seen) for one in ready.hits) > MOST_BLOCKS
    weights = np.array(list(draw_weights(images, 3, 0)))
    together = ready.average_precision(weights)
    for number, curve in enumerate(curves):
        alone = weighted_ap([curve], image, image[is_tp], category[is_tp], images, 2).average_precision(weights)
        np.testing.assert_allclose(together[:, number], alone[:, 0], rtol=0, atol=1e-10)
