"""A run whose detector may give more than 100 boxes an image is measured under that cap, and its table says so."""

import json
from pathlib import Path

import pytest

from ablate.config.schema import Coco
from ablate.execute.evaluation import Evaluation, evaluate, read_evaluation
from ablate.runs.folder import Workspace
from ablate.studies.published import COCO_VALIDATION
from ablate.studies.results import summarise
from ablate.studies.study import Study
from ablate.studies.tables import scores_table
from analysis import coco_metrics, read_detections, read_ground_truth
from tests.ablate.finished import altered, finish
from tests.ablate.studies.test_results import on_coco
from tests.ablate.tiny import prepared, tiny_config


@pytest.mark.parametrize(("most", "cap"), [(20, 100), (100, 100), (300, 300)])
def test_the_cap_of_the_evaluation_is_that_of_the_detector_from_100_on(
    most: int, cap: int, data: Coco, tmp_path: Path
) -> None:
    folder = prepared(tmp_path, tiny_config(data, evaluate__max_detections=most))
    truth = json.loads(Path(data.annotations).read_text())
    first = truth["annotations"][0]
    junk = {**first, "bbox": [0, 0, 1, 1], "score": 0.9}
    records = [junk] * 120 + [{**first, "score": 0.1}]  # the object is found behind the cap of 100
    keys = ("image_id", "category_id", "bbox", "segmentation", "score")
    folder.predictions.write_text(json.dumps([{key: record[key] for key in keys} for record in records]))
    evaluate(folder)
    found = read_evaluation(folder.evaluation)
    gt = read_ground_truth(data.annotations)
    expected = coco_metrics(gt, read_detections(folder.predictions, gt), max_dets=(1, 10, cap))
    assert found.max_dets == cap
    assert found.box.metrics == expected
    assert f"AR{cap}" in found.box.metrics
    assert (expected[f"AR{cap}"] > 0) == (cap == 300)
    assert found.box.ap == pytest.approx(expected["AP50"])


def test_its_table_says_so_and_leaves_published_numbers_out(root: Path) -> None:
    from ablate.axes import AXES
    from ablate.studies.plan import Request, plan

    images, objects = COCO_VALIDATION
    study: Study = on_coco(plan(AXES["backbone"], Request(only=["ResNet-50"]), Workspace(root)))
    folders = [finish(root, study, run, 40.0, images=images, objects=objects) for run in study.runs]
    usual = summarise(Workspace(root), study)
    assert usual.published
    assert [column.name for column in scores_table(usual).columns][1] == "box AP"
    for folder in folders:
        altered(folder.evaluation, Evaluation, max_dets=300)
    summary = summarise(Workspace(root), study)
    assert not summary.published
    assert not any(row.published for row in summary.rows)
    heads = [column.name for column in scores_table(summary).columns]
    assert {"box AP@300", "mask AP@300"} <= set(heads)
    assert "published AP is left out: it is measured with at most 100 detections, this study with 300" in summary.notes


@pytest.fixture
def root(shapes_root: Path) -> Path:
    return shapes_root
