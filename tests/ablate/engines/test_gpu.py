"""Training, memory, resuming and prediction on a CUDA device; what of it can be is held against the CPU."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config.schema import Coco
from ablate.data.coco import EvaluationSet
from ablate.detector.inference import predict
from ablate.detector.mask_rcnn import build_detector
from ablate.execute.run import run_stages
from ablate.train.checkpoint import load_checkpoint
from ablate.train.distributed import Processes, joined
from ablate.train.outcome import RanOutOfMemory, RuntimeOptions
from analysis import read_ground_truth
from tests.ablate.engines.test_training import trainer_of, weights
from tests.ablate.tiny import prepared, tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    # CUDA has threads; what torch's loader forks from them never touches CUDA, and Python from 3.12 on warns of any.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]

GPU = Processes(0, 1, torch.device("cuda", 0))
CPU = Processes(0, 1, torch.device("cpu"))
RUNTIME = RuntimeOptions(workers=0)


@pytest.fixture(params=["bf16", "fp16"])
def precision(request: pytest.FixtureRequest) -> str:
    if request.param == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        pytest.skip("this GPU has no bf16")
    chosen: str = request.param
    return chosen


@pytest.fixture(autouse=True)
def _whole_memory() -> Iterator[None]:
    """No cap of a test before, and nothing that it left in the allocator, which would be used in spite of a cap."""
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(1.0, 0)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0, 0)


def test_mixed_precision_learns_and_keeps_its_weights_in_fp32(tmp_path: Path, data: Coco, precision: str) -> None:
    folder = prepared(tmp_path, tiny_config(data, train__precision=precision, train__iterations=60))
    cost = trainer_of(folder, RUNTIME, GPU).train()
    assert (cost.iterations, cost.device) == (60, "cuda")
    assert 0 < cost.peak_gib < 1
    lines = [line for line in folder.read_metrics() if "loss" in line]
    assert [line["iteration"] for line in lines] == [20, 40, 60]
    assert lines[-1]["loss"] < lines[0]["loss"]
    state = load_checkpoint(folder.checkpoints_newest_first()[0])
    for name, value in state["model"].items():
        assert value.isfinite().all(), name
        assert value.dtype in (torch.float32, torch.int64), name
    assert ("scale" in state["scaler"]) == (precision == "fp16")  # bf16 has the range of fp32 and is not scaled


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it itself
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # a recommendation
def test_compiled_blocks_in_another_layout_with_tables_apart_learn(tmp_path: Path, data: Coco, precision: str) -> None:
    changes: dict[str, object] = {"model__backbone__attention__kernel": "fused_table"}
    changes |= {"model__backbone__position__relative": "rand"}
    changes |= {"train__compile": True, "train__channels_last": True, "train__precision": precision}
    folder = prepared(tmp_path, tiny_config(data, **changes, train__iterations=60))
    trainer_of(folder, RUNTIME, GPU).train()
    lines = [line for line in folder.read_metrics() if "loss" in line]
    assert lines[-1]["loss"] < lines[0]["loss"]


def test_the_first_losses_are_those_of_the_cpu(tmp_path: Path, data: Coco, precision: str) -> None:
    """The same weights, images and samples; the mean of one iteration, before anything that was learned can differ."""
    losses = {}
    for name, processes, kind in (("cpu", CPU, "fp32"), ("gpu", GPU, "fp32"), ("mixed", GPU, precision)):
        config = tiny_config(data, train__precision=kind, train__iterations=1)
        folder = prepared(tmp_path, config, name)
        trainer_of(folder, RUNTIME, processes).train()
        (line,) = folder.read_metrics()
        losses[name] = line["loss"]
    # What is sampled for the heads is drawn by each device's own generator, from proposals that rounding can reorder:
    # the losses are alike, not equal.
    assert losses["gpu"] == pytest.approx(losses["cpu"], rel=0.2)
    assert losses["mixed"] == pytest.approx(losses["gpu"], rel=0.2)


def test_what_was_stopped_goes_on_from_its_whole_state(tmp_path: Path, data: Coco, precision: str) -> None:
    config = tiny_config(data, train__precision=precision, train__iterations=40, model__backbone__drop_path=0.3)
    folder = prepared(tmp_path, config)
    first = trainer_of(folder, RuntimeOptions(workers=0, checkpoint_iterations=10), GPU)
    step = first._step

    def interrupted(*arguments: Any) -> Any:
        if first.iteration == 23:
            raise KeyboardInterrupt
        return step(*arguments)

    first._step = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        first.train()
    saved = load_checkpoint(folder.checkpoint(20))

    second = trainer_of(folder, RUNTIME, GPU)
    second._resume()
    assert second.iteration == 20
    on_gpu = second.module.state_dict()
    assert all(value.is_cuda for value in on_gpu.values())
    torch.testing.assert_close({k: v.cpu() for k, v in on_gpu.items()}, saved["model"], rtol=0, atol=0)
    for number, moments in second.optimizer.state_dict()["state"].items():
        for key in ("exp_avg", "exp_avg_sq"):
            assert moments[key].is_cuda
            assert torch.equal(moments[key].cpu(), saved["optimizer"]["state"][number][key])
    assert second.scaler.state_dict() == saved["scaler"]

    cost = trainer_of(folder, RUNTIME, GPU).train()
    assert cost.iterations == 40
    assert [line["iteration"] for line in folder.read_metrics()] == [20, 40]
    assert folder.read_events()[-1]["event"] == "resumed"
    assert folder.read_events()[-1]["iteration"] == 20
    assert all(value.isfinite().all() for value in weights(folder).values())


def test_a_full_memory_is_told_with_its_cap_and_the_next_run_has_all_of_it(tmp_path: Path, data: Coco) -> None:
    """Some 64 MB of weights are there before the cap of as much is set; nothing else finds room."""
    large = {"model__backbone__width": 512, "model__backbone__heads": 8}
    capped = prepared(tmp_path, tiny_config(data, train__memory_cap_gib=0.06, **large), "capped")
    with pytest.raises(RanOutOfMemory, match=r"the cap of 0\.06 GiB is full in iteration 1 of 6"):
        trainer_of(capped, RUNTIME, GPU).train()
    status = capped.read_status()
    assert status is not None
    assert status.iteration == 0
    torch.cuda.empty_cache()
    free = prepared(tmp_path, tiny_config(data, **large), "free")
    assert trainer_of(free, RUNTIME, GPU).train().peak_gib > 0.06


def test_predictions_are_those_of_the_cpu(data: Coco, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "enabled", False)  # its convolutions round to TF32
    config = tiny_config(data, evaluate__score_threshold=0.0)
    torch.manual_seed(0)
    detector = build_detector(config.model, 2)
    with torch.no_grad():
        detector.heads.box_head.score.weight.mul_(100)  # scores far apart, of which a wrong feature changes many
    views = EvaluationSet(read_ground_truth(data.annotations), Path(data.images), 32)
    found = []
    for processes in (CPU, GPU):
        detector.to(processes.device)
        found.append(
            predict(detector, views, settings=config.evaluate, precision="fp32", processes=processes, workers=0)
        )
    for image in range(1, 7):  # the best alone: behind them a pair on the verge of NMS may flip
        best = [sorted((r["score"] for r in records if r["image_id"] == image), reverse=True)[:3] for records in found]
        assert len(best[0]) == 3
        assert best[1] == pytest.approx(best[0], abs=1e-3)


def test_the_engine_goes_all_the_way_on_a_gpu(tmp_path: Path, data: Coco, precision: str) -> None:
    folder = prepared(tmp_path, tiny_config(data, train__precision=precision, evaluate__score_threshold=0.0))
    runtime = RuntimeOptions(device="cuda", workers=1)  # a worker, and memory that is pinned for it
    with joined("cuda") as processes:
        run_stages(folder, processes, runtime)
    events = {event["event"]: event for event in folder.read_events()}
    assert events["trained"]["device"] == "cuda"
    assert events["predicted"]["detections"] > 0
    truth = read_ground_truth(data.annotations)
    from analysis import read_detections

    assert len(read_detections(folder.predictions, truth)) == events["predicted"]["detections"]
