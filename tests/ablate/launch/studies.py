"""Studies without configs, and launchers whose workers play runs instead of training."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from ablate.launch.base import WorkerJob
from ablate.runs.folder import RunFolder, Workspace, write_json
from ablate.studies.study import Study, StudyRun, study_folder

PROJECT = Path(__file__).parents[3]
PLAYER = Path(__file__).with_name("player.py")
DRIVER = Path(__file__).with_name("driver.py")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def a_run(variant: str, seed: int = 0, **fields: object) -> StudyRun:
    values: dict[str, object] = {
        "variant": variant,
        "seed": seed,
        "changes": {},
        "config_path": "",
        "training": digest(f"{variant} {seed}"),
        "evaluation": digest(f"{variant} {seed} measured"),
    }
    return StudyRun(**(values | fields))  # type: ignore[arg-type]


def a_study(root: Path, runs: Sequence[StudyRun], name: str = "a study") -> Study:
    """Written under a root."""
    study = Study(
        name=name,
        axis="attention",
        title="How blocks attend",
        source="a paper",
        allowed_keys=("model",),
        baseline=runs[0].variant,
        base="tiny-shapes",
        settings={},
        seeds=tuple(dict.fromkeys(run.seed for run in runs)),
        synthetic=True,
        training_data="",
        validation_data="",
        runs=tuple(runs),
        planned="2026-01-01T00:00:00.000+00:00",
    )
    folder = study_folder(Workspace(root), name)
    folder.mkdir(parents=True)
    write_json(folder / "study.json", study)
    return study


def play(root: Path, run: StudyRun, ends: str = "finished", seconds: float = 0.0, saves: float = 0.0) -> None:
    """Tell the player what becomes of a run.

    Args:
        root: above `results/`.
        run: that is played.
        ends: a final state, `killed` (by itself, without a word), `refused` (before anything is written), or `full`
            (the disk).
        seconds: it takes.
        saves: seconds that it takes to save what it has, when it is asked to stop.
    """
    path = root / "plays" / run.run_id
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"ends": ends, "seconds": seconds, "saves": saves}))


def player_command(job: WorkerJob, processes: int) -> list[str]:
    return [sys.executable, str(PLAYER), msgspec.json.encode(job).decode(), str(processes)]


def played(root: Path) -> list[dict[str, object]]:
    """What the players noted: one record a begin and one an end."""
    path = root / "played.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def begun(root: Path) -> list[str]:
    return [str(record["run"]) for record in played(root) if record["what"] == "began"]


def start_launcher(root: Path, study: Study, **options: object) -> subprocess.Popen[str]:
    """A launcher of players, in a process of its own."""
    return subprocess.Popen(
        [sys.executable, str(DRIVER), str(root), study.name, json.dumps(options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)},
    )


def wait_until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def state_of(root: Path, run: StudyRun) -> str:
    status = folder_of(root, run).read_status()
    return "none" if status is None else status.state


def folder_of(root: Path, run: StudyRun) -> RunFolder:
    return Workspace(root).run(run.run_id)


def environment(folder: Path) -> Mapping[str, str]:
    """In which devices are shared with no other test and no other work of this machine."""
    return {"TMPDIR": str(folder), "XDG_RUNTIME_DIR": "", "OMP_NUM_THREADS": "1"}


STOP = signal.SIGINT
