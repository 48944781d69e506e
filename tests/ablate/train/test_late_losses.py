"""Losses that are read a step late, so that a GPU need not wait for the host: the same training, tried on a CPU."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ablate.config.schema import Coco
from ablate.engines.base import DetectorTrainer
from ablate.train import loop
from ablate.train.outcome import Diverged, Interrupted, RuntimeOptions
from tests.ablate.engines.test_training import curve_of, same, trainer_of, weights
from tests.ablate.tiny import prepared, tiny_config


def late(folder: Any, runtime: RuntimeOptions | None = None) -> DetectorTrainer:
    trainer = trainer_of(folder, runtime or RuntimeOptions())
    trainer.reads_late = True
    return trainer


def test_weights_and_curves_are_the_same_and_are_read_a_step_later(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(data, train__iterations=23, train__clip_norm=1.0)
    at_once, later = prepared(tmp_path, config, "at-once"), prepared(tmp_path, config, "later")
    trainer_of(at_once).train()
    trainer, read_in = late(later, RuntimeOptions(checkpoint_iterations=5)), []
    read = loop._Unread.read

    def noted(unread: loop._Unread) -> Any:
        read_in.append(trainer.iteration - unread.iteration)
        return read(unread)

    monkeypatch.setattr(loop._Unread, "read", noted)
    trainer.train()
    same(weights(later), weights(at_once))
    assert curve_of(later) == curve_of(at_once)
    # All are read during the next step, or before a line of the curves or a checkpoint is written of them.
    assert read_in == [1] * 23


def test_a_stop_is_seen_a_step_later_and_nothing_is_lost(tmp_path: Path, data: Coco) -> None:
    config = tiny_config(data)
    whole, stopped = prepared(tmp_path, config, "whole"), prepared(tmp_path, config, "stopped")
    trainer_of(whole).train()
    trainer = late(stopped)
    step = trainer._step

    def step_and_signal(*arguments: Any) -> Any:
        if trainer.iteration == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    trainer._step = step_and_signal  # type: ignore[method-assign]
    with pytest.raises(Interrupted, match="stopped by SIGTERM after iteration 5 of 6"):
        trainer.train()
    late(stopped).train()
    same(weights(stopped), weights(whole))
    assert curve_of(stopped) == curve_of(whole)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_device_skips_the_step_of_a_loss_that_is_not_finite(tmp_path: Path, data: Coco, bad: float) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    trainer = late(folder)
    losses_of, before = trainer.engine.losses, {}

    def spoiled(*arguments: Any) -> dict[str, Tensor]:
        losses = losses_of(*arguments)
        if trainer.iteration == 3:
            before.update({name: value.detach().clone() for name, value in trainer.module.named_parameters()})
            losses["rpn_box"] = losses["rpn_box"] * bad + bad  # not NaN times 0 alone: its gradient is NaN or infinite
        return losses

    trainer.engine.losses = spoiled  # type: ignore[method-assign]
    with pytest.raises(Diverged, match=r"not finite in iteration 4 of 6 .*rpn_box (nan|inf)"):
        trainer.train()
    status = folder.read_status()
    assert status is not None
    assert status.iteration == 3
    assert len(before) > 50
    same(dict(trainer.module.named_parameters()), before)


def test_an_optimizer_that_cannot_skip_a_step_is_not_trusted_to(tmp_path: Path, data: Coco) -> None:
    trainer = late(prepared(tmp_path, tiny_config(data)))
    assert trainer._can_read_late()
    trainer.scaler = torch.amp.GradScaler("cpu")
    assert not trainer._can_read_late()
    trainer.scaler = torch.amp.GradScaler("cpu", enabled=False)
    trainer.optimizer = torch.optim.SGD(trainer.module.parameters(), lr=0.1)
    assert not trainer._can_read_late()
