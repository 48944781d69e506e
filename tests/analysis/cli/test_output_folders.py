"""`analyze` given folders: detectron2's in all its layouts, a run of this project, and everything that is neither."""

import json
import shutil
from pathlib import Path

import pytest

from ablate.config.yaml import load_config
from ablate.runs.folder import RunFolder, write_json
from analysis import break_down, read_detections, read_ground_truth
from analysis.cli.analyze import Output, look_into
from analysis.coco.synthetic import write_example
from analysis.evaluation.analysis import name_runs
from analysis.exceptions import BadInput
from tests.command_line import run

RESULTS = "coco_instances_results.json"


@pytest.fixture
def example(tmp_path: Path) -> tuple[Path, Path]:
    """Ground truth and predictions of a simulated detector."""
    truth, files = write_example(tmp_path / "example", images=30)
    return truth, files["sloppy-boxes"]


def touch(path: Path, content: str = "[]") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


@pytest.mark.parametrize("place", ["", "inference/", "inference/my_val/", "inference_TTA/"])
def test_the_layouts_of_detectron2(tmp_path: Path, place: str) -> None:
    results = touch(tmp_path / "out" / place / RESULTS)
    touch(tmp_path / "out" / "last_checkpoint", "model_final.pth")
    touch(tmp_path / "out" / "metrics.json", "{}")
    assert look_into(tmp_path / "out") == Output(results, None)


@pytest.mark.parametrize("where", ["out", "out/inference", "out/inference/my_val"])
def test_a_converted_data_set_is_the_ground_truth(tmp_path: Path, where: str) -> None:
    results = touch(tmp_path / "out/inference/my_val" / RESULTS)
    truth = touch(tmp_path / where / "my_val_coco_format.json", "{}")
    touch(tmp_path / "out/inference/my_val/my_val_coco_format.json.lock", "")
    assert look_into(tmp_path / "out") == Output(results, truth)


def test_of_several_converted_data_sets_the_one_named_as_the_folder_counts(tmp_path: Path) -> None:
    results = touch(tmp_path / "out/inference/b" / RESULTS)
    for name in ("a", "b"):
        touch(tmp_path / f"out/inference/{name}_coco_format.json", "{}")
    assert look_into(tmp_path / "out").truth == tmp_path / "out/inference/b_coco_format.json"
    moved = tmp_path / "out/inference" / RESULTS
    results.rename(moved)
    assert look_into(tmp_path / "out") == Output(moved, None)  # which of the two is not told


def test_the_folder_itself_goes_before_what_lies_deeper(tmp_path: Path) -> None:
    touch(tmp_path / "inference" / "val" / RESULTS)
    direct = touch(tmp_path / RESULTS)
    assert look_into(tmp_path).predictions == direct


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "is an empty folder"),
        ([f"inference/{name}/{RESULTS}" for name in ("a", "b")], "contains several results files; give one of "),
        (["metrics.json", "model_final.pth"], "training without an evaluation"),
        (["instances_predictions.pth"], f"no {RESULTS}; run the evaluation again"),
        (["epoch_12.bbox.json", "epoch_12.segm.json"], "give a COCO results file: "),  # mmdetection
        (["args.yaml", "predictions.json"], "give a COCO results file: "),  # ultralytics
        ([f"{n}.json" for n in "abcdefghi"], " and 3 more"),
        (["notes.txt"], "no other JSON file"),
        (["config.yaml", "manifest.json"], "is a run without predictions; finish it"),
        (["config.yaml", "metrics.json", "model_0000004.pth"], "run it with --eval-only"),
    ],
)
def test_other_folders_are_refused_with_what_to_do(tmp_path: Path, files: list[str], words: str) -> None:
    folder = tmp_path / "a folder"
    folder.mkdir()
    for name in files:
        touch(folder / name)
    with pytest.raises(BadInput) as refused:
        look_into(folder)
    assert str(refused.value).startswith(f"{folder}: ")
    assert words in str(refused.value)
    for name in files[:6]:
        if name.endswith(".json") and words.startswith(("give a", "contains several")):
            assert str(folder / name) in str(refused.value)


def test_folders_are_named_by_their_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("vit", "resnet", "v1.json"):
        touch(tmp_path / name / "inference" / RESULTS)
    both = [str(tmp_path / "vit"), str(tmp_path / "resnet" / "inference")]
    assert [name for name, _ in name_runs(both)] == ["vit", "resnet"]
    assert name_runs([both[0] + "/"]) == [("vit", tmp_path / "vit")]
    monkeypatch.chdir(tmp_path / "vit")
    assert name_runs(["."])[0][0] == "vit"
    assert name_runs(["inference"])[0][0] == "vit"
    assert [name for name, _ in name_runs(["x=.", "../resnet"])] == ["x", "resnet"]


def test_analyze_reads_a_detectron2_folder(example, tmp_path: Path, monkeypatch, capsys) -> None:
    truth, predictions = example
    out = tmp_path / "exp 7"
    touch(out / "inference" / RESULTS, predictions.read_text())
    assert run(monkeypatch, "analyze", "errors", out, "--gt", truth, "--json") == 0
    (entry,) = json.loads(capsys.readouterr().out)["runs"]
    gt = read_ground_truth(truth)
    expected = break_down(gt, read_detections(predictions, gt))
    assert (entry["name"], entry["path"]) == ("exp 7", str(out / "inference" / RESULTS))
    assert entry["delta_ap"] == expected.delta_ap

    assert run(monkeypatch, "analyze", "errors", out) == 2
    assert "not every folder contains one" in " ".join(capsys.readouterr().err.replace("│", " ").split())
    shutil.copy(truth, out / "inference" / "val_coco_format.json")
    assert run(monkeypatch, "analyze", "ap", out, "--json") == 0
    assert json.loads(capsys.readouterr().out)["runs"][0]["name"] == "exp 7"


def test_folders_side_by_side_must_agree_on_the_ground_truth(example, tmp_path: Path, monkeypatch, capsys) -> None:
    truth, predictions = example
    for name in ("a", "b"):
        touch(tmp_path / name / RESULTS, predictions.read_text())
        touch(tmp_path / name / "val_coco_format.json", truth.read_text())
    folders = (tmp_path / "a", tmp_path / "b")
    assert run(monkeypatch, "analyze", "errors", *folders, "--json") == 0
    assert [entry["name"] for entry in json.loads(capsys.readouterr().out)["runs"]] == ["a", "b"]
    assert run(monkeypatch, "analyze", "errors", *folders, predictions) == 2  # of the file nothing is told
    capsys.readouterr()
    assert run(monkeypatch, "analyze", "errors", *folders, f"c={predictions}", "--gt", truth, "--json") == 0
    capsys.readouterr()
    document = json.loads(truth.read_text())
    document["annotations"] = document["annotations"][1:]
    (tmp_path / "b" / "val_coco_format.json").write_text(json.dumps(document))
    assert run(monkeypatch, "analyze", "errors", *folders) == 4
    printed = capsys.readouterr()
    assert "differ, so their runs cannot be compared; give one ground truth with --gt" in printed.err
    assert printed.out == ""


def test_analyze_reads_a_run_folder(example, tmp_path: Path, monkeypatch, capsys) -> None:
    truth, predictions = example
    (tmp_path / "images").mkdir()
    data = {"type": "coco", "annotations": str(truth), "images": str(tmp_path / "images")}
    changes = [f"data.{split}={json.dumps(data)}" for split in ("train", "validation")]
    folder = RunFolder(tmp_path / "results" / "runs" / "0123456789ab")
    folder.prepare(load_config("tiny-shapes", changes), load_config("tiny-shapes"))  # any struct will do as a manifest
    write_json(folder.manifest, {"schema": 1})
    shutil.copy(predictions, folder.predictions)
    monkeypatch.chdir(folder.path)
    for name in (folder.path, "."):
        assert run(monkeypatch, "analyze", "errors", name, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert document["ground_truth"]["path"] == str(truth)
        assert document["runs"][0]["name"] == "0123456789ab"


def test_a_run_folder_that_was_moved_away_from_the_embedded_data_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder(tmp_path / "elsewhere" / "run" / "copied")
    folder.prepare(load_config("tiny-shapes"), load_config("tiny-shapes"))
    folder.predictions.write_text("[]")
    before = sorted(tmp_path.rglob("*"))
    assert run(monkeypatch, "analyze", "errors", folder.path) == 4
    assert "give the ground truth with --gt" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.detectron2
def test_what_detectron2s_evaluator_writes_is_read(example, tmp_path: Path, monkeypatch, capsys) -> None:
    """Its COCOEvaluator, fed with a data set in its own format and with `Instances`; the AP is the one it prints."""
    import warnings

    warnings.simplefilter("ignore")
    pytest.importorskip("detectron2", reason="needs detectron2 in this environment", exc_type=ImportError)
    import numpy as np
    import torch
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.evaluation import COCOEvaluator
    from detectron2.structures import Boxes, BoxMode, Instances

    truth, predictions = example
    document, records = json.loads(truth.read_text()), json.loads(predictions.read_text())
    place = {category["id"]: number for number, category in enumerate(document["categories"])}
    images = {image["id"]: image for image in document["images"]}
    objects = {key: [a for a in document["annotations"] if a["image_id"] == key] for key in images}

    def in_detectron2s_format() -> list[dict[str, object]]:
        return [
            {
                "file_name": f"{key}.jpg",
                "image_id": key,
                "height": image["height"],
                "width": image["width"],
                "annotations": [
                    {"bbox": a["bbox"], "bbox_mode": BoxMode.XYWH_ABS, "category_id": place[a["category_id"]]}
                    for a in objects[key]
                ],
            }
            for key, image in images.items()
        ]

    name, out = "detablate_output_folder", tmp_path / "vit-b"
    DatasetCatalog.register(name, in_detectron2s_format)
    try:
        MetadataCatalog.get(name).thing_classes = [category["name"] for category in document["categories"]]
        evaluator = COCOEvaluator(name, output_dir=str(out / "inference"), use_fast_impl=False)
        evaluator.reset()
        for key, image in images.items():
            own = [record for record in records if record["image_id"] == key]
            boxes = np.array([record["bbox"] for record in own], dtype=np.float64).reshape(-1, 4)
            boxes[:, 2:] += boxes[:, :2]
            found = Instances((image["height"], image["width"]))
            found.pred_boxes = Boxes(torch.as_tensor(boxes))
            found.scores = torch.tensor([record["score"] for record in own], dtype=torch.float64)
            found.pred_classes = torch.tensor([place[record["category_id"]] for record in own])
            evaluator.process([{"image_id": key}], [{"instances": found}])
        printed = evaluator.evaluate()["bbox"]
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)

    capsys.readouterr()
    assert run(monkeypatch, "analyze", "ap", out, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ground_truth"]["path"] == str(out / "inference" / f"{name}_coco_format.json")
    (entry,) = document["runs"]
    assert entry["name"] == "vit-b"
    for key in ("AP", "AP50", "AP75", "APs", "APm", "APl"):
        assert entry[key] == pytest.approx(printed[key], abs=1e-9, nan_ok=True), key
    assert run(monkeypatch, "analyze", "errors", out) == 0
