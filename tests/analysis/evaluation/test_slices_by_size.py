"""Errors by size: against tidecv's AREA qualifiers on real predictions, and by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings

from analysis import BadInput, break_down, read_detections, read_ground_truth
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import CONVENTIONS, Settings
from analysis.evaluation.slices import COCO_SIZES, Size, by_size, parse_sizes
from analysis.evaluation.tide import match_and_label
from tests.analysis import real_pairs
from tests.analysis.cases import found, object_, read
from tests.analysis.evaluation.test_random_scenes import CAMPAIGN, SAMPLE
from tests.analysis.peers import load, tidecv_tide
from tests.analysis.real_pairs import RealPair
from tests.analysis.scenes import SceneFiles, scenes

EVERYTHING = (Size("all", 0, math.inf),)
both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)


IN_TWO_TIERS = [
    *real_pairs.SMALL,
    *(pytest.param(pair, marks=pytest.mark.campaign) for pair in real_pairs.ALL if pair not in real_pairs.SMALL),
]


@pytest.mark.parametrize("pair", IN_TWO_TIERS, ids=str)
def test_every_number_equals_tidecv_s_qualifiers(pair: RealPair) -> None:
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    from tidecv.errors.qualifiers import AREA

    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    sizes = by_size(gt, dt, match_and_label(gt, dt, Settings(pair.iou_type, convention="tidecv")))
    run = tidecv_tide(load(truth), load(results), iou_type=pair.iou_type).runs["dt"]
    for place, qualifier in enumerate(AREA):
        expected = list(run.fix_main_errors(qual=qualifier).values())
        assert [sizes.delta_ap[name][place] for name in ERRORS] == pytest.approx(expected, rel=0, abs=1e-9)
        counts = [
            sum(qualifier.test(error.gt if hasattr(error, "gt") else error.pred) for error in errors)
            for errors in run.error_dict.values()
        ]
        assert [sizes.count[name][place] for name in ERRORS] == counts
        assert sizes.sizes[place].name == qualifier.name.lower()


def check_tidecv(scene: SceneFiles) -> None:
    """Random scenes against tidecv's qualifiers, crowds, ties and empty categories included."""
    from tidecv.errors.qualifiers import AREA

    with scene.written() as (truth, results):
        gt = read_ground_truth(truth)
        dt = read_detections(results, gt)
        sizes = by_size(gt, dt, match_and_label(gt, dt, Settings(convention="tidecv")))
    try:
        run = tidecv_tide(scene.truth, scene.results).runs["dt"]
    except ZeroDivisionError:  # it has nothing to average
        return
    for place, qualifier in enumerate(AREA):
        for name, kind in zip(ERRORS, run.error_dict, strict=True):
            try:
                expected = run.fix_main_errors(qual=qualifier, error_types=[kind])[kind]
            except ZeroDivisionError:  # the fix leaves nothing to average: AP was 0, and stays 0
                expected = 0.0
            assert sizes.delta_ap[name][place] == pytest.approx(expected, rel=0, abs=1e-9)


@given(scenes())
@settings(SAMPLE, max_examples=50)
def test_random_scenes_against_tidecv(scene: SceneFiles) -> None:
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    check_tidecv(scene)


@pytest.mark.campaign
@given(scenes(max_images=5, max_categories=4, max_objects=20, max_detections=40))
@CAMPAIGN
def test_random_scenes_against_tidecv_campaign(scene: SceneFiles) -> None:
    check_tidecv(scene)


@both_conventions
@pytest.mark.parametrize("pair", [real_pairs.EFFICIENTDET, real_pairs.FAKE_MASKS], ids=str)
def test_one_size_for_everything_is_the_whole_breakdown(pair: RealPair, convention: str) -> None:
    truth, results = pair.paths()
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    matched_run = match_and_label(gt, dt, Settings(pair.iou_type, convention=convention))
    whole = break_down(gt, dt, iou_type=pair.iou_type, convention=convention)
    for sizes in (EVERYTHING, COCO_SIZES):
        found_ = by_size(gt, dt, matched_run, sizes)
        assert {name: int(count.sum()) for name, count in found_.count.items()} == whole.count
        assert found_.objects.sum() == whole.positives
        assert found_.found.sum() == whole.true_positives
    assert {n: v[0] for n, v in by_size(gt, dt, matched_run, EVERYTHING).raw.items()} == {
        n: whole.raw[n] for n in ERRORS
    }


@both_conventions
def test_whose_size_decides(convention: str, tmp_path: Path) -> None:
    """The object's for loc, cls and miss, the detection's for dup, bg and both."""
    big, small = (0, 0, 100, 100), (300, 300, 20, 20)
    objects = [object_(1, big), object_(2, small), object_(1, (600, 0, 20, 20))]
    results = [
        found(1, (0, 0, 30, 30), 0.9),  # too small for the big object: bg by its IoU of 0.09
        found(1, (0, 0, 30, 100), 0.8),  # medium, on the big object: loc, large
        found(1, small, 0.7),  # cls, small
        found(2, (300, 300, 100, 20), 0.6),  # medium, on the small object: loc, small
        found(1, (900, 900, 200, 200), 0.5),  # bg, large
        found(1, (310, 300, 20, 20), 0.4),  # both, small
    ]
    gt, dt = read(tmp_path, objects, results)
    sizes = by_size(gt, dt, match_and_label(gt, dt, Settings(convention=convention)))
    assert {name: count.tolist() for name, count in sizes.count.items()} == {
        "cls": [1, 0, 0], "loc": [1, 0, 1], "both": [1, 0, 0], "dup": [0, 0, 0], "bg": [1, 0, 1], "miss": [1, 0, 0],
    }  # fmt: skip
    assert sizes.objects.tolist() == [2, 0, 1]
    assert sizes.found.tolist() == [0, 0, 0]
    # The small loc error loses its object to the cls error; the large one is right, at rank 2: precision 1/2
    assert sizes.raw["loc"].tolist() == pytest.approx([0, 0, 100 * 51 / 101 / 2 / 2])
    assert sizes.raw["cls"].tolist() == pytest.approx([50, 0, 0])
    assert (sizes.raw["miss"] == 0).all()


def test_the_file_s_area_decides_in_the_coco_convention(tmp_path: Path) -> None:
    """A mask's area is smaller than its box; tidecv knows boxes alone."""
    gt, dt = read(tmp_path, [object_(1, (0, 0, 40, 40)) | {"area": 900}], [])
    coco, tidecv = (by_size(gt, dt, match_and_label(gt, dt, Settings(convention=c))) for c in CONVENTIONS)
    assert coco.objects.tolist() == [1, 0, 0]
    assert tidecv.objects.tolist() == [0, 1, 0]


def test_limits() -> None:
    area = np.array([0, 1024, 1024.5, 9216, 9217])
    assert [size.holds(area).tolist() for size in COCO_SIZES] == [
        [True, True, False, False, False],
        [False, False, True, True, False],
        [False, False, False, False, True],
    ]


@both_conventions
def test_nothing_to_fix(convention: str, tmp_path: Path) -> None:
    for objects, results in (([], []), ([object_(1, (0, 0, 9, 9))], []), ([], [found(1, (0, 0, 9, 9), 0.5)])):
        gt, dt = read(tmp_path, objects, results)
        sizes = by_size(gt, dt, match_and_label(gt, dt, Settings(convention=convention)))
        assert all(np.isfinite(values).all() for values in sizes.raw.values())


@pytest.mark.parametrize(
    "text",
    ["", "small", "small:", "small:0", "small:32-0", "small:a-b", "a:0-1,a:1-2", ":0-3", "s:-5-3", "s:nan-3", "s:0-0"],
)
def test_sizes_that_are_not_understood(text: str) -> None:
    with pytest.raises(BadInput, match="size"):
        parse_sizes(text)


def test_sizes_are_read() -> None:
    assert parse_sizes("small:0-32,medium:32-96,large:96-") == COCO_SIZES
    assert parse_sizes("a b:1.5-2")[0] == Size("a b", 1.5, 2)
