"""What the processes of a run record, and what they find and leave in its folder."""

import os
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from ablate.config.schema import Coco
from ablate.execute import run as execution
from ablate.execute.run import execute, prepare, recorded
from ablate.runs.folder import RunFolder, Status, Workspace
from ablate.train.distributed import Processes
from ablate.train.outcome import Diverged, Interrupted, LostPeer, RanOutOfMemory, RunFailed, RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.tiny import prepared, tiny_config, write_data

RUNTIME = RuntimeOptions()
ALONE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture
def data(tmp_path: Path) -> Coco:
    return write_data(tmp_path / "data", images=2)


FIRST, SECOND = (Processes(rank, 2, torch.device("cpu")) for rank in (0, 1))


def told(folder: RunFolder) -> tuple[str, str]:
    status = folder.read_status()
    assert status is not None
    return status.state, status.message


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other process of a pair is played by the test."""
    monkeypatch.setattr(Processes, "wait", lambda _: None)


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(
    ("error", "raised", "expected"),
    [
        (BadInput("7.png: is no image"), BadInput, ("failed", "7.png: is no image")),
        (RanOutOfMemory("it is full"), RunFailed, ("out_of_memory", "it is full")),
        (Interrupted("stopped by SIGTERM"), Interrupted, ("prepared", "")),
    ],
)
def test_what_goes_wrong_beside_the_first_process_is_recorded(
    tmp_path: Path, data: Coco, error: Exception, raised: type[Exception], expected: tuple[str, str]
) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    with pytest.raises(raised), recorded(folder, SECOND):
        raise error
    assert told(folder) == expected


@pytest.mark.usefixtures("no_waiting")
def test_the_first_process_leaves_what_the_other_said_and_gives_bare_sentences(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data))

    def stages() -> None:
        folder.write_status(Status(state="failed", message="7.png: is no image"))  # as the other process does
        raise RuntimeError("connection closed by peer")

    with pytest.raises(LostPeer, match="another process of this run ended"), recorded(folder, FIRST):
        stages()
    assert told(folder) == ("failed", "7.png: is no image")
    with pytest.raises(BadInput), recorded(folder, ALONE):
        raise BadInput("8.png: is no image")
    assert told(folder) == ("failed", "8.png: is no image")


@pytest.mark.parametrize(
    ("error", "raised", "expected"),
    [
        (RanOutOfMemory("it is full"), None, ("out_of_memory", "it is full")),
        (torch.OutOfMemoryError("CUDA out of memory.\nTried"), None, ("out_of_memory", "run: CUDA out of memory.")),
        (Diverged("the loss is not finite"), Diverged, ("diverged", "the loss is not finite")),
        (Interrupted("stopped by SIGTERM"), Interrupted, ("interrupted", "stopped by SIGTERM")),
        (
            KeyboardInterrupt(),
            KeyboardInterrupt,
            ("interrupted", "stopped by SIGINT; run the same command to continue"),
        ),
        (RuntimeError("shapes differ"), RuntimeError, ("failed", "RuntimeError: shapes differ")),
        (
            OSError(28, "No space left on device", "x.pt"),
            Interrupted,
            (
                "interrupted",
                "x.pt: No space left on device; the saved state is not lost: fix this, and run the same command to "
                "continue",
            ),
        ),
    ],
)
def test_how_the_stages_end_is_how_the_run_stands(
    tmp_path: Path, data: Coco, error: BaseException, raised: type[BaseException] | None, expected: tuple[str, str]
) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    with pytest.raises(raised) if raised else nullcontext(), recorded(folder, ALONE):
        assert told(folder) == ("running", "")
        raise error
    state, message = told(folder)
    assert (state, message.removeprefix(f"{folder.path.parent}{os.sep}")) == expected
    assert [event["event"] for event in folder.read_events()] == ["started", expected[0]]


@pytest.mark.usefixtures("no_waiting")
def test_ending_well_is_finished_and_out_of_memory_ends_the_other_processes(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    with recorded(folder, SECOND):
        pass
    assert told(folder) == ("prepared", ""), "the first process says so"
    with recorded(folder, FIRST):
        pass
    assert told(folder) == ("finished", "")
    with pytest.raises(RunFailed, match="it is full"), recorded(folder, FIRST):
        raise RanOutOfMemory("it is full")
    assert told(folder) == ("out_of_memory", "it is full")


def test_the_holder_sweeps_up_what_kills_left_and_links_both_checkpoints(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stages(*_: object) -> None:
        raise Interrupted("enough")

    monkeypatch.setattr(execution, "run_stages", stages)
    trained = prepare(tiny_config(data), Workspace(tmp_path), "cpu")
    for iteration in (4, 6):
        trained.checkpoint(iteration).write_bytes(b"%d" % iteration)
    config = tiny_config(data, evaluate__max_detections=3)
    folder = prepare(config, Workspace(tmp_path), "cpu")
    assert folder.path != trained.path
    cut_short = folder.checkpoints / ".00000002.pt.x1y2.part"
    cut_short.write_bytes(b"half")
    with pytest.raises(Interrupted):
        execute(config, Workspace(tmp_path), RUNTIME)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["00000004.pt", "00000006.pt"]
    assert folder.checkpoint(4).samefile(trained.checkpoint(4))
