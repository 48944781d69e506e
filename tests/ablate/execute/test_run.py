"""What the processes of a run record, and what they find and leave in its folder."""

from pathlib import Path

import pytest

from ablate.config.schema import Coco
from ablate.execute import run as execution
from ablate.execute.run import execute, prepare
from ablate.runs.folder import RunFolder, Workspace
from ablate.train.outcome import Interrupted, RanOutOfMemory, RunFailed, RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.tiny import prepared, tiny_config, write_data

HABITS = RuntimeOptions()


@pytest.fixture
def data(tmp_path: Path) -> Coco:
    return write_data(tmp_path / "data", images=2)


def engine_that_raises(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    class Engine:
        def run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
            raise error

    monkeypatch.setattr(execution, "engine_of", lambda _: Engine())


def told(folder: RunFolder) -> tuple[str, str]:
    status = folder.read_status()
    assert status is not None
    return status.state, status.message


@pytest.mark.parametrize(
    ("error", "raised", "expected"),
    [
        (BadInput("7.png: is no image"), BadInput, ("failed", "7.png: is no image")),
        (RanOutOfMemory("it is full"), RunFailed, ("out_of_memory", "it is full")),
        (Interrupted("stopped by SIGTERM"), Interrupted, ("prepared", "")),
    ],
)
def test_what_goes_wrong_beside_the_first_process_is_recorded(
    tmp_path: Path,
    data: Coco,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    raised: type[Exception],
    expected: tuple[str, str],
) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    engine_that_raises(monkeypatch, error)
    with pytest.raises(raised):
        execution._take_part(folder, HABITS, execution.WORK)
    assert told(folder) == expected


def test_the_first_process_leaves_what_the_other_said_and_gives_bare_sentences(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, tiny_config(data))

    class Engine:
        def run(self, folder: RunFolder, runtime: RuntimeOptions) -> None:
            execution._tell(folder, 0.0, "failed", "7.png: is no image")
            raise RuntimeError("connection closed by peer")

    monkeypatch.setattr(execution, "engine_of", lambda _: Engine())
    with pytest.raises(RuntimeError):
        execution._carry_out(folder, HABITS, execution.WORK, alone=False)
    assert told(folder) == ("failed", "7.png: is no image")
    engine_that_raises(monkeypatch, BadInput("8.png: is no image"))
    with pytest.raises(BadInput):
        execution._carry_out(folder, HABITS, execution.WORK, alone=True)
    assert told(folder) == ("failed", "8.png: is no image")


def test_the_holder_sweeps_up_what_kills_left_and_links_both_checkpoints(
    tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_that_raises(monkeypatch, Interrupted("enough"))
    trained = prepare(tiny_config(data), Workspace(tmp_path), "cpu")
    for iteration in (4, 6):
        trained.checkpoint(iteration).write_bytes(b"%d" % iteration)
    config = tiny_config(data, evaluate__max_detections=3)
    folder = prepare(config, Workspace(tmp_path), "cpu")
    assert folder.path != trained.path
    cut_short = folder.checkpoints / ".00000002.pt.x1y2.part"
    cut_short.write_bytes(b"half")
    with pytest.raises(Interrupted):
        execute(config, Workspace(tmp_path), HABITS)
    assert sorted(path.name for path in folder.checkpoints.iterdir()) == ["00000004.pt", "00000006.pt"]
    assert folder.checkpoint(4).samefile(trained.checkpoint(4))
