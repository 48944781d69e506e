"""Cases worked out by hand: each error, each boundary, and each point at which the two conventions part."""

from pathlib import Path

import numpy as np
import pytest

from analysis import BadInput, break_down, coco_metrics, read_detections, read_ground_truth
from analysis.evaluation.error_types import LABEL_NAMES
from analysis.evaluation.matched_run import IGNORED, OVER_CAP
from analysis.evaluation.settings import CONVENTIONS
from tests.analysis import real_pairs
from tests.analysis.cases import Box, Record, found, object_, read, write
from tests.analysis.peers import as_rle, load
from tests.analysis.real_pairs import RealPair

WHOLE = (0, 0, 100, 100)
FAR = (150, 150, 20, 20)
both_conventions = pytest.mark.parametrize("convention", CONVENTIONS)


def strip(share: float) -> Box:
    """A box inside WHOLE that overlaps it by exactly this IoU."""
    return (0, 0, 100 * share, 100)


def label(
    folder: Path, objects: list[Record], results: list[Record], convention: str = "coco", **settings: float
) -> list[str]:
    gt, dt = read(folder, objects, results)
    labels = break_down(gt, dt, convention=convention, **settings).labels  # type: ignore[arg-type]
    return [LABEL_NAMES[error] for error in labels.error]


@both_conventions
@pytest.mark.parametrize(
    ("box", "category", "expected"),
    [
        (WHOLE, 1, "tp"),
        (strip(0.5), 1, "tp"),  # right from t_f on, inclusive
        (strip(0.49), 1, "loc"),
        (strip(0.1), 1, "loc"),  # t_b inclusive
        (strip(0.09), 1, "bg"),
        (FAR, 1, "bg"),
        (WHOLE, 2, "cls"),
        (strip(0.5), 2, "cls"),  # t_f inclusive
        (strip(0.49), 2, "both"),
        (strip(0.11), 2, "both"),
        (strip(0.1), 2, "bg"),  # t_b inclusive
        (FAR, 2, "bg"),
    ],
)
def test_one_detection_on_one_object(box: Box, category: int, expected: str, convention: str, tmp_path: Path) -> None:
    assert label(tmp_path, [object_(1, WHOLE)], [found(category, box, 0.9)], convention) == [expected]


@both_conventions
@pytest.mark.parametrize(
    ("iou", "background_iou", "share", "expected"),
    [
        (0.75, 0.1, 0.75, "tp"),
        (0.75, 0.1, 0.74, "loc"),
        (0.5, 0.25, 0.25, "loc"),
        (0.5, 0.25, 0.24, "bg"),
        (0.5, 0.5, 0.49, "bg"),
        (1.0, 0.1, 1.0, "tp"),
    ],
)
def test_other_thresholds(
    iou: float, background_iou: float, share: float, expected: str, convention: str, tmp_path: Path
) -> None:
    objects, results = [object_(1, WHOLE)], [found(1, strip(share), 0.9)]
    assert label(tmp_path, objects, results, convention, iou=iou, background_iou=background_iou) == [expected]


@both_conventions
def test_a_second_detection_of_a_used_object(convention: str, tmp_path: Path) -> None:
    """Above t_f it is a duplicate; at t_f exactly it is still called badly placed."""
    results = [found(1, WHOLE, 0.9), found(1, strip(0.6), 0.8), found(1, strip(0.5), 0.7), found(1, strip(0.3), 0.6)]
    assert label(tmp_path, [object_(1, WHOLE)], results, convention) == ["tp", "dup", "loc", "loc"]


@both_conventions
def test_cls_comes_before_dup_and_loc_before_cls(convention: str, tmp_path: Path) -> None:
    objects = [object_(1, WHOLE), object_(2, WHOLE)]
    results = [found(1, WHOLE, 0.9), found(1, strip(0.6), 0.8), found(1, strip(0.5), 0.7)]
    assert label(tmp_path, objects, results, convention) == ["tp", "cls", "loc"]


@both_conventions
def test_what_a_wrong_category_or_place_costs(convention: str, tmp_path: Path) -> None:
    """One object of one category: fixing the only error makes the AP 100, or leaves nothing to be wrong."""
    for category, box, error in [(2, WHOLE, "cls"), (1, strip(0.3), "loc")]:
        gt, dt = read(tmp_path, [object_(1, WHOLE)], [found(category, box, 0.9)])
        result = break_down(gt, dt, convention=convention)
        assert result.ap == 0
        assert result.delta_ap[error] == pytest.approx(100)
        assert result.count == {name: int(name == error) for name in result.count}  # pointed at, so not missed


@both_conventions
def test_what_a_background_error_costs(convention: str, tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, WHOLE)], [found(1, FAR, 0.9), found(1, WHOLE, 0.8)])
    result = break_down(gt, dt, convention=convention)
    assert result.ap == pytest.approx(50)
    assert result.delta_ap["bg"] == result.delta_ap["fp"] == pytest.approx(50)
    assert result.count["bg"] == 1


@both_conventions
def test_what_a_duplicate_costs(convention: str, tmp_path: Path) -> None:
    objects = [object_(1, WHOLE), object_(1, FAR)]
    gt, dt = read(tmp_path, objects, [found(1, WHOLE, 0.9), found(1, strip(0.6), 0.8), found(1, FAR, 0.7)])
    result = break_down(gt, dt, convention=convention)
    assert result.ap == pytest.approx(100 * (51 + 50 * 2 / 3) / 101)  # 51 recalls at precision 1, 50 at 2/3
    assert result.delta_ap["dup"] == result.delta_ap["fp"] == pytest.approx(100 - result.ap)
    assert result.count["dup"] == 1


@both_conventions
def test_the_best_of_those_that_claim_an_object_wins(convention: str, tmp_path: Path) -> None:
    """Of two loc errors on one free object the better becomes right, the other is dropped; the first of a tie wins."""
    results = [found(1, strip(0.3), 0.5), found(1, strip(0.4), 0.9), found(1, strip(0.2), 0.9)]
    gt, dt = read(tmp_path, [object_(1, WHOLE)], results)
    result = break_down(gt, dt, convention=convention)
    assert result.labels.recovers_gt.tolist() == [False, True, False]
    assert result.labels.target.tolist() == [0, 0, 0]
    assert result.delta_ap["loc"] == pytest.approx(100)
    assert result.count["miss"] == 0


@both_conventions
def test_an_error_on_a_used_object_wins_nothing(convention: str, tmp_path: Path) -> None:
    results = [found(1, WHOLE, 0.9), found(2, WHOLE, 0.8), found(1, strip(0.3), 0.7)]
    gt, dt = read(tmp_path, [object_(1, WHOLE), object_(2, FAR)], results)
    result = break_down(gt, dt, convention=convention)
    assert [LABEL_NAMES[e] for e in result.labels.error] == ["tp", "cls", "loc"]
    assert not result.labels.recovers_gt.any()
    assert result.count["miss"] == 1  # nothing points at the object of category 2


@both_conventions
def test_a_crowd_is_never_missed_and_no_evidence_of_a_misplaced_box(convention: str, tmp_path: Path) -> None:
    """A detection with a share of 0.3 inside a crowd of its own category is on background."""
    crowd = object_(1, (70, 0, 100, 100), iscrowd=1)
    objects = [crowd, object_(1, FAR)]
    gt, dt = read(tmp_path, objects, [found(1, WHOLE, 0.9), found(1, FAR, 0.8)])
    result = break_down(gt, dt, convention=convention)
    assert [LABEL_NAMES[e] for e in result.labels.error] == ["bg", "tp"]
    assert result.labels.missed.tolist() == [False, False]
    assert result.positives == 1


@both_conventions
def test_an_object_that_nothing_points_at_is_missed(convention: str, tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, WHOLE), object_(1, FAR), object_(1, WHOLE, image=2)],
                  [found(1, WHOLE, 0.9)], images=(1, 2))  # fmt: skip
    result = break_down(gt, dt, convention=convention)
    assert result.labels.missed.tolist() == [False, True, True]
    assert result.ap == pytest.approx(100 * 34 / 101)  # recalls 0, 0.01, ..., 0.33
    assert result.delta_ap["miss"] == result.delta_ap["fn"] == pytest.approx(100 - result.ap)


@both_conventions
def test_nothing_at_all(convention: str, tmp_path: Path) -> None:
    """Where tidecv divides by zero the AP is 0 and nothing can be gained."""
    gt, dt = read(tmp_path, [], [])
    result = break_down(gt, dt, convention=convention)
    assert result.ap == 0
    assert set(result.delta_ap.values()) == {0.0}
    assert set(result.count.values()) == {0}
    assert set(coco_metrics(gt, dt).values()) == {-1.0}


@both_conventions
def test_detections_without_a_single_object(convention: str, tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [], [found(1, WHOLE, 0.9)])
    result = break_down(gt, dt, convention=convention)
    assert result.ap == 0
    assert result.count["bg"] == 1
    assert set(result.delta_ap.values()) == {0.0}


@both_conventions
def test_objects_without_a_single_detection(convention: str, tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, WHOLE), object_(2, FAR)], [])
    result = break_down(gt, dt, convention=convention)
    assert (result.ap, result.count["miss"], result.never_detected) == (0, 2, (0, 1))
    assert all(np.isfinite(delta) for delta in result.delta_ap.values())


@both_conventions
def test_scores_of_minus_one_and_below(convention: str, tmp_path: Path) -> None:
    """Such a score cannot win an object in tidecv, which then fails; here the better one still wins."""
    results = [found(1, strip(0.3), -2.0), found(1, strip(0.4), -1.0)]
    gt, dt = read(tmp_path, [object_(1, WHOLE)], results)
    result = break_down(gt, dt, convention=convention)
    assert result.labels.recovers_gt.tolist() == [False, True]
    assert result.delta_ap["loc"] == pytest.approx(100)


@pytest.mark.parametrize("pair", [real_pairs.FAKE_BOXES, real_pairs.MASKS], ids=str)
@both_conventions
def test_ground_truth_as_its_own_prediction(pair: RealPair, convention: str, tmp_path: Path) -> None:
    path, _ = pair.paths()
    truth = load(path)
    size = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    results = []
    for a in truth["annotations"]:
        if not a["iscrowd"]:
            results.append({key: a[key] for key in ("image_id", "category_id", "bbox")} | {"score": 1.0})
            if pair.iou_type == "segm":
                rle = as_rle(a["segmentation"], *size[a["image_id"]])
                counts = rle["counts"] if isinstance(rle["counts"], str) else rle["counts"].decode()
                results[-1]["segmentation"] = {"size": rle["size"], "counts": counts}
    gt = read_ground_truth(path)
    dt = read_detections(write(tmp_path / "dt.json", results), gt)
    result = break_down(gt, dt, convention=convention, iou_type=pair.iou_type)
    assert result.ap == pytest.approx(100)
    assert result.true_positives == result.positives == len(results)
    assert set(result.count.values()) == {0}
    assert max(map(abs, result.delta_ap.values())) < 1e-9
    assert coco_metrics(gt, dt, iou_type=pair.iou_type)["AP"] == pytest.approx(100)


class TestWhereTheConventionsDiffer:
    """The table of docs/conventions.md, row by row: `coco` first, `tidecv` second."""

    def test_the_cap_is_per_category_or_per_image(self, tmp_path: Path) -> None:
        objects = [object_(1, WHOLE), object_(2, FAR)]
        gt, dt = read(tmp_path, objects, [found(1, WHOLE, 0.9), found(2, FAR, 0.8)])
        coco, tidecv = (break_down(gt, dt, max_dets=1, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((100, 50))
        assert tidecv.labels.error.tolist()[1] == OVER_CAP

    def test_a_category_without_objects_is_left_out_or_counts_as_zero(self, tmp_path: Path) -> None:
        gt, dt = read(tmp_path, [object_(1, WHOLE)], [found(1, WHOLE, 0.9), found(2, FAR, 0.8)])
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((100, 50))
        # Its only detection is dropped by the fix, and the category leaves tidecv's mean.
        assert (coco.delta_ap["bg"], tidecv.delta_ap["bg"]) == pytest.approx((0, 50))

    def test_a_category_never_detected_stays_at_zero_or_vanishes(self, tmp_path: Path) -> None:
        gt, dt = read(tmp_path, [object_(1, WHOLE), object_(2, FAR)], [found(1, WHOLE, 0.9)])
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((50, 50))
        for error in ("miss", "fn"):
            assert (coco.delta_ap[error], tidecv.delta_ap[error]) == pytest.approx((0, 50))
        assert coco.never_detected == tidecv.never_detected == (1,)

    def test_detections_in_a_crowd_are_dropped_or_labelled(self, tmp_path: Path) -> None:
        objects = [object_(1, WHOLE, iscrowd=1), object_(1, FAR)]
        gt, dt = read(tmp_path, objects, [found(1, strip(0.6), 0.9), found(1, FAR, 0.8)])
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((100, 100))
        assert (coco.count["bg"], tidecv.count["bg"]) == (0, 1)
        assert coco.labels.error[0] == IGNORED
        assert coco.labels.ignored.tolist() == tidecv.labels.ignored.tolist() == [True, False]

    def test_a_share_of_exactly_the_threshold_in_a_crowd(self, tmp_path: Path) -> None:
        """COCOeval ignores at the threshold, tidecv only above it."""
        objects = [object_(1, (50, 0, 100, 100), iscrowd=1), object_(1, FAR)]
        gt, dt = read(tmp_path, objects, [found(1, WHOLE, 0.9), found(1, FAR, 0.8)])
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((100, 50))

    def test_tied_scores(self, tmp_path: Path) -> None:
        """The curves that tidecv rebuilds put wrong before right: fixing nothing loses AP there."""
        gt, dt = read(tmp_path, [object_(1, WHOLE), object_(2, FAR)],
                      [found(1, WHOLE, 0.5), found(1, FAR, 0.5), found(2, FAR, 0.9)])  # fmt: skip
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((100, 100))
        assert coco.raw["dup"] == coco.raw["fn"] == 0
        assert tidecv.raw["dup"] == tidecv.delta_ap["fn"] == pytest.approx(-25)
        assert tidecv.delta_ap["dup"] == 0  # clamped

    def test_equal_overlaps(self, tmp_path: Path) -> None:
        """COCOeval takes the last of the objects, tidecv the first; errors point at the first in both."""
        objects = [object_(1, (0, 0, 20, 10)), object_(1, (20, 0, 20, 10))]
        gt, dt = read(tmp_path, objects, [found(1, (10, 0, 20, 10), 0.9)])
        coco, tidecv = (break_down(gt, dt, iou=0.3, convention=c) for c in CONVENTIONS)
        assert (coco.labels.target.tolist(), tidecv.labels.target.tolist()) == ([1], [0])
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert coco.labels.target.tolist() == tidecv.labels.target.tolist() == [0]

    def test_equal_scores_in_different_images(self, tmp_path: Path) -> None:
        """COCOeval goes through the images by id, tidecv in the order of the file."""
        gt, dt = read(tmp_path, [object_(1, WHOLE, image=7)], [found(1, WHOLE, 0.5, 7), found(1, WHOLE, 0.5, 3)],
                      images=(7, 3))  # fmt: skip
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.ap, tidecv.ap) == pytest.approx((50, 100))

    def test_an_area_beyond_coco_s_range(self, tmp_path: Path) -> None:
        """COCO's range "all" ends at 1e5 squared: what is larger is left out there."""
        giant = (0, 0, 2e5, 1e5)
        gt, dt = read(tmp_path, [object_(1, giant), object_(1, FAR, image=2)],
                      [found(1, giant, 0.9), found(1, FAR, 0.8, image=2)], images=(1, 2))  # fmt: skip
        coco, tidecv = (break_down(gt, dt, convention=c) for c in CONVENTIONS)
        assert (coco.positives, tidecv.positives) == (1, 2)
        assert (coco.true_positives, tidecv.true_positives) == (1, 2)
        assert coco.labels.error[0] == IGNORED

    def test_objects_marked_difficult_count_unless_respected(self, tmp_path: Path) -> None:
        objects = [object_(1, WHOLE), object_(1, FAR, ignore=1)]
        results = [found(1, WHOLE, 0.9)]
        for convention in CONVENTIONS:
            result = break_down(*read(tmp_path, objects, results), convention=convention)
            assert (result.positives, result.count["miss"]) == (2, 1)
            result = break_down(*read(tmp_path, objects, results, respect_ignore=True), convention=convention)
            assert (result.positives, result.count["miss"]) == (1, 0)


@pytest.mark.parametrize(
    "settings",
    [
        {"iou": 0.0},
        {"iou": 1.1},
        {"iou": float("nan")},
        {"background_iou": 0.6},
        {"background_iou": 0.0},
        {"max_dets": 0},
        {"convention": "voc"},
        {"iou_type": "keypoints"},
    ],
    ids=str,
)
def test_settings_out_of_range(settings: dict[str, float], tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, WHOLE)], [])
    with pytest.raises(BadInput):
        break_down(gt, dt, **settings)  # type: ignore[arg-type]
