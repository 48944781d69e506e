import copy
import json
import logging
import os
import random
import signal
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from ablate.config.schema import Coco, RunConfig
from ablate.data.coco import EvaluationSet
from ablate.data.loader import TrainingOrder, collate
from ablate.detector.inference import predict
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.engines.base import DetectorTrainer, read_data
from ablate.engines.torchvision import VisionEngine
from ablate.runs.folder import RunFolder
from ablate.train import loop as loop_module
from ablate.train.checkpoint import evaluated_weights, load_checkpoint, save_checkpoint
from ablate.train.distributed import SAMPLES, Processes, generator
from ablate.train.optim import SCALE
from ablate.train.outcome import Diverged, Interrupted, RanOutOfMemory, RuntimeOptions
from analysis import read_ground_truth
from tests.ablate.processes import command_of, run_and_kill, run_in_two_processes
from tests.ablate.tiny import prepared, tiny_config

CPU = torch.device("cpu")
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
ALONE = Processes(0, 1, CPU)
RUNTIME = RuntimeOptions()


def trainer_of(folder: RunFolder, runtime: RuntimeOptions = RUNTIME, processes: Processes = ALONE) -> DetectorTrainer:
    config = folder.read_config()
    data = read_data(config, folder.workspace, processes)
    torch.manual_seed(config.seed)
    return DetectorTrainer(VisionEngine(config, data, processes), folder, runtime, lambda: {"box_AP": 1.0})


def detector_of(trainer: DetectorTrainer) -> Detector:
    assert isinstance(trainer.module, Detector)
    return trainer.module


def weights(folder: RunFolder) -> dict[str, Tensor]:
    newest = folder.checkpoints_newest_first()[0]
    model: dict[str, Tensor] = load_checkpoint(newest)["model"]
    return model


def trained(root: Path, config: RunConfig, name: str = "run") -> RunFolder:
    folder = prepared(root, config, name)
    trainer_of(folder).train()
    return folder


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    torch.testing.assert_close(first, second, rtol=0, atol=0)


def test_training_leaves_its_traces(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data, train__iterations=40))
    cost = trainer_of(folder, RuntimeOptions(curve_iterations=25)).train()
    assert cost.iterations == 40
    assert cost.peak_gib > 0
    assert [path.name for path in folder.checkpoints_newest_first()] == ["00000040.pt"]
    lines = folder.read_metrics()
    assert [line["iteration"] for line in lines] == [20, 25, 40]
    assert lines[1] == {"iteration": 25, "box_AP": 1.0}
    parts = ("rpn_objectness", "rpn_box", "box_class", "box_delta", "mask")
    assert lines[0]["loss"] == pytest.approx(sum(lines[0][part] for part in parts))
    assert lines[2]["rpn_objectness"] < lines[0]["rpn_objectness"]
    assert lines[2]["lr"] < lines[0]["lr"] < 1e-3
    assert list((folder.path / "tensorboard").glob("events*"))


def test_the_same_run_twice_and_curves_change_nothing(tmp_path: Path, data: Coco) -> None:
    config = tiny_config(data, model__backbone__drop_path=0.3)
    folder = prepared(tmp_path, config, "curves")
    trainer_of(folder, RuntimeOptions(curve_iterations=2, checkpoint_iterations=1)).train()
    same(weights(trained(tmp_path, config)), weights(folder))
    other = trained(tmp_path, tiny_config(data, seed=1), "seed")
    assert not torch.equal(weights(folder)["rpn.head.cls_logits.weight"], weights(other)["rpn.head.cls_logits.weight"])


def curve_of(folder: RunFolder) -> list[dict[str, Any]]:
    """The training curves without what another run of the same may measure differently."""
    lines = folder.read_metrics()
    assert lines
    return [{key: line[key] for key in line if key not in ("seconds_per_iteration", "peak_gib")} for line in lines]


def test_stopped_politely_and_continued(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ablate")
    config = tiny_config(data, model__backbone__drop_path=0.3)
    whole = trained(tmp_path, config, "whole")
    folder = prepared(tmp_path, config, "stopped")
    trainer = trainer_of(folder)
    step = trainer._step

    def step_and_signal(*arguments: Any) -> Any:
        if trainer.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    monkeypatch.setattr(trainer, "_step", step_and_signal)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after iteration 4 of 6"):
        trainer.train()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    trainer_of(folder).train()
    assert caplog.messages == ["continuing after iteration 4 of 6"]
    same(weights(folder), weights(whole))
    assert curve_of(folder) == curve_of(whole)
    assert [event["event"] for event in folder.read_events()] == ["resumed"]


KILLED = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from ablate.train.outcome import RuntimeOptions
    from ablate.runs.folder import RunFolder
    from tests.ablate.engines.test_training import trainer_of
    trainer = trainer_of(RunFolder(Path(sys.argv[2])), RuntimeOptions(checkpoint_iterations=2))
    step = trainer._step
    def told(*arguments):
        print("step", trainer.iteration, flush=True)
        return step(*arguments)
    trainer._step = told
    trainer.train()
"""


def test_a_stop_of_the_whole_process_group_is_polite_too(tmp_path: Path, data: Coco) -> None:
    """As Ctrl-C and the time limits of clusters send it: to the processes that load images as well."""
    folder = prepared(tmp_path, tiny_config(data, train__iterations=500))
    script = KILLED.replace("checkpoint_iterations=2", "workers=1")
    with subprocess.Popen(
        command_of(script, folder.path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.strip() == "step 3":
                os.killpg(child.pid, signal.SIGTERM)
                break
        _, errors = child.communicate(timeout=120)
    assert "Interrupted: " in errors.splitlines()[-1]
    assert "stopped by SIGTERM" in errors.splitlines()[-1]
    (saved,) = folder.checkpoints_newest_first()
    status = folder.read_status()
    assert status is not None
    assert 3 < status.iteration == int(saved.stem) < 500


def test_killed_in_the_middle_of_a_step_it_ends_with_the_same_bits(tmp_path: Path, data: Coco) -> None:
    """SIGKILL leaves no chance to clean up: what was in the middle of anything is lost, what was saved is not."""
    config = tiny_config(data, train__iterations=10, model__backbone__drop_path=0.3)
    whole = trained(tmp_path, config, "whole")
    folder = prepared(tmp_path, config, "killed")
    run_and_kill(KILLED, folder.path, 5, 0.01)
    trainer_of(folder).train()
    same(weights(folder), weights(whole))
    assert curve_of(folder) == curve_of(whole)
    assert [event["iteration"] for event in folder.read_events()] == [4]


@pytest.mark.campaign
def test_a_storm_of_kills_at_random_moments(tmp_path: Path, data: Coco) -> None:
    config = tiny_config(data, train__iterations=60, model__backbone__drop_path=0.3)
    whole = trained(tmp_path, config, "whole")
    folder = prepared(tmp_path, config, "killed")
    rng = random.Random(0)
    for step in range(2, 26, 2):  # checkpoints are written between odd and even steps
        run_and_kill(KILLED, folder.path, step + 1, rng.uniform(0, 0.3))
    trainer_of(folder).train()
    same(weights(folder), weights(whole))


def test_another_number_of_threads_is_refused_and_loses_nothing(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    first = trainer_of(folder, RuntimeOptions(checkpoint_iterations=2))
    threads = torch.get_num_threads()

    def stop(iteration: int, _: object) -> None:
        if iteration == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(first, "after_step", stop)
    with pytest.raises(Interrupted):
        first.train()
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    with pytest.raises(Interrupted, match=rf"trained with {threads} threads .* has {threads + 1}, .*OMP_NUM_THREADS"):
        trainer_of(folder).train()
    monkeypatch.undo()
    assert trainer_of(folder).train().threads == threads
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads + 1)
    trainer_of(folder).train()  # nothing is left to train


def test_a_damaged_newest_checkpoint_costs_only_time(
    tmp_path: Path, data: Coco, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "ablate")
    config = tiny_config(data)
    whole = trained(tmp_path, config, "whole")
    folder = prepared(tmp_path, config, "damaged")
    trainer_of(folder, RuntimeOptions(checkpoint_iterations=2)).train()
    newest = folder.checkpoint(6)
    newest.write_bytes(newest.read_bytes()[:2000])
    trainer_of(folder).train()
    assert "00000006.pt: is damaged" in caplog.messages[0]
    assert caplog.records[0].levelno == logging.WARNING
    assert caplog.messages[1:] == ["continuing after iteration 4 of 6"]
    same(weights(folder), weights(whole))
    assert [event["event"] for event in folder.read_events()] == ["warning", "resumed"]


def test_not_a_number_stops_the_run(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    trainer = trainer_of(folder, RuntimeOptions(checkpoint_iterations=1))
    step = trainer._step

    def poisoned(*arguments: Any) -> Any:
        if trainer.iteration == 3:
            detector_of(trainer).rpn.head.cls_logits.bias.data.fill_(float("nan"))
        return step(*arguments)

    trainer._step = poisoned  # type: ignore[assignment, method-assign]
    with pytest.raises(
        Diverged, match=r"not finite in iteration 4 of 6 .*rpn_objectness nan, rpn_box \d.*lower train.lr"
    ):
        trainer.train()
    status = folder.read_status()
    assert status is not None
    assert (status.iteration, status.iterations) == (3, 6)
    assert all(value.isfinite().all() for value in weights(folder).values())
    assert folder.checkpoints_newest_first()[0].name == "00000003.pt"


def test_a_full_memory_is_told_with_the_peak(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data, train__memory_cap_gib=1e-4))
    with pytest.raises(RanOutOfMemory, match=r"the cap of 0\.0001 GiB is full in iteration 1 of 6, 0\.00 GiB reached"):
        trainer_of(folder).train()


def test_seconds_are_those_of_training(tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a clock by which a step takes a second, the validation set 100 and a checkpoint 1000."""
    clock = [0.0]

    def taking(seconds: float, act: Any) -> Any:
        def timed(*arguments: Any) -> Any:
            clock[0] += seconds
            return act(*arguments)

        return timed

    folder = prepared(tmp_path, tiny_config(data, train__iterations=40))
    trainer = trainer_of(folder, RuntimeOptions(curve_iterations=5, checkpoint_iterations=10))
    monkeypatch.setattr(loop_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(loop_module, "save_checkpoint", taking(1000, save_checkpoint))
    monkeypatch.setattr(trainer, "validate", taking(100, trainer.validate))
    monkeypatch.setattr(trainer, "_step", taking(1, trainer._step))
    assert trainer.train().seconds == 40
    assert [line["seconds_per_iteration"] for line in folder.read_metrics() if "loss" in line] == [1, 1]
    assert clock[0] > 4000


def test_activation_checkpointing_changes_memory_alone(tmp_path: Path, data: Coco) -> None:
    costs, states = [], []
    for checkpoint in ("none", "all"):
        folder = prepared(tmp_path, tiny_config(data, model__backbone__attention__checkpoint=checkpoint), checkpoint)
        costs.append(trainer_of(folder).train())
        states.append(weights(folder))
    same(*states)
    assert costs[1].peak_gib < costs[0].peak_gib


@pytest.mark.parametrize("images_per_norm", [4, 2, 1])
def test_a_step_takes_the_mean_gradient_of_its_passes(tmp_path: Path, data: Coco, images_per_norm: int) -> None:
    """By hand: a forward pass for every group of images, which bring unequal numbers of RoIs to the mask loss."""
    lr = 0.02
    config = tiny_config(
        data,
        model__detector__head="plain",
        train__iterations=1,
        train__batch_size=4,
        train__images_per_norm=images_per_norm,
        train__lr=lr,
    )
    folder = prepared(tmp_path, config)
    trainer = with_sgd(folder, ALONE)
    detector = copy.deepcopy(detector_of(trainer)).train()
    (keys,) = TrainingOrder(images=6, batch_size=4, per_pass=4, seed=0, first=0, last=1)
    for start in range(0, 4, images_per_norm):
        rows = range(start, start + images_per_norm)
        batch = collate([trainer.data[keys[row]] for row in rows]).to(CPU)
        generators = [generator(CPU, 0, SAMPLES, 0, row) for row in rows]
        losses = detector(batch.images, batch.sizes, batch.targets, generators)
        (torch.stack(list(losses.values())).sum() * images_per_norm / 4).backward()  # type: ignore[no-untyped-call]
    trainer.train()
    found = weights(folder)
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None
        torch.testing.assert_close(found[name], parameter.detach() - lr * parameter.grad, rtol=1e-5, atol=1e-6)
    moved = found["rpn.head.cls_logits.bias"] - detector.state_dict()["rpn.head.cls_logits.bias"]
    assert moved.abs().max() > 1e-3, "far more than the tolerance"


PARTNERS = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from ablate.train.distributed import joined
    from ablate.runs.folder import RunFolder
    from tests.ablate.engines.test_training import detector_of, predictions, with_sgd
    with joined("cpu") as processes:
        for path in sys.argv[2:]:
            trainer = with_sgd(RunFolder(Path(path)), processes)
            trainer.train()
            records = predictions(detector_of(trainer), trainer.engine.config, processes)
            if processes.first:
                trainer.folder.write_predictions(records)
"""


def predictions(detector: Detector, config: RunConfig, processes: Processes) -> list[dict[str, Any]]:
    source = config.data.validation
    assert isinstance(source, Coco)
    views = EvaluationSet(read_ground_truth(source.annotations), Path(source.images), 32)
    return predict(detector, views, settings=config.evaluate, precision="fp32", processes=processes, workers=0)


def with_sgd(folder: RunFolder, processes: Processes) -> DetectorTrainer:
    """AdamW divides by the size of the gradient, which makes noise of what should be zero; this shows gradients."""
    trainer = trainer_of(folder, processes=processes)
    kept = ("params", SCALE)
    groups = [{key: group[key] for key in kept if key in group} for group in trainer.optimizer.param_groups]
    trainer.optimizer = torch.optim.SGD(groups, lr=0.1)
    return trainer


def test_two_processes_train_as_one(tmp_path: Path, data: Coco) -> None:
    """With statistics over both processes, and over one; each step accumulates two passes of one image a process.

    And in one pass, with layer-wise decay, a frozen block and an average of the weights.
    """
    folders = {}
    finetuned = {"train__ema": 0.5, "train__layer_decay": 0.7, "train__freeze__blocks": 1}
    for images_per_norm, changes in ((2, {}), (1, {}), (4, finetuned)):
        config = tiny_config(
            data,
            model__backbone__drop_path=0.5,
            train__iterations=2,
            train__batch_size=4,
            train__images_per_norm=images_per_norm,
            train__lr=0.02,
            **changes,
        )
        folders[images_per_norm] = [prepared(tmp_path, config, f"{n} processes, {images_per_norm}") for n in (1, 2)]
        with_sgd(folders[images_per_norm][0], ALONE).train()
    run_in_two_processes(PARTNERS, *(pair[1].path for pair in folders.values()))
    for images_per_norm, (one, two) in folders.items():
        first, second = weights(one), weights(two)
        if images_per_norm == 1:  # each process keeps the statistics of its own images
            first, second = (
                {k: v for k, v in state.items() if not k.endswith(STATISTICS)} for state in (first, second)
            )
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)
        assert two.read_metrics()[-1]["loss"] == pytest.approx(one.read_metrics()[-1]["loss"], rel=1e-4)
        config = two.read_config()
        reloaded = build_detector(config.model, 2)
        reloaded.load_state_dict(evaluated_weights(load_checkpoint(two.checkpoints_newest_first()[0])))
        expected = predictions(reloaded, config, ALONE)
        found = json.loads(two.predictions.read_text())
        assert len({record["image_id"] for record in found}) == 6
        assert [(r["image_id"], r["score"]) for r in found] == [
            (r["image_id"], pytest.approx(r["score"], rel=1e-6)) for r in expected
        ]
