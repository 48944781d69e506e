"""The run folder: whole files or none, and clear words for damaged ones."""

import json
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from ablate.config.identity import EVALUATION_REVISION, TRAINING_REVISION
from ablate.config.schema import Coco
from ablate.config.yaml import load_config, with_changes
from ablate.runs.folder import FAILURES, RunFolder, Status, Workspace, read_json, replacing, write_json
from ablate.runs.manifest import Manifest, git_state, make_manifest, older_rule
from analysis.exceptions import BadInput
from tests.shared_data import shared_case


def manifest(training: str = "a" * 64) -> Manifest:
    return make_manifest(
        training=training,
        evaluation="b" * 64,
        seed=0,
        training_data="c" * 64,
        validation_data="d" * 64,
        training_images="e" * 64,
        validation_images="f" * 64,
    )


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = Workspace(tmp_path / "röot with space").run("0123456789ab")
    folder.prepare(load_config("tiny-shapes"), manifest())
    return folder


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


def test_a_prepared_folder_holds_its_contract(run: RunFolder, tmp_path: Path) -> None:
    assert run.path == tmp_path / "röot with space" / "results" / "runs" / "0123456789ab"
    assert run.read_config() == load_config("tiny-shapes")
    stored = read_json(run.manifest, Manifest)
    assert stored.training == "a" * 64
    assert stored.packages["torch"]
    assert stored.hardware.cores >= 1
    assert stored.schema == 1
    status = run.read_status()
    assert status is not None
    assert status.state == "prepared"
    assert status.pid == os.getpid()


def test_preparing_again_changes_nothing_and_another_config_is_refused(run: RunFolder) -> None:
    before = run.manifest.read_bytes()
    run.prepare(load_config("tiny-shapes"), manifest("e" * 64))
    assert run.manifest.read_bytes() == before
    moved = with_changes(load_config("tiny-shapes"), {"data.train.images": 10})
    run.prepare(moved, manifest())  # data enters the identity by its content, not by its address
    with pytest.raises(BadInput, match="differs from the given config"):
        run.prepare(with_changes(load_config("tiny-shapes"), {"train.lr": 0.5}), manifest())


def test_data_paths_are_stored_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = Workspace(tmp_path).run("x")
    folder.prepare(load_config("vit-b-coco"), manifest())
    train = folder.read_config().data.train
    assert isinstance(train, Coco)
    assert train.images == str(tmp_path / "datasets/coco/train2017")


def test_a_kill_while_preparing_is_made_good(run: RunFolder) -> None:
    run.manifest.unlink()
    run.config.write_text("torn: [")
    run.prepare(load_config("tiny-shapes"), manifest())
    assert run.read_config() == load_config("tiny-shapes")


def test_a_root_that_cannot_hold_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="choose another --root"):
        Workspace(tmp_path / "file").run("x").prepare(load_config("tiny-shapes"), manifest())


@pytest.mark.parametrize("culprit", ["fsync", "replace", "fchmod"])
def test_a_failing_write_leaves_the_old_file_whole(
    culprit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"old": 1})

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, culprit, fail)
    with pytest.raises(OSError, match="No space"):
        write_json(path, {"new": 2})
    monkeypatch.undo()
    assert json.loads(path.read_text()) == {"old": 1}
    assert not parts(tmp_path)


def test_an_interrupted_block_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with replacing(path) as file:
            file.write(b"ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert not parts(tmp_path)


def test_readers_see_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("cut", [0, 1, 10, 40])
def test_a_torn_status_is_read_as_damaged(run: RunFolder, cut: int) -> None:
    run.write_status(Status(state="running", phase="training", iteration=7, iterations=9))
    run.status.write_bytes(run.status.read_bytes()[:cut])
    status = run.read_status()
    assert status is not None
    assert status.state == "damaged"
    assert "status.json: is damaged" in status.message
    assert "delete it" not in status.message, "nothing has to be deleted: launch continues"
    assert "launch continues" in status.message


def test_of_two_updates_at_once_the_failure_stays(run: RunFolder) -> None:
    failure = Status(state="out_of_memory", message="the device is full")
    other = threading.Thread(target=run.update_status, args=(lambda _: failure,))

    def slow(last: Status) -> Status | None:
        """How far the run is, told by a process that is held up between reading and writing."""
        other.start()
        other.join(0.2)
        return None if last.state in FAILURES else Status(state="running", iteration=1)

    run.update_status(slow)
    other.join()
    assert run.read_status() == failure


def test_status_survives_the_way_through_the_disk(run: RunFolder) -> None:
    status = Status(state="out_of_memory", phase="training", iteration=7, iterations=9, message="peak 31.9 GiB")
    run.write_status(status)
    assert run.read_status() == status
    assert RunFolder(run.path / "none").read_status() is None


def test_a_newer_schema_is_named(run: RunFolder) -> None:
    tree = json.loads(run.manifest.read_text())
    run.manifest.write_text(json.dumps({**tree, "schema": 2}))
    with pytest.raises(BadInput, match="has schema 2, this version reads up to 1"):
        read_json(run.manifest, Manifest)
    run.manifest.unlink()
    with pytest.raises(BadInput, match="cannot be read"):
        read_json(run.manifest, Manifest)


def test_a_cut_line_is_skipped_and_the_next_begins_anew(run: RunFolder) -> None:
    run.append_metrics(1, {"loss": 2.0})
    run.append_metrics(2, {"loss": float("nan")})
    with run.metrics.open("ab") as file:
        file.write(b'{"iteration": 3, "lo')
    assert [line["iteration"] for line in run.read_metrics()] == [1, 2]
    run.append_metrics(3, {"loss": 0.5})
    assert run.read_metrics() == [
        {"iteration": 1, "loss": 2.0},
        {"iteration": 2, "loss": None},
        {"iteration": 3, "loss": 0.5},
    ]
    run.rewind_metrics(2)
    assert [line["iteration"] for line in run.read_metrics()] == [1, 2]


@pytest.mark.parametrize("name", ["metrics_not_utf8.jsonl", "metrics_no_iteration.jsonl"])
def test_damaged_lines_that_were_seen_are_skipped(run: RunFolder, name: str) -> None:
    damaged = shared_case("security", "run_folder", name).read_bytes()
    run.append_metrics(20, {"loss": 2.0})
    with run.metrics.open("ab") as file:
        file.write(damaged)
    run.append_metrics(40, {"loss": 1.0})
    assert [line["iteration"] for line in run.read_metrics()][:1] == [20]
    assert [line["iteration"] for line in run.read_metrics()][-1:] == [40]
    assert all(isinstance(line["iteration"], int) for line in run.read_metrics())
    assert run.newest_losses() == {"iteration": 40, "loss": 1.0}
    run.rewind_metrics(20)
    assert run.read_metrics()[-1]["iteration"] <= 20


@pytest.mark.parametrize(
    "line",
    [b"\xff", b"[1]", b'{"loss": 1}', b'{"iteration": "3"}', b'{"iteration": -1}', b'{"iteration": true}', b"null",
     b'{"iteration": 3, "loss": "x"}', b'{"iteration": 3, "loss": [1]}', b'{"iteration": 1.5}', b"[" * 100_000,
     b"\x00"],
)  # fmt: skip
def test_a_line_that_is_no_measurement_or_event_is_skipped(run: RunFolder, line: bytes) -> None:
    for path in (run.metrics, run.events):
        path.write_bytes(line + b"\n")
    run.append_metrics(1, {"loss": 2.0})
    run.append_event("started")
    assert run.read_metrics() == [{"iteration": 1, "loss": 2.0}]
    assert [event["event"] for event in run.read_events()] == ["started"]


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 10, b"[" * 100_000])
def test_a_damaged_first_file_of_a_run_that_goes_on_is_made_again(run: RunFolder, name: str, content: bytes) -> None:
    run.write_status(Status(state="interrupted", iteration=5, iterations=9))
    (run.path / name).write_bytes(content)
    run.prepare(load_config("tiny-shapes"), manifest())
    assert run.read_config() == load_config("tiny-shapes")
    assert read_json(run.manifest, Manifest).training == "a" * 64
    status = run.read_status()
    assert status is not None
    assert (status.state, status.iteration) == ("interrupted", 5), "how far it came is not forgotten"
    assert [event["message"] for event in run.read_events()] == [f"{name} was damaged and is created again"]


@pytest.mark.parametrize("way", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_opened(run: RunFolder, way: Callable[[Path], None]) -> None:
    for path in (run.status, run.events, run.manifest):
        path.unlink(missing_ok=True)
        way(path)
    status = run.read_status()
    assert status is not None
    assert status.state == "damaged"
    with pytest.raises(BadInput, match=r"is a (FIFO|folder), not a file; move it away"):
        read_json(run.manifest, Manifest)
    with pytest.raises(BadInput, match=r"events.jsonl: is a (FIFO|folder), not a file"):
        run.read_events()
    with pytest.raises(OSError, match=r"is a FIFO|Is a directory"):
        run.append_event("started")


def test_events_carry_their_time(run: RunFolder) -> None:
    run.append_event("checkpoint", iteration=10)
    (event,) = run.read_events()
    assert (event["event"], event["iteration"]) == ("checkpoint", 10)
    assert event["time"].endswith("+00:00")


def test_checkpoints_are_found_newest_first(run: RunFolder) -> None:
    for iteration in (5, 100_000_000, 20):
        run.checkpoint(iteration).write_bytes(b"")
    for stray in (".00000030.pt.x.part", "0x.pt", "00000008 copy.pt", "7.pt", "\u0663" * 8 + ".pt", "00000009.pt.bak"):
        (run.checkpoints / stray).write_bytes(b"")
    (run.checkpoints / "00000090.pt").mkdir()
    assert [int(path.stem) for path in run.checkpoints_newest_first()] == [100_000_000, 20, 5]


def test_predictions_are_a_coco_results_file(run: RunFolder) -> None:
    records = [{"image_id": 1, "category_id": 2, "bbox": [0.5, 1, 2, 3], "score": 0.25}] * 2
    run.write_predictions(records)
    assert json.loads(run.predictions.read_text()) == records
    run.write_predictions([])
    assert json.loads(run.predictions.read_text()) == []


def test_runs_are_found_by_their_training(run: RunFolder, tmp_path: Path) -> None:
    root = tmp_path / "röot with space"
    other = Workspace(root).run("ffff")
    other.prepare(load_config("tiny-shapes"), manifest("e" * 64))
    torn = Workspace(root).run("eeee")
    torn.prepare(load_config("tiny-shapes"), manifest("e" * 64))
    torn.manifest.write_bytes(b"{")
    assert [found.path for found in Workspace(root).runs("a" * 64)] == [run.path]
    assert [found.path for found in Workspace(root).runs("e" * 64)] == [other.path]
    assert len(Workspace(root).runs()) == 3
    assert Workspace(tmp_path / "nowhere").runs() == []


def test_git_state_is_of_this_repository(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None
    assert msgspec.json.encode(manifest())
    if (Path(__file__).parents[3] / ".git").exists():
        git = manifest().git
        assert git is not None, "a run knows its commit"
        assert len(git.sha) == 40


def test_a_folder_says_by_which_older_rule_it_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, pretraining = Workspace(tmp_path).run("a" * 12), Workspace(tmp_path).pretraining("b" * 64)
    assert older_rule(run) == ""  # not started it
    for folder in (run, pretraining):
        folder.path.mkdir(parents=True)
        write_json(folder.manifest, manifest())
    assert (older_rule(run), older_rule(pretraining)) == ("", "")
    monkeypatch.setattr("ablate.runs.manifest.EVALUATION_REVISION", EVALUATION_REVISION + 1)
    assert older_rule(run) == f"made by older rules of evaluation (revision {EVALUATION_REVISION})"
    monkeypatch.setattr("ablate.runs.manifest.TRAINING_REVISION", TRAINING_REVISION + 1)
    assert older_rule(run) == f"made by older rules of training (revision {TRAINING_REVISION})"
    assert older_rule(pretraining) == ""
    monkeypatch.setattr("ablate.runs.manifest.PRETRAINING_REVISION", TRAINING_REVISION + 1)
    assert older_rule(pretraining) == f"made by older rules of training (revision {TRAINING_REVISION})"
    for folder in (run, pretraining):  # as it was written before the images entered
        document = json.loads(folder.manifest.read_text())
        for key in ("training_images", "validation_images", "training_revision", "evaluation_revision"):
            del document[key]
        folder.manifest.write_text(json.dumps(document))
        assert read_json(folder.manifest, Manifest).training_images == ""
        assert older_rule(folder) == "made before image contents entered the run id"
