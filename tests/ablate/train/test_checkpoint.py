import pickle
import resource
import signal
from pathlib import Path

import pytest
import torch

from ablate.config.schema import Coco
from ablate.runs.folder import RunFolder
from ablate.train.checkpoint import load_checkpoint, load_newest, save_checkpoint
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.engines.test_training import trainer_of
from tests.ablate.tiny import prepared, tiny_config


@pytest.fixture
def folder(tmp_path: Path, data: Coco) -> RunFolder:
    return prepared(tmp_path, tiny_config(data))


def save(folder: RunFolder, *iterations: int) -> None:
    for iteration in iterations:
        save_checkpoint(folder, iteration, {"model": {"weight": torch.full((100,), float(iteration))}})


def damage(path: Path, place: float) -> None:
    content = bytearray(path.read_bytes())
    content[int(len(content) * place)] ^= 0x10
    path.write_bytes(content)


def test_two_deep(folder: RunFolder) -> None:
    save(folder, 1, 2, 10, 9)
    assert [path.name for path in folder.checkpoints_newest_first()] == ["00000010.pt", "00000009.pt"]
    state = load_newest(folder, pytest.fail)
    assert state is not None
    assert state["iteration"] == 10
    assert state["model"]["weight"].tolist() == [10] * 100


def test_a_full_disk_is_called_that(folder: RunFolder) -> None:
    save(folder, 1)
    whole = folder.checkpoint(1).stat().st_size
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (whole // 2, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            save(folder, 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["00000001.pt"]


def test_what_is_no_trouble_of_the_disk_stays_what_it_is(folder: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("not the disk")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(RuntimeError, match="not the disk"):
        save(folder, 1)


def test_none_yet(folder: RunFolder) -> None:
    assert load_newest(folder, pytest.fail) is None


def test_a_flipped_bit_falls_back_and_says_so(folder: RunFolder) -> None:
    save(folder, 1, 2)
    content = folder.checkpoint(2).read_bytes()
    place = content.index(torch.full((100,), 2.0).numpy().tobytes()) / len(content)
    damage(folder.checkpoint(2), place)
    damaged: list[str] = []
    state = load_newest(folder, damaged.append)
    assert state is not None
    assert state["iteration"] == 1
    (sentence,) = damaged
    assert "00000002.pt: is damaged" in sentence
    assert "falling back" in sentence


@pytest.mark.parametrize("size", [0, 10, 500])
def test_a_cut_file_falls_back(folder: RunFolder, size: int) -> None:
    save(folder, 1, 2)
    folder.checkpoint(2).write_bytes(folder.checkpoint(2).read_bytes()[:size])
    state = load_newest(folder, lambda _: None)
    assert state is not None
    assert state["iteration"] == 1


def test_all_damaged_is_an_error_not_a_new_start(folder: RunFolder) -> None:
    save(folder, 1)
    folder.checkpoint(1).write_bytes(b"nothing")
    damaged: list[str] = []
    with pytest.raises(BadInput, match="every checkpoint is damaged"):
        load_newest(folder, damaged.append)
    assert len(damaged) == 1, "why is told of each, also where none is left"
    assert "00000001.pt: is damaged" in damaged[0]


def test_nothing_in_a_checkpoint_is_executed(folder: RunFolder) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (folder.path / "sprung",))

    torch.save({"schema": 1, "iteration": 1, "model": Trap()}, folder.checkpoint(1), pickle_module=pickle)
    with pytest.raises(BadInput, match="damaged"):
        load_checkpoint(folder.checkpoint(1))
    assert not (folder.path / "sprung").exists()


@pytest.mark.parametrize("missing", ["model", "optimizer", "seconds", "iteration"])
def test_a_checkpoint_that_lacks_something_falls_back_and_says_so(tmp_path: Path, data: Coco, missing: str) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    trainer_of(folder, RuntimeOptions(workers=0, checkpoint_iterations=3)).train()
    newest = folder.checkpoint(6)
    state = torch.load(newest)
    del state[missing]
    torch.save(state, newest)
    trainer = trainer_of(folder)
    assert trainer.train().iterations == 6
    resumed = [event for event in folder.read_events() if event["event"] in ("warning", "resumed")]
    assert [event["event"] for event in resumed] == ["warning", "resumed"]
    assert resumed[0]["message"].startswith(f"{newest}: is damaged (")
    assert resumed[0]["message"].endswith("; falling back to the checkpoint before it")
    assert resumed[1]["iteration"] == 3


def test_weights_of_another_model_fall_back(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    trainer_of(folder, RuntimeOptions(workers=0, checkpoint_iterations=3)).train()
    state = torch.load(folder.checkpoint(6))
    name = next(iter(state["model"]))
    state["model"][name] = torch.zeros(1, 2, 3)
    torch.save(state, folder.checkpoint(6))
    folder.checkpoint(3).unlink()
    with pytest.raises(BadInput, match="every checkpoint is damaged"):
        trainer_of(folder).train()
