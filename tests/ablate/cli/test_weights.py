"""``weights pretrain`` as a person calls it."""

from pathlib import Path

import pytest

from ablate.config.yaml import dump_config
from tests.ablate.execute.test_pretraining import pretrained_config
from tests.ablate.tiny import write_data
from tests.command_line import run


@pytest.fixture
def base(tmp_path: Path) -> str:
    path = tmp_path / "base.yaml"
    path.write_text(dump_config(pretrained_config(write_data(tmp_path / "data"))))
    return str(path)


def test_weights_and_pictures_are_named_and_kept(
    base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "data" / "images"
    arguments = ["weights", "pretrain", "--images", images, "--base", base, "--epochs", "3", "--save-epochs", "1,3"]
    arguments += ["--set", "init.pretraining.mask_ratio=0.5", "--root", tmp_path, "--device", "cpu", "--workers", "0"]
    assert run(monkeypatch, *arguments) == 0
    shown = capsys.readouterr().out
    (folder,) = (tmp_path / "results" / "pretraining").iterdir()
    assert "mask_ratio: 0.5" in (folder / "config.yaml").read_text()
    for name in ("0001.pth", "0003.pth", "0003.png"):
        assert name in shown
    assert "finished" in shown
    (kept,) = folder.glob("weights/0003.pth")
    before = kept.stat().st_mtime_ns
    assert run(monkeypatch, *arguments) == 0  # there is nothing left to do
    assert kept.stat().st_mtime_ns == before
    assert run(monkeypatch, "weights", "inspect", kept) == 0
    assert "recognised   MAE" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "name the images to pre-train on: --images DIR, or --data shapes"),
        (["--data", "coco"], "name the images to pre-train on"),
        (["--images", "nowhere"], "nowhere: there is no such folder of images"),
        (["--data", "shapes", "--epochs", "3"], "warmup_epochs 5.0 is not shorter than epochs 3.0"),
        (["--data", "shapes", "--save-epochs", "ten"], "--save-epochs ten: must be whole numbers"),
        (["--data", "shapes", "--save-epochs", "900"], "epoch 900 cannot be kept: the schedule has only 100 epochs"),
        (["--data", "shapes", "--set", "init.pretraining.mask=1"], "init.pretraining.mask: unknown key"),
        (["--data", "shapes", "--set", "init.pretraining.mask_ratio"], "is not a change: write KEY=VALUE"),
        (["--data", "shapes", "--base", "tiny-shapes", "--set", "model.backbone.width=68"], "heads 6 does not divide"),
        (["--data", "shapes", "--accumulate", "5"], "5 forward passes do not divide batches of 32 images"),
        (["--data", "shapes", "--device", "cuda"], "no CUDA device is visible"),
    ],
)
def test_bad_input_is_one_sentence(
    arguments: list[str],
    sentence: str,
    shapes_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(shapes_root)
    assert run(monkeypatch, "weights", "pretrain", *arguments) == 4
    error = capsys.readouterr().err
    assert sentence in error
    assert len(error.splitlines()) == 1
    assert not list(shapes_root.glob("results/pretraining/*")), "nothing half-written, and no failure in its place"
    assert "Traceback" not in error
