"""What the launcher costs: ``python benchmarks/launching.py [--runs 3] [--listed 500]``.

Prints a Markdown table. Following: wall time of a command on a study of finished runs, against ``cli.py ablate --help``
(start-up) in turn with it; the difference is the work, and may be 1 s. Launching: wall time of a launch of very small
runs, an iteration each, less what a process needs for ``import torch`` and spends in the engine (its own imports among
it); what is left is ours, and may be 2 s a run.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["OMP_NUM_THREADS"] = "1"  # networks this small are slower on more

import msgspec  # noqa: E402

from ablate.config.yaml import load_config  # noqa: E402
from ablate.launch.base import LaunchOptions  # noqa: E402
from ablate.launch.local import LocalLauncher  # noqa: E402
from ablate.launch.view import PlainView  # noqa: E402
from ablate.runs.folder import Workspace  # noqa: E402
from ablate.studies.study import Study, StudyRun, write_study  # noqa: E402
from tests.ablate.finished import finish  # noqa: E402


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - began


def a_study(root: Path, runs: int) -> Study:
    config = load_config("tiny-shapes")
    return Study(
        name="listed",
        axis="attention",
        title="",
        source="",
        allowed_keys=("model",),
        baseline="v0",
        base="tiny-shapes",
        settings={},
        seeds=tuple(range(5)),
        synthetic=True,
        training_data="a" * 64,
        validation_data="b" * 64,
        planned="2026-01-01T00:00:00.000+00:00",
        runs=tuple(
            StudyRun(
                variant=f"v{number // 5}",
                seed=number % 5,
                changes={},
                config_path=f"configs/studies/listed/{number}.yaml",
                config=msgspec.structs.replace(config, seed=number % 5),
                training=hashlib.sha256(f"t{number}".encode()).hexdigest(),
                evaluation=hashlib.sha256(f"e{number}".encode()).hexdigest(),
            )
            for number in range(runs)
        ),
    )


def following(listed: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        study = a_study(root, listed)
        write_study(Workspace(root), study)
        for number, run in enumerate(study.runs):
            finish(root, study, run, ap=20 + number % 7)
        start_up = [sys.executable, "cli.py", "ablate", "--help"]
        seconds(start_up)
        for verb in ("list", "status", "table"):
            command = [sys.executable, "cli.py", "ablate", verb, "--root", folder]
            pairs = [(seconds(start_up), seconds(command)) for _ in range(repeats)]
            work = median(both - bare for bare, both in pairs)
            print(
                f"| `ablate {verb}`, {listed} finished runs | {median(b for _, b in pairs):.2f} s, of which start-up "
                f"{median(a for a, _ in pairs):.2f} s | {work:.2f} s | 1 s | {'yes' if work <= 1 else 'NO'} |"
            )


def launching(runs: int) -> None:
    from ablate.axes.custom import axis_from_keys
    from ablate.config.yaml import dump_config
    from ablate.studies.plan import Request, plan
    from tests.ablate.tiny import tiny_config, write_data

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config = tiny_config(write_data(root / "data"), train__iterations=1)
        (root / "base.yaml").write_text(dump_config(config))
        rates = ",".join(f"{number + 1}e-4" for number in range(runs))
        study = plan(
            axis_from_keys([f"train.lr={rates}"]), Request(base=str(root / "base.yaml"), device="cpu"), Workspace(root)
        )
        write_study(Workspace(root), study)
        imports = median(seconds([sys.executable, "-c", "import os, torch; os._exit(0)"]) for _ in range(3))
        began = time.perf_counter()
        outcome = LocalLauncher().launch(Workspace(root), study, LaunchOptions(device="cpu"), PlainView())
        each = (time.perf_counter() - began) / runs
        assert not outcome.failed
        engine = median(_engine_seconds(root, run) for run in study.runs)
        ours = each - engine - imports
        print(
            f"| a run under `ablate launch` | {each:.2f} s, of which engine {engine:.2f} s, import of torch "
            f"{imports:.2f} s | {ours:.2f} s | 2 s | {'yes' if ours <= 2 else 'NO'} |"
        )


def _engine_seconds(root: Path, run: StudyRun) -> float:
    times = {
        event["event"]: datetime.fromisoformat(event["time"]) for event in Workspace(root).run(run.run_id).read_events()
    }
    return (times["predicted"] - times["started"]).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--listed", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    print("| what | wall | ours | at most | held |\n|---|---|---|---|---|")
    following(given.listed, given.repeats)
    launching(given.runs)


if __name__ == "__main__":
    main()
