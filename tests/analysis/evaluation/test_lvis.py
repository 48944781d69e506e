"""LVIS's federated rules: AP equals lvis-api's, TIDE hotcoco's and tidecv's; every analysis works under them."""

import contextlib
import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis import BadInput, Settings, break_down, coco_metrics, load, operating_points, read_detections
from analysis import read_ground_truth as read
from analysis.evaluation.ap_evaluation import evaluate
from analysis.evaluation.matched_run import UNCHECKED
from tests.analysis import cases, lvis_detections
from tests.analysis.peers import HOTCOCO, TIDECV, Numbers, largest_difference, ours
from tests.command_line import run

KINDS = pytest.mark.parametrize(("iou_type", "decimals"), [("bbox", 1), ("segm", 9)])
BOTH = pytest.mark.parametrize("iou_type", ["bbox", pytest.param("segm", marks=pytest.mark.campaign)])


def lvis_api(truth: Path, results: Path, iou_type: str) -> dict[str, float]:
    """The 13 numbers of lvis-api in points, by our names."""
    pytest.importorskip("lvis", reason="LVIS's own evaluation; installed by the extra `verify`")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "float", float, raising=False)  # which lvis 0.5.3 needs with numpy from 1.24 on
        from lvis import LVIS, LVISEval, LVISResults

        logging.getLogger("lvis").setLevel(logging.ERROR)
        gt = LVIS(str(truth))
        evaluation = LVISEval(gt, LVISResults(gt, str(results)), iou_type)
        evaluation.run()
    found = evaluation.get_results()
    return {
        "AR300" if name == "AR@300" else name.replace("@300", ""): 100 * value if value > -1 else -1.0
        for name, value in found.items()
    }


@KINDS
def test_every_number_is_that_of_lvis_api(iou_type: str, decimals: int, tmp_path: Path) -> None:
    truth, results = lvis_detections.written(tmp_path, iou_type, decimals)
    gt = read(truth)
    found = coco_metrics(gt, read_detections(results, gt), iou_type=iou_type)
    expected = lvis_api(truth, results, iou_type)
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=0, abs=1e-12)
    assert found["AP"] > 5


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_ap_and_errors_are_those_of_hotcoco(iou_type: str, tmp_path: Path) -> None:
    pytest.importorskip("hotcoco", reason="the peer to compare with; installed by the extra `verify`")
    from hotcoco import COCO, COCOeval

    truth, results = lvis_detections.written(tmp_path, iou_type)
    theirs = COCO(str(truth))
    evaluation = COCOeval(theirs, theirs.loadRes(str(results)), iou_type, lvis_style=True)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.run()
    found = evaluation.tide_errors()
    expected = Numbers(
        100 * found["ap_base"],
        {name: 100 * found["delta_ap"][own] for name, own in zip(ours_names(), HOTCOCO, strict=True)},
        {name: found["counts"][own] for name, own in zip(ours_names()[:6], HOTCOCO[:6], strict=True)},
    )
    gt = read(truth)
    here = ours(break_down(gt, read_detections(results, gt), iou_type=iou_type))
    assert here.count == expected.count
    assert largest_difference(here, expected) < 1e-9


@BOTH
@pytest.mark.filterwarnings("ignore")
def test_errors_are_those_of_tidecv(iou_type: str, tmp_path: Path) -> None:
    pytest.importorskip("tidecv", reason="the peer to compare with; installed by the extra `verify`")
    from tidecv import TIDE, datasets

    truth, results = lvis_detections.written(tmp_path, iou_type)
    gt, dt = datasets.LVIS(str(truth)), datasets.COCOResult(str(results))
    dt.max_dets = 300
    tide = TIDE(mode=TIDE.MASK if iou_type == "segm" else TIDE.BOX)
    tide.evaluate(gt, dt, name="dt")
    errors = tide.get_all_errors()
    found = errors["main"]["dt"] | errors["special"]["dt"]
    counts = {error.short_name: count for error, count in tide.runs["dt"].count_errors().items()}
    expected = Numbers(
        tide.runs["dt"].ap,
        {name: found[own] for name, own in zip(ours_names(), TIDECV, strict=True)},
        {name: counts[own] for name, own in zip(ours_names()[:6], TIDECV[:6], strict=True)},
    )
    own = read(truth)
    here = ours(break_down(own, read_detections(results, own), convention="tidecv", iou_type=iou_type))
    assert here.count == expected.count
    assert largest_difference(here, expected) < 1e-9


def ours_names() -> tuple[str, ...]:
    return ("cls", "loc", "both", "dup", "bg", "miss", "fp", "fn")


BOX = [10.0, 10.0, 40.0, 40.0]


def small(**fields: Any) -> dict[str, Any]:
    """Two images; in the first category 1 is annotated and 2 absent, in the second 1 is not exhaustively annotated."""
    document = cases.document([cases.object_(1, BOX, 1), cases.object_(1, BOX, 2)], (1, 2), categories=4)
    document["images"][0] |= {"neg_category_ids": [2], "not_exhaustive_category_ids": []}
    document["images"][1] |= {"neg_category_ids": [], "not_exhaustive_category_ids": [1]}
    for category, letter in zip(document["categories"], "rcfr", strict=True):
        category["frequency"] = letter
    return document | fields


def test_what_counts_by_hand() -> None:
    far = [120.0, 120.0, 30.0, 30.0]
    results = [
        cases.found(1, BOX, 0.9, 1),  # right
        cases.found(2, far, 0.8, 1),  # wrong: 2 is known to be absent
        cases.found(3, far, 0.7, 1),  # 3 was not looked for: not evaluated
        cases.found(1, far, 0.6, 1),  # wrong: 1 is annotated exhaustively here
        cases.found(1, far, 0.5, 2),  # not evaluated: objects of 1 may be missing here
        cases.found(1, BOX, 0.4, 2),  # right
    ]
    gt, dt = load(small(), results)
    breakdown = break_down(gt, dt)
    assert breakdown.labels.error.tolist()[2] == UNCHECKED
    assert breakdown.labels.ignored.tolist() == [False, False, False, False, True, False]
    assert (breakdown.true_positives, breakdown.count["bg"]) == (2, 2)
    (point,) = operating_points(gt, [("run", dt)], resamples=0)
    assert int(point.scored.right.sum()) == 2
    assert len(point.scored.score) == 4


def test_the_cap_counts_all_categories_of_an_image() -> None:
    results = [cases.found(1 + number % 2, [float(number), 60.0, 5.0, 5.0], 0.9, 1) for number in range(4)]
    results.append(cases.found(1, BOX, 0.1, 1))
    gt, dt = load(small(), results)
    assert break_down(gt, dt, max_dets=4).true_positives == 0
    assert break_down(gt, dt, max_dets=5).true_positives == 1
    assert evaluate(gt, dt).caps == (300,)


def test_an_object_marked_ignore_does_not_count_and_crowds_do() -> None:
    document = small()
    document["annotations"][0]["ignore"] = 1
    document["annotations"][1]["iscrowd"] = 1
    gt, _ = load(document, [])
    assert gt.ignore.tolist() == [True, False]
    assert any("iscrowd, which does not exist in LVIS" in sentence for sentence in gt.warnings)


def test_the_digest_tells_other_rules() -> None:
    other = small()
    other["images"][0]["neg_category_ids"] = [2, 3]
    plain = small()
    for image in plain["images"]:
        del image["neg_category_ids"], image["not_exhaustive_category_ids"]
    assert len({load(one, [])[0].digest for one in (small(), other, plain)}) == 3


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d["images"][1].pop("neg_category_ids"), "images[1] (id 2) has no neg_category_ids but 2 of 2"),
        (lambda d: d["images"][0].pop("not_exhaustive_category_ids"), "has no not_exhaustive_category_ids"),
        (lambda d: [image.pop("neg_category_ids") for image in d["images"]], "has no neg_category_ids"),
        (lambda d: d["images"][0].update(neg_category_ids=[2, 77]), "contains 77, which is not one of the categories"),
        (lambda d: d["images"][0].update(not_exhaustive_category_ids=[99]), "contains 99, which is not one of"),
        (lambda d: d["images"][0].update(neg_category_ids="2"), "neg_category_ids of images[0] (id 1) is not a list"),
        (lambda d: d["images"][0].update(neg_category_ids=[True]), "is not a list of category ids"),
        (lambda d: d["images"][0].update(neg_category_ids=[2.5]), "is not a list of category ids"),
        (lambda d: d["categories"][1].update(frequency="x"), "the frequency 'x' of categories[1] is not r, c or f"),
        (lambda d: d["categories"][1].update(frequency=3), "is not r, c or f"),
        (lambda d: d["categories"][1].pop("frequency"), "categories[1] has no frequency but others do"),
    ],
)
def test_bad_fields_are_named(spoil: Callable[[dict[str, Any]], object], words: str) -> None:
    document = small()
    spoil(document)
    with pytest.raises(BadInput, match="ground truth in memory: ") as refusal:
        load(document, [])
    assert words in str(refusal.value)
    assert ";" in str(refusal.value)


def test_settings_of_the_other_rules_are_refused() -> None:
    gt, dt = load(small(), [cases.found(1, BOX, 0.9)])
    from analysis.evaluation.tide import match_and_label

    with pytest.raises(BadInput, match="this file needs LVIS's rules"):
        match_and_label(gt, dt, Settings())
    assert match_and_label(gt, dt, Settings.on(gt)).settings.max_dets == 300


@pytest.mark.parametrize(
    "command",
    [
        ["errors"],
        ["compare", "--resamples", "400"],
        ["ap", "--by", "all", "--verify"],
        ["threshold", "--resamples", "20", "--per-class"],
    ],
    ids=lambda command: command[0],
)
def test_every_verb_says_which_rules_hold(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results = [cases.found(1, BOX, 0.9, 1), cases.found(3, BOX, 0.8, 1), cases.found(1, BOX, 0.4, 2)]
    files = [cases.write(tmp_path / name, content) for name, content in (("gt.json", small()), ("dt.json", results))]
    other = cases.write(tmp_path / "other.json", results[:1])
    assert run(monkeypatch, "analyze", command[0], files[1], other, "--gt", files[0], *command[1:]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "LVIS's rules: a category counts only in images where it was checked" in shown
    assert "(LVIS)" in shown
    if command[0] == "errors":
        assert "1 detections of categories that were not checked in their image" in shown
    assert run(monkeypatch, "analyze", "errors", files[1], "--gt", files[0], "--class-agnostic") == 4
    assert "leave out --class-agnostic" in capsys.readouterr().err
