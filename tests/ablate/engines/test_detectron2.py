"""Runs of the engine detectron2, from a run folder to its predictions: whole, continued, stopped by their own end."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ablate.config.schema import RunConfig
from ablate.config.yaml import with_changes
from ablate.execute.evaluation import read_evaluation
from ablate.execute.run import Executed, execute, run_stages
from ablate.runs.folder import RunFolder, Workspace
from ablate.train.checkpoint import load_checkpoint
from ablate.train.distributed import MODEL, Layout, Processes, derived
from ablate.train.outcome import RunFailed, RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.tiny import prepared, tiny_config
from tests.detectron2 import needs_detectron2

pytestmark = needs_detectron2

CPU = Processes(0, 1, torch.device("cpu"))


def run(config: RunConfig, root: Path, **runtime: Any) -> Executed:
    return execute(config, Workspace(root), RuntimeOptions(device="cpu", workers=0, **runtime))


def config_of(data: Any, **changes: Any) -> RunConfig:
    return tiny_config(data, engine="detectron2", **changes)


@pytest.fixture(scope="module")
def finished(data: Any, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run of six iterations, with its checkpoints after the third and the last."""
    return run(config_of(data), tmp_path_factory.mktemp("whole"), checkpoint_iterations=3).folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from tests.ablate.tiny import write_data

    return write_data(tmp_path_factory.mktemp("tiny"))


def weights(folder: RunFolder, iteration: int) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = load_checkpoint(folder.checkpoint(iteration))["model"]
    return state


def test_the_folder_holds_what_every_run_holds(finished: RunFolder) -> None:
    status = finished.read_status()
    assert status is not None
    assert (status.state, status.iteration, status.iterations) == ("finished", 6, 6)
    events = [event["event"] for event in finished.read_events()]
    assert events == ["started", "detectron2", "trained", "predicted", "finished"]
    (line,) = finished.read_metrics()
    assert {"loss", "rpn_objectness", "rpn_box", "box_class", "box_delta", "mask", "lr", "peak_gib"} <= set(line)
    assert [path.name for path in finished.checkpoints_newest_first()] == ["00000006.pt", "00000003.pt"]
    records = json.loads(finished.predictions.read_text())
    assert {record["category_id"] for record in records} <= {3, 7}
    assert {record["image_id"] for record in records} <= set(range(1, 7))
    assert all(set(record) == {"image_id", "category_id", "bbox", "score", "segmentation"} for record in records)
    assert list(finished.path.glob("tensorboard/*"))


def test_detectron2s_own_evaluator_finds_the_same_ap(finished: RunFolder, tmp_path: Path) -> None:
    from detectron2.config import LazyConfig, instantiate
    from detectron2.evaluation import inference_on_dataset

    cfg = LazyConfig.load(str(finished.path / "lazyconfig.py"))
    model = instantiate(cfg.model)
    from detectron2.checkpoint import DetectionCheckpointer

    DetectionCheckpointer(model).load(str(finished.checkpoint(6)))  # ours can be read by its own reader
    cfg.train.output_dir = str(tmp_path)
    cfg.dataloader.test.num_workers = 0
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator))
    ours = read_evaluation(finished.evaluation)
    assert ours.mask is not None
    for kind, measured in (("bbox", ours.box), ("segm", ours.mask)):
        for name in ("AP", "AP50", "AP75"):
            assert measured.metrics[name] == pytest.approx(results[kind][name], abs=1e-6)
    written = json.loads((tmp_path / "inference" / "coco_instances_results.json").read_text())
    assert len(written) == ours.detections


def test_a_continued_run_ends_with_the_same_bits(finished: RunFolder, tmp_path: Path) -> None:
    config = finished.read_config()
    folder = RunFolder(tmp_path / "results" / "runs" / finished.path.name)
    shutil.copytree(finished.path, folder.path)
    for path in (folder.checkpoint(6), folder.predictions, folder.evaluation, folder.status):
        path.unlink()
    again = run(config, tmp_path).folder
    assert "resumed" in [event["event"] for event in again.read_events()]
    first, second = weights(finished, 6), weights(again, 6)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert finished.predictions.read_bytes() == again.predictions.read_bytes()


def test_a_step_is_that_of_detectron2s_own_trainer(finished: RunFolder, data: Any, tmp_path: Path) -> None:
    from detectron2.config import LazyConfig, instantiate
    from detectron2.engine import SimpleTrainer, hooks

    from ablate.data.loader import TrainingOrder
    from ablate.engines.detectron2_data import MappedImages
    from ablate.train.distributed import WEIGHTS

    config = config_of(data)
    cfg = LazyConfig.load(str(finished.path / "lazyconfig.py"))
    torch.manual_seed(derived(config.seed, WEIGHTS))
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    optimizer = instantiate(cfg.optimizer)
    images = MappedImages(cfg.dataloader.train, config.seed)
    order = TrainingOrder(len(images), batch_size=2, per_pass=2, seed=config.seed, first=0, last=6)
    trainer = SimpleTrainer(model, [[images[key] for key in keys] for keys in order], optimizer)
    seeding = hooks.CallbackHook(before_step=lambda t: torch.manual_seed(derived(config.seed, MODEL, t.iter, 0, 0)))
    trainer.register_hooks([hooks.LRScheduler(optimizer, instantiate(cfg.lr_multiplier)), seeding])
    torch.use_deterministic_algorithms(True)
    try:
        trainer.train(0, 6)
    finally:
        torch.use_deterministic_algorithms(False)
    ours = weights(finished, 6)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(ours[name], value, rtol=1e-6, atol=1e-7, msg=name)


def test_a_sample_depends_on_its_place_alone(finished: RunFolder) -> None:
    from detectron2.config import LazyConfig

    from ablate.engines.detectron2_data import MappedImages

    images = MappedImages(LazyConfig.load(str(finished.path / "lazyconfig.py")).dataloader.train, seed=0)
    np.random.seed(5)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    first, other = images[0, 1], images[1, 1]
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    np.random.seed(6)  # noqa: NPY002
    again = images[0, 1]
    assert torch.equal(first["image"], again["image"])
    assert first["image"].shape != other["image"].shape or not torch.equal(first["image"], other["image"])


def test_a_loss_that_is_not_finite_stops_the_run(data: Any, tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match=r"lower train\.lr"):
        run(config_of(data, train__lr=1e20, train__warmup_epochs=0), tmp_path)
    (folder,) = (tmp_path / "results" / "runs").iterdir()
    status = RunFolder(folder).read_status()
    assert status is not None
    assert status.state == "diverged"


def test_running_out_of_memory_is_a_result(data: Any, tmp_path: Path) -> None:
    folder = run(config_of(data, train__memory_cap_gib=1e-5), tmp_path).folder
    status = folder.read_status()
    assert status is not None
    assert status.state == "out_of_memory"
    assert "the cap of 1e-05 GiB is full in iteration 1 of 6" in status.message


def test_gradients_of_several_passes_add_up_to_one_step(data: Any, tmp_path: Path) -> None:
    config = config_of(data, train__batch_size=4, train__images_per_norm=2, train__iterations=2)
    folder = run(config, tmp_path).folder
    assert folder.read_status().state == "finished"  # type: ignore[union-attr]
    assert 'norm="BN"' in (folder.path / "lazyconfig.py").read_text()


def test_boxes_alone_have_no_masks(data: Any, tmp_path: Path) -> None:
    config = config_of(data, model__detector__masks=False, train__iterations=1)
    folder = run(config, tmp_path).folder
    records = json.loads(folder.predictions.read_text())
    assert records
    assert all("segmentation" not in record for record in records)


def test_a_damaged_image_is_named(data: Any, tmp_path: Path) -> None:
    copy = tmp_path / "data"
    shutil.copytree(Path(data.annotations).parent, copy)
    (copy / "images" / "3.png").write_bytes(b"no image")
    source = type(data)(annotations=str(copy / "instances.json"), images=str(copy / "images"))
    with pytest.raises(BadInput, match=r"3\.png: cannot be decoded"):
        run(config_of(source), tmp_path)


def test_the_probe_measures_it(data: Any, finished: RunFolder) -> None:
    from ablate.studies.benchmark import Prober

    (cost,) = Prober(torch.device("cpu"), finished.workspace).measure([(finished.read_config(), finished)])
    assert cost.peak_gib is not None
    assert cost.peak_gib > 0
    assert cost.iterations >= 10
    assert cost.images >= 6
    assert cost.images % 6 == 0  # each as often as the others
    assert not cost.message


@pytest.mark.parametrize(
    ("layout", "device", "norm"),
    [
        (Layout(8, 8, 8, 1), "cuda", "SyncBatchNorm"),
        (Layout(2, 2, 2, 1), "cpu", "PreciseSyncBatchNorm"),
        (Layout(8, 8, 1, 1), "cuda", "BatchNorm2d"),
    ],
)
def test_norms_follow_the_processes(layout: Layout, device: str, norm: str, finished: RunFolder) -> None:
    from detectron2.config import LazyConfig, instantiate

    from ablate.engines.detectron2_norm import set_norms

    processes = Processes(0, layout.processes, torch.device(device))
    cfg = LazyConfig.load(str(finished.path / "lazyconfig.py"))
    set_norms(cfg, layout, processes)
    model = instantiate(cfg.model)
    kinds = {type(module).__name__ for module in model.backbone.modules() if "Batch" in type(module).__name__}
    assert kinds == {norm}
    for head in (model.roi_heads.box_head.conv1, model.roi_heads.mask_head.mask_fcn1):
        assert type(head.norm).__name__ == ("BatchNorm2d" if layout.group == 1 else "PreciseSyncBatchNorm")
        assert getattr(head.norm, "_stats_mode", "N") == "N"
    with pytest.raises(BadInput, match="share statistics with all processes or none; start 4 processes"):
        set_norms(cfg, Layout(8, 1, 4, 1), processes)


def test_a_statistic_in_bf16_is_not_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes that hold the same: the statistic is that of one."""
    from detectron2.layers import batch_norm

    from ablate.engines.detectron2_norm import PreciseSyncBatchNorm

    monkeypatch.setattr(batch_norm.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(batch_norm, "differentiable_all_reduce", lambda value: 2 * value)
    torch.manual_seed(0)
    values = (torch.randn(16, 3, 7, 7) + 20).bfloat16()  # far from 0, as after a convolution with a large mean
    wanted = torch.nn.BatchNorm2d(3)(values.float())
    precise = PreciseSyncBatchNorm(3, stats_mode="N")
    found = precise(values)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2e-2, atol=2e-2)
    plain = batch_norm.NaiveSyncBatchNorm(3, stats_mode="N")(values).float()
    assert not torch.allclose(plain, wanted, atol=0.3)  # why ours is there
    empty = precise(values[:0])
    assert empty.shape == (0, 3, 7, 7)


def test_the_file_of_a_run_is_the_exported_one(finished: RunFolder) -> None:
    from ablate.engines.lazyconfig import facts_of, lazyconfig_text

    config = finished.read_config()
    text = lazyconfig_text(config, facts_of(config, finished.workspace), finished.path.name)
    assert (finished.path / "lazyconfig.py").read_text() == text


def test_other_categories_in_the_validation_set_are_refused(data: Any, tmp_path: Path) -> None:
    document = json.loads(Path(data.annotations).read_text())
    document["categories"].append({"id": 9, "name": "green"})
    other = tmp_path / "other.json"
    other.write_text(json.dumps(document))
    config = with_changes(config_of(data), {"data.validation.annotations": str(other)})
    with pytest.raises(BadInput, match="its category ids differ"):
        run_stages(prepared(tmp_path, config), CPU, RuntimeOptions(device="cpu", workers=0))


@pytest.mark.campaign
def test_killed_and_continued_it_ends_with_the_same_bits(finished: RunFolder, tmp_path: Path) -> None:
    """SIGKILL at ten different moments of as many attempts, by the same command."""
    import os
    import signal
    import subprocess
    import sys
    import time

    from ablate.config.yaml import dump_config

    (tmp_path / "run.yaml").write_text(dump_config(finished.read_config()))
    command = [sys.executable, "-m", "detablate", "ablate", "run", str(tmp_path / "run.yaml"), "--root", str(tmp_path)]
    command += ["--device", "cpu", "--workers", "0", "--checkpoint-iterations", "1"]
    place = tmp_path / "results" / "runs" / finished.path.name
    folder, environment = RunFolder(place), {**os.environ, "OMP_NUM_THREADS": "1"}
    kills = 0
    for attempt in range(10):
        with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            wanted = 1 + attempt // 2
            while process.poll() is None and not folder.checkpoint(wanted).exists():
                time.sleep(0.02)
            time.sleep(0.05 * attempt)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert kills >= 3
    first, second = weights(finished, 6), weights(folder, 6)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert finished.predictions.read_bytes() == folder.predictions.read_bytes()
