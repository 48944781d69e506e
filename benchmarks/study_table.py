"""Tabulating a study of many finished runs: ``python benchmarks/study_table.py [--runs 500]``.

Run folders are generated in a temporary folder. Prints a Markdown table: start-up alone (``ablate table --help``), the
whole command, and the difference, which is what the study costs; medians, commands taken in turn.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import msgspec

from ablate.runs.folder import Workspace

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ablate.axes import AXES  # noqa: E402
from ablate.studies.plan import Request, plan  # noqa: E402
from ablate.studies.study import Study, write_study  # noqa: E402
from tests.ablate.finished import finish, probed  # noqa: E402

SEEDS = 5


def generate(root: Path, runs: int) -> Study:
    """A study of that many finished runs, each with its own folder."""
    small = plan(AXES["head"], Request(only=["paper"]), Workspace(root))
    first = small.runs[0]
    many = [
        msgspec.structs.replace(
            first,
            variant=f"variant {number // SEEDS}",
            seed=number % SEEDS,
            evaluation=f"{number:012x}" + "0" * 52,
            config_path=f"configs/studies/many/{number}.yaml",
        )
        for number in range(runs)
    ]
    study = msgspec.structs.replace(
        small, name="many", runs=tuple(many), baseline="variant 0", seeds=tuple(range(SEEDS))
    )
    write_study(Workspace(root), study)
    for number, run in enumerate(many):
        probed(finish(root, study, run, 30.0 + number % 7))
    return study


def seconds(*arguments: str) -> float:
    """Of one call of the command line."""
    start = time.perf_counter()
    done = subprocess.run([sys.executable, str(ROOT / "cli.py"), *arguments], capture_output=True, check=True)
    assert done.stdout
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), arguments.runs)
        pairs = [
            (seconds("ablate", "table", "--help"), seconds("ablate", "table", "many", "--root", folder))
            for _ in range(arguments.repeats + 1)
        ][1:]
    start, whole = (median(pair[place] for pair in pairs) for place in (0, 1))
    beyond = median(second - first for first, second in pairs)
    print(f"| {arguments.runs} finished runs | seconds |\n|---|---:|")
    print(f"| start-up | {start:.2f} |\n| ablate table | {whole:.2f} |\n| beyond start-up | {beyond:.2f} |")


if __name__ == "__main__":
    main()
