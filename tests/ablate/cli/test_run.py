import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from ablate.config.schema import RunConfig
from ablate.config.yaml import dump_config
from ablate.execute.evaluation import read_evaluation
from ablate.runs.folder import RunFolder
from ablate.runs.lock import holding
from analysis.exceptions import BadInput, DetablateError
from detablate import command_line
from tests.ablate.tiny import tiny_config, write_data

ROOT = Path(__file__).parents[3]
Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    config = tiny_config(write_data(tmp_path / "data"), evaluate__score_threshold=0.01)
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(config))
    return path


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(command_line(), ["ablate", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit | DetablateError):
        raise result.exception
    return result


def only_folder(root: Path) -> RunFolder:
    (path,) = (root / "results" / "runs").iterdir()
    return RunFolder(path)


def test_one_command_trains_predicts_analyses_and_shows(config_file: Path, tmp_path: Path) -> None:
    first = run("run", config_file, "--root", tmp_path)
    folder = only_folder(tmp_path)
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.iteration, status.iterations) == ("finished", 6, 6)
    evaluation = read_evaluation(folder.evaluation)
    assert evaluation.detections == len(json.loads(folder.predictions.read_text()))
    assert (evaluation.images, evaluation.objects) == (6, 9)
    assert evaluation.mask is not None
    assert set(evaluation.box.delta_ap) == {"cls", "loc", "both", "dup", "bg", "miss", "fp", "fn"}
    for word in ("finished", "6 iterations", "peak memory", "AP75", "boxes", "masks", "miss", "FP", "FN"):
        assert word in first.stdout
    assert "synthetic" not in first.stdout.lower()

    written = folder.evaluation.stat().st_mtime_ns, folder.predictions.stat().st_mtime_ns
    again = run("run", config_file, "--root", tmp_path)
    assert again.stdout == first.stdout
    assert (folder.evaluation.stat().st_mtime_ns, folder.predictions.stat().st_mtime_ns) == written
    events = [event["event"] for event in folder.read_events()]
    assert events == ["started", "trained", "predicted", "finished"]
    document = json.loads(run("run", config_file, "--root", tmp_path, "--json").stdout)
    assert document["evaluation"] == json.loads(folder.evaluation.read_text())
    assert (document["run"], document["status"]["state"]) == (str(folder.path), "finished")


def test_metrics_are_pycocotools(config_file: Path, tmp_path: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    run("run", config_file, "--root", tmp_path, "--set", "train.iterations=60", "--set", "train.lr=5e-3")
    folder = only_folder(tmp_path)
    evaluation = read_evaluation(folder.evaluation)
    assert evaluation.mask is not None
    truth = COCO(str(tmp_path / "data" / "instances.json"))
    found = truth.loadRes(str(folder.predictions))
    for kind, measured in (("bbox", evaluation.box), ("segm", evaluation.mask)):
        judge = COCOeval(truth, found, kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert measured.metrics["AP"] == pytest.approx(100 * judge.stats[0], abs=1e-6)
        assert measured.metrics["AP50"] == pytest.approx(100 * judge.stats[1], abs=1e-6)
        assert measured.ap == pytest.approx(100 * judge.stats[1], abs=1e-6)
    assert evaluation.box.metrics["AP50"] > 5, "it begins to learn"


def test_evaluation_settings_alone_do_not_train_again(config_file: Path, tmp_path: Path) -> None:
    run("run", config_file, "--root", tmp_path)
    first = only_folder(tmp_path)
    run("run", config_file, "--root", tmp_path, "--set", "evaluate.max_detections=3")
    (other,) = (path for path in (tmp_path / "results" / "runs").iterdir() if path != first.path)
    second = RunFolder(other)
    assert [event["event"] for event in second.read_events()][:2] == ["weights taken over", "started"]
    assert second.read_metrics() == []
    assert first.checkpoint(6).samefile(second.checkpoint(6))
    assert 0 < len(json.loads(second.predictions.read_text())) <= 18


def test_out_of_memory_is_a_result(config_file: Path, tmp_path: Path) -> None:
    result = run("run", config_file, "--root", tmp_path, "--set", "train.memory_cap_gib=1e-4")
    assert result.exit_code == 0
    assert result.exception is None
    status = only_folder(tmp_path).read_status()
    assert status is not None
    assert status.state == "out_of_memory"
    assert "the cap of 0.0001 GiB is full" in status.message
    assert "out of memory" in result.stdout


def test_a_loss_that_is_no_number_fails_with_3(config_file: Path, tmp_path: Path) -> None:
    result = run("run", config_file, "--root", tmp_path, "--set", "train.lr=1e30", "--set", "train.warmup_epochs=0")
    assert isinstance(result.exception, DetablateError)
    assert result.exception.exit_code == 3
    status = only_folder(tmp_path).read_status()
    assert status is not None
    assert status.state == "diverged"
    assert "the loss is not finite in iteration" in status.message


def test_two_at_one_run_are_refused(config_file: Path, tmp_path: Path) -> None:
    run("run", config_file, "--root", tmp_path)
    folder = only_folder(tmp_path)
    status = folder.read_status()
    assert status is not None
    folder.write_status(msgspec.structs.replace(status, state="running", files={}))
    with holding(folder.path, "this run"):
        result = run("run", config_file, "--root", tmp_path)
        assert isinstance(result.exception, BadInput)
        assert "is working on this; wait for it, or stop it first" in str(result.exception)
    assert run("run", config_file, "--root", tmp_path).exit_code == 0
    assert [event["event"] for event in folder.read_events()][-4:] == ["started", "trained", "predicted", "finished"]


def test_images_without_boxes_and_box_only(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", images=4, empty=(0, 2))
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(tiny_config(data, data__images_without_boxes="keep", model__detector__masks=False)))
    result = run("run", path, "--root", tmp_path)
    assert "boxes" in result.stdout
    assert "masks" not in result.stdout
    records = json.loads(only_folder(tmp_path).predictions.read_text())
    assert all("segmentation" not in record for record in records)


def test_no_detection_at_all(config_file: Path, tmp_path: Path) -> None:
    result = run("run", config_file, "--root", tmp_path, "--set", "evaluate.score_threshold=1.0")
    assert result.exit_code == 0
    evaluation = read_evaluation(only_folder(tmp_path).evaluation)
    assert evaluation.detections == 0
    assert evaluation.box.metrics["AP"] == 0
    assert evaluation.box.count["miss"] == 9


def test_categories_that_differ_are_refused(tmp_path: Path) -> None:
    train, validation = write_data(tmp_path / "train"), write_data(tmp_path / "validation")
    document = json.loads(Path(validation.annotations).read_text())
    document["categories"].append({"id": 9, "name": "green"})
    Path(validation.annotations).write_text(json.dumps(document))
    config: RunConfig = tiny_config(train)
    config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, validation=validation))
    path = tmp_path / "tiny.yaml"
    path.write_text(dump_config(config))
    result = run("run", path, "--root", tmp_path)
    assert isinstance(result.exception, BadInput)
    assert "9 green" in str(result.exception)
    assert not (tmp_path / "results" / "runs").exists(), "nothing is made before the data is checked"


@pytest.mark.campaign
def test_torchrun_with_two_processes(config_file: Path, tmp_path: Path) -> None:
    command = ["torch.distributed.run", "--nproc-per-node", "2", "cli.py", "ablate", "run", config_file]
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command), "--root", str(tmp_path), "--set", "train.images_per_norm=2"],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("finished") == 1
    alone = tmp_path / "alone"
    run("run", config_file, "--root", alone, "--set", "train.images_per_norm=2")
    one, two = (json.loads(only_folder(root).predictions.read_text()) for root in (alone, tmp_path))
    assert [record["image_id"] for record in one] == [record["image_id"] for record in two]


def test_describe_counts_and_hashes(config_file: Path, tmp_path: Path) -> None:
    described = json.loads(run("describe", config_file, "--root", tmp_path, "--json").stdout)
    run("run", config_file, "--root", tmp_path)
    folder = only_folder(tmp_path)
    manifest = json.loads(folder.manifest.read_text())
    assert described["identities"] == {"training": manifest["training"], "evaluation": manifest["evaluation"]}
    assert described["config"]["train"]["precision"] == "fp32"
    assert described["iterations"] == 6
    assert described["classes"] == 2
    assert described["levels"]["p2"] == {"stride": 2, "channels": 8}
    weights = torch.load(folder.checkpoint(6), weights_only=True)["model"]
    trained = sum(v.numel() for k, v in weights.items() if "running" not in k and "num_batches" not in k)
    assert described["total"]["parameters"] == trained


def test_describe_without_data(tmp_path: Path) -> None:
    result = run("describe", "vit-b-coco", "--root", tmp_path)
    for text in ("115.68", "849.57", "1,529.79", "p6 stride 64", "no run id", "window_size: 14"):
        assert text in result.stdout
    shapes = json.loads(run("describe", "tiny-shapes", "--root", tmp_path, "--json").stdout)
    assert shapes["classes"] == 6
    assert shapes["identities"] is None
    assert not (tmp_path / "results").exists()


def test_help_imports_no_torch() -> None:
    code = """
        import sys
        from detablate import command_line
        from typer.testing import CliRunner
        for arguments in (["ablate", "run", "--help"], ["ablate", "describe", "--help"]):
            assert CliRunner().invoke(command_line(), arguments).exit_code == 0
        print([name for name in ("torch", "torchvision", "pandas") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
