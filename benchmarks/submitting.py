"""What a submission to Slurm costs beside sbatch: ``python benchmarks/submitting.py [--runs 100]``.

Prints a Markdown table. Needs a Slurm: the jobs are submitted held, and cancelled at once.
Runs that need a pre-training of their own each are no array: the second row is the most calls of sbatch that a study of
so many runs can have.
"""

import argparse
import hashlib
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ablate import slurm  # noqa: E402
from ablate.launch.base import LaunchOptions  # noqa: E402
from ablate.launch.cluster import Cluster  # noqa: E402
from ablate.launch.slurm import submit_study  # noqa: E402
from ablate.runs.folder import Workspace  # noqa: E402
from tests.ablate.launch.studies import a_run, a_study  # noqa: E402

MOST_SECONDS = 5.0


def submission(runs: int, chained: bool) -> tuple[float, float, int]:
    """Seconds of a submission, of which in Slurm's commands, and the calls of sbatch."""
    spent, calls, ask = 0.0, 0, slurm.ask

    def timed(program: str, *arguments: str, **options: Any) -> str:
        nonlocal spent, calls
        began = time.perf_counter()
        try:
            return ask(program, *arguments, **options)
        finally:
            spent += time.perf_counter() - began
            calls += program == "sbatch"

    with tempfile.TemporaryDirectory() as folder:
        root, made = Path(folder), []
        for number in range(runs):
            needs = (made[-1].run_id,) if chained and made else ()
            made.append(a_run(f"v{number}", needs=needs, training=hashlib.sha256(str(number).encode()).hexdigest()))
        study = a_study(root, made)
        slurm.ask = timed
        try:
            began = time.perf_counter()
            cluster = Cluster(sbatch={"hold": True})
            submitted, _ = submit_study(Workspace(root), study, LaunchOptions(device="cpu"), cluster)
            seconds = time.perf_counter() - began
        finally:
            slurm.ask = ask
        slurm.cancel([batch.job for batch in submitted.batches])
    return seconds, spent, calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    runs = parser.parse_args().runs
    heads = ("study", "wall", "of which Slurm's commands", "calls of sbatch", "ours", "at most", "held")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for name, chained in ((f"{runs} runs, one array", False), (f"{runs} runs, each needs the one before", True)):
        seconds, spent, calls = submission(runs, chained)
        ours = seconds - spent
        held = "yes" if ours <= MOST_SECONDS else "NO"
        print(f"| {name} | {seconds:.2f} s | {spent:.2f} s | {calls} | {ours:.2f} s | {MOST_SECONDS:g} s | {held} |")


if __name__ == "__main__":
    main()
