"""How far the demonstration's numbers move from machine to machine: ``python benchmarks/demonstration.py``.

Runs the study that the README shows under several numbers of threads and, with ``--python``, under other interpreters
with another torch (a virtual environment each, in which ``pip install .[train]`` and another ``torch`` were installed).
Prints a Markdown table: AP of every variant and its difference to the baseline, a row a run of the study. Equal seeds
start equal and see equal data; the order of floating-point sums differs with threads and kernels, and training
amplifies the last digit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Run the study in every way and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", default="1,2", help="numbers of threads, such as 1,2")
    parser.add_argument("--python", action="append", help="an interpreter; repeat for more", metavar="PATH")
    parser.add_argument("--set", action="append", default=[], help="for all runs, such as train.iterations=20")
    arguments = parser.parse_args()
    heads: list[str] = []
    for python in arguments.python or [sys.executable]:
        version = subprocess.check_output([python, "-c", "import torch; print(torch.__version__)"], text=True).strip()
        for threads in arguments.threads.split(","):
            rows = study(python, threads, arguments.set)["rows"]
            if not heads:
                heads = ["torch", "threads", *(f"{row['variant']}: AP (difference)" for row in rows)]
                print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
            print(f"| {' | '.join([version, threads, *map(in_words, rows)])} |", flush=True)


def study(python: str, threads: str, settings: list[str]) -> dict[str, Any]:
    """The table of the study, run in a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        changes = [word for setting in settings for word in ("--set", setting)]
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        for verb in (["attention", *changes, "--launch", "--yes"], ["table", "--json"]):
            done = subprocess.run(
                [python, str(ROOT / "cli.py"), "ablate", *verb, "--root", folder],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
                check=True,
            )
        document: dict[str, Any] = json.loads(done.stdout)
        return document


def in_words(row: dict[str, Any]) -> str:
    """AP of a variant in points, and its difference to the baseline."""
    difference = f" ({row['difference']['mean']:+.1f})" if row["difference"] else ""
    return f"{row['metrics']['AP']['mean']:.1f}{difference}"


if __name__ == "__main__":
    main()
