"""Pre-trained weights beside an exported config, and in the engine detectron2."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config.yaml import dump_config
from ablate.execute.run import execute
from ablate.runs.folder import Workspace
from ablate.train.outcome import RuntimeOptions
from tests.ablate.weights.test_running import Save, config
from tests.ablate.weights.test_running import mae as mae
from tests.command_line import run
from tests.detectron2 import needs_detectron2

SAME = (("patch_embed.weight", "patch_embed.proj.weight"), ("blocks.3.attn.qkv.bias",) * 2)


def marked(test: Any) -> Any:
    for mark in needs_detectron2:
        test = mark(test)
    return test


def test_weights_lie_beside_the_config(
    data: object, mae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "base.yaml").write_text(dump_config(config(data, mae)))
    command = ("ablate", "export", tmp_path / "base.yaml", "--root", tmp_path)
    assert run(monkeypatch, *command) == 4
    assert "give a file with --out" in capsys.readouterr().err
    assert run(monkeypatch, *command, "--format", "lazyconfig-native", "--out", tmp_path / "x.py") == 4
    assert not (tmp_path / "x.py").exists()
    out = tmp_path / "exported" / "config.py"
    assert run(monkeypatch, *command, "--out", out) == 0
    assert f'train.init_checkpoint = "{out.with_suffix(".pth")}"' in out.read_text(encoding="utf-8")
    found, saved = (torch.load(p, weights_only=True)["model"] for p in (out.with_suffix(".pth"), mae))
    for ours, theirs in SAME:
        assert torch.equal(found[f"backbone.net.{ours}"], saved[theirs])


@marked
def test_detectron2s_checkpointer_reads_them(
    data: object, mae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.config import LazyConfig, instantiate

    (tmp_path / "base.yaml").write_text(dump_config(config(data, mae)))
    out = tmp_path / "config.py"
    assert run(monkeypatch, "ablate", "export", tmp_path / "base.yaml", "--root", tmp_path, "--out", out) == 0
    cfg = LazyConfig.load(str(out))
    model = instantiate(cfg.model)
    left = DetectionCheckpointer(model).load(cfg.train.init_checkpoint)
    assert left == {}  # no trainer, no iteration: nothing to go on from
    saved = torch.load(mae, weights_only=True)["model"]
    for ours, theirs in SAME:
        assert torch.equal(model.backbone.net.state_dict()[ours], saved[theirs])


@marked
def test_a_run_of_detectron2_starts_from_them(data: object, mae: Path, save: Save, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, what is saved in the end is what was loaded."""
    changes = {"train.lr": 1e-12, "train.weight_decay": 0, "engine": "detectron2"}
    folder = execute(config(data, mae, **changes), Workspace(tmp_path), RuntimeOptions(device="cpu", workers=0)).folder
    state = torch.load(folder.checkpoint(2), weights_only=True)["model"]
    saved = torch.load(mae, weights_only=True)["model"]
    for ours, theirs in SAME:
        torch.testing.assert_close(state[f"backbone.net.{ours}"], saved[theirs], rtol=0, atol=1e-9)
    assert [event["family"] for event in folder.read_events() if event["event"] == "weights loaded"] == ["MAE"]
    assert "# detablate's engine loads the backbone's" in (folder.path / "lazyconfig.py").read_text(encoding="utf-8")
