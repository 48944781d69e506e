"""What is advised is ranked by the AP at stake, and screen, document, figure and report name the same."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import Detections, GroundTruth, Settings, read_detections, read_ground_truth
from analysis.evaluation.analysis import Analysis, RunAnalysis
from analysis.evaluation.cap import CapEffect, OverCap
from analysis.evaluation.single_error_cost import costly
from analysis.render import slice_figures
from analysis.render.advice import error_takeaways, over_cap_sentence, worst_pair
from analysis.render.documents import errors_document
from analysis.render.figure_style import SCREEN, FigureStyle
from analysis.render.slices import confusion_table
from analysis.report.report import build_report
from tests.analysis import real_pairs
from tests.analysis.cases import found, object_, read
from tests.analysis.report.pages import text_of, write_data
from tests.command_line import run

DETECTORS = (real_pairs.YOLOV8N, real_pairs.YOLOV8M, real_pairs.EFFICIENTDET, real_pairs.YOLOV5S)


def analysed(gt: GroundTruth, dt: Detections, **settings: Any) -> RunAnalysis:
    return Analysis(gt, Settings(**settings), ("confusion",), at_stake=True).of("run", dt)


def test_screen_document_figure_and_report_name_the_same_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """On four real detectors; the most frequent confusion of three of them is another one."""
    gt = read_ground_truth(DETECTORS[0].paths()[0])
    detections = [(str(pair), read_detections(pair.paths()[1], gt)) for pair in DETECTORS]
    analyses = [Analysis(gt, Settings(), ("confusion",), at_stake=True).of(name, dt) for name, dt in detections]
    shades: list[np.ndarray] = []
    labels: list[tuple[list[str], list[str]]] = []
    heat = slice_figures.heat_map

    def watched(
        axis: Any, shade: np.ndarray, words: Any, across: list[str], down: list[str], style: FigureStyle
    ) -> None:
        shades.append(shade)
        labels.append((down, across))
        heat(axis, shade, words, across, down, style)

    monkeypatch.setattr(slice_figures, "heat_map", watched)
    runs = [(one.name, one.confusion) for one in analyses if one.confusion is not None]
    assert slice_figures._confusion(gt.category_name, "AP50", runs, SCREEN) is not None
    page = " ".join(text_of(build_report(gt, detections, Settings(), pictures=0).content.decode()).split())
    document = errors_document(gt, Settings(), analyses)
    table = confusion_table(gt, Settings(), [(one.name, one.confusion) for one in analyses], 1)  # type: ignore[misc]
    for place, one in enumerate(analyses):
        assert one.confusion is not None
        i = worst_pair(one.confusion)
        assert i is not None
        pair = [gt.category_name[c] for c in (one.confusion.true[i], one.confusion.predicted[i])]
        said = [text for text in error_takeaways(gt, one, most=6) if text.startswith("cls")]
        assert f"the costliest pair is {pair[0]} predicted as {pair[1]}: " in said[0]
        row, column = np.unravel_index(np.argmax(shades[place]), shades[place].shape)
        assert [labels[place][0][row], labels[place][1][column]] == pair
        first = next(entry for entry in document["runs"][place]["confusion"] if entry["true"] != entry["predicted"])
        assert [first["true"], first["predicted"]] == pair
        assert list(table.rows[place][1:3]) == pair
        assert page.count(f"he costliest pair is {pair[0]} predicted as {pair[1]}: ") >= 1
    frequent = [one.confusion.wrong()[np.argmax(one.confusion.count[one.confusion.wrong()])] for one in analyses]
    assert sum(i != worst_pair(one.confusion) for i, one in zip(frequent, analyses, strict=True)) >= 3


def test_junk_is_not_advised(tmp_path: Path) -> None:
    """Twenty confusions behind every true positive cost nothing; one before them does."""
    boxes = [[30 * n, 0, 25, 25] for n in range(4)]
    objects = [object_(1, boxes[0]), object_(2, boxes[1]), object_(3, boxes[2]), object_(4, boxes[3])]
    right = [found(c, box, 0.5) for c, box in zip((1, 2, 3), boxes, strict=False)]
    junk = [found(2, boxes[0], 0.001 + 0.0001 * n) for n in range(20)]
    gt, dt = read(tmp_path, objects, [*right, *junk, found(3, boxes[3], 0.9)], categories=4)
    one = analysed(gt, dt)
    said = " ".join(error_takeaways(gt, one))
    assert "21 detections, 1 of them costly" in said
    assert "the costliest pair is category 4 predicted as category 3" in said
    assert "never detected: category 4. Its AP is 0, which lowers the mean by up to 25.00 points" in said  # 100 / 4
    assert "category 2" not in said.replace("never detected: category 4", "")


def test_a_small_effect_of_the_cap_is_not_called_none() -> None:
    """57.94 and 57.96 print as 57.9 and 58.0, although the difference is below 0.05."""
    over = OverCap(696, 17, 170, 13, CapEffect(57.94, 57.96, None))
    assert over_cap_sentence(Settings(), over, "AP50").endswith(
        "; without the cap AP50 changes by less than 0.05 points"
    )


@given(st.lists(st.floats(0, 10, allow_subnormal=False), max_size=30))
def test_the_costly_are_the_fewest_that_hold_nine_tenths(costs: list[float]) -> None:
    cost = np.array(costs)
    chosen = costly(cost)
    whole = cost.sum()
    assert cost[chosen].sum() >= 0.9 * whole * (1 - 1e-12)
    if chosen.any():
        fewer = np.sort(cost)[::-1][: chosen.sum() - 1].sum()
        assert fewer < 0.9 * whole
    else:
        assert whole == 0


def test_perfect_is_only_said_of_what_is_measured(tmp_path: Path) -> None:
    box, crowd = [0, 0, 20, 20], [100, 100, 90, 90]
    objects = [object_(1, box), object_(1, crowd, iscrowd=1)]
    inside = [found(1, [105 + n, 105, 20, 20], 0.9) for n in range(15)]
    gt, dt = read(tmp_path, objects, [found(1, box, 0.8), *inside])
    assert error_takeaways(gt, analysed(gt, dt)) == [
        "no type of error costs 0.1 points or more among the detections that count; 15 of 16 do not: 15 in crowds or "
        "on ignored objects"
    ]
    gt, dt = read(tmp_path, objects[:1], [found(1, box, 0.8)])
    assert error_takeaways(gt, analysed(gt, dt)) == ["no type of error costs 0.1 points or more"]
    gt, dt = read(tmp_path, [], [found(1, box, 0.8)])
    assert error_takeaways(gt, analysed(gt, dt)) == [
        "no annotated object counts, so there is no AP and nothing to gain"
    ]


def test_misses_of_the_cap_are_not_blamed_on_the_score_threshold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    boxes = [[25 * n, 0, 20, 20] for n in range(7)]
    gt, dt = read(
        tmp_path, [object_(1, box) for box in boxes], [found(1, box, 0.9 - 0.1 * n) for n, box in enumerate(boxes)]
    )
    (said,) = error_takeaways(gt, analysed(gt, dt, max_dets=3))
    assert "4 of them are missed only because of the cap of 3 detections: --max-dets 7" in said
    assert "threshold" not in said

    (tmp_path / "dt.json").write_text(json.dumps([found(1, box, 0.9 - 0.1 * n) for n, box in enumerate(boxes)]))
    files = (tmp_path / "dt.json", "--gt", tmp_path / "gt.json", "--max-dets", "3")
    for verb, score in (("errors", "AP50"), ("ap", "AP@3")):
        assert run(monkeypatch, "analyze", verb, *files) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "note dt: 4 detections in 1 image exceed the cap of 3 per image and category" in shown
        assert "(at most 7 objects are annotated per image and category)" in shown
        assert re.search(rf"{score} is \d+\.\d with the cap and 100\.0 with --max-dets 7", shown)
        assert run(monkeypatch, "analyze", verb, *files, "--json") == 0
        (one,) = json.loads(capsys.readouterr().out)["runs"]
        assert (one["over_cap"]["detections"], one["over_cap"]["most_objects"]) == (4, 7)


def test_masks_are_called_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, _, files = write_data(tmp_path / "data", ("a", "b", "c", "d"))
    monkeypatch.chdir(tmp_path)
    options = ("--gt", truth, "--iou-type", "segm")
    shown = ""
    for verb in ("errors --by all", "ap", "compare --resamples 400", "report --resamples 0 --images data"):
        name, *more = verb.split()
        assert run(monkeypatch, "analyze", name, *files, *options, *more) == 0
        said = capsys.readouterr()
        shown += said.out + said.err
    shown += text_of(Path("report.html").read_text())
    shown = " ".join(shown.split())
    assert "mask overlaps too little" in shown
    assert "correct at mask IoU >= 0.5" in shown
    # Crowding is of boxes, and so is suppression.
    assert not re.search(r"\bbox(es)?\b(?! IoU)|regression|(?<!mask )(?<!box )\bIoU\b", shown), shown
