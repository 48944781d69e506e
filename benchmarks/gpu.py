"""Everything that a GPU can prove about training, by one command: ``python benchmarks/gpu.py [--minutes 8]``.

    python benchmarks/gpu.py --minutes 8 --out results/gpu [--stages steps,memory] [--coco COCO_ROOT]
    python benchmarks/gpu.py --tiny          rehearses every stage on a CPU, with toy sizes; its numbers mean nothing

Stages run one after another, in the order of what is asked first, each in a process of its own. One that could not end
in the time that is left is not begun; what a machine lacks is told, and the others go on. Results are lines of
``results.jsonl``, which later calls add to, a table ``results.md`` and a figure ``results.png``. ``docs/gpu.md`` says
what each stage measures.
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_device import Device, Missing  # noqa: E402


class Stage(NamedTuple):
    """A stage, and the most seconds that it takes on a GPU; estimates until one has been measured."""

    name: str
    seconds: int
    module: str  # that has a function of this name


STAGES = (
    Stage("machine", 30, "benchmarks.gpu_stages"),
    Stage("steps", 130, "benchmarks.gpu_stages"),
    Stage("attention", 60, "benchmarks.gpu_stages"),
    Stage("memory", 70, "benchmarks.gpu_stages"),
    Stage("training", 100, "benchmarks.gpu_runs"),
    Stage("inference", 45, "benchmarks.gpu_stages"),
    Stage("profile", 40, "benchmarks.gpu_stages"),
    Stage("tests", 120, "benchmarks.gpu_runs"),
    Stage("paper", 110, "benchmarks.gpu_stages"),
    Stage("levers", 120, "benchmarks.gpu_stages"),
    Stage("fp16", 80, "benchmarks.gpu_runs"),
    Stage("backbone", 120, "benchmarks.gpu_stages"),
    Stage("processes", 60, "benchmarks.gpu_runs"),
    Stage("loading", 20, "benchmarks.gpu_stages"),
)
NAMES = tuple(stage.name for stage in STAGES)
LEFT_FOR_TABLES = 10  # seconds


def chosen(text: str) -> list[Stage]:
    """The stages of a list with commas, in the order of `STAGES`; all for an empty one."""
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(f"no stage {', '.join(unknown)}; there are {', '.join(NAMES)}")
    return [stage for stage in STAGES if not wanted or stage.name in wanted]


def carry_out(stage: Stage, options: dict[str, Any]) -> None:
    """One stage, in a process of its own; how it fails is a result too."""
    import importlib
    import traceback

    import torch

    os.setsid()  # so that what it starts can be ended with it
    if options["tiny"]:
        torch.set_num_threads(1)
    on = Device(**options)
    try:
        getattr(importlib.import_module(stage.module), stage.name)(on)
    except Missing as missing:
        on.say(stage.name, "missing", missing=str(missing))
    except ImportError as error:
        on.say(stage.name, "missing", missing=f"{error.name or error} (pip install it)")
    except Exception as error:
        traceback.print_exc()
        on.say(stage.name, "failed", failed=f"{type(error).__name__}: {str(error).strip()[:300]}")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=8.0, help="in all; no stage is begun that needs more")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "gpu", help="folder of the results")
    parser.add_argument("--stages", type=chosen, default=chosen(""), help=f"of {', '.join(NAMES)}; all are")
    parser.add_argument("--coco", type=Path, help="a COCO root, whose images are trained on; else pictures are made")
    parser.add_argument("--tiny", action="store_true", help="rehearse on a CPU")
    arguments = parser.parse_args(words)
    end = time.monotonic() + 60 * arguments.minutes
    if arguments.minutes <= 0:
        parser.error("--minutes must be more than 0")
    if arguments.coco is not None and not arguments.coco.is_dir():
        parser.error(f"--coco {arguments.coco}: no such folder")
    import torch

    if not arguments.tiny and not torch.cuda.is_available():
        parser.error("no CUDA device is visible to PyTorch; --tiny rehearses on the CPU")
    arguments.out.mkdir(parents=True, exist_ok=True)
    lines = arguments.out / ("rehearsal.jsonl" if arguments.tiny else "results.jsonl")
    # CUDA does not survive a fork; on a CPU one saves the seconds in which modules are imported again.
    processes = multiprocessing.get_context("fork" if arguments.tiny else "spawn")
    not_begun: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        for stage in arguments.stages:
            left = end - time.monotonic() - LEFT_FOR_TABLES
            if stage.seconds > left and not arguments.tiny:
                not_begun.append(f"{stage.name} ({stage.seconds} s)")
                continue
            print(f"{stage.name} (at most {stage.seconds} s, {left:.0f} s left)", flush=True)
            options = {
                "tiny": arguments.tiny,
                "out": lines,
                "until": time.monotonic() + stage.seconds,
                "coco": arguments.coco,
                "work": Path(work),
            }
            _within(stage.seconds, processes.Process(target=carry_out, args=(stage, options)), stage.name, lines)
    if not_begun:
        print(f"not begun, for want of time: {', '.join(not_begun)}; --stages and --minutes give them some")
    from benchmarks.gpu_results import show

    show(lines)
    return 0


def _within(seconds: int, process: Any, stage: str, lines: Path) -> None:
    """Carry out a process, and end it when it takes longer than it may."""
    process.start()
    process.join(seconds)
    ended = ""
    if process.is_alive():
        os.killpg(process.pid, signal.SIGKILL)
        process.join()
        ended = f"ended after {seconds} s, what it measured before counts"
    elif process.exitcode:
        ended = f"the process ended with exit code {process.exitcode}"
    if ended:
        print(f"  {ended}", flush=True)
        with lines.open("a") as file:
            file.write(json.dumps({"stage": stage, "row": "ended", "failed": ended}) + "\n")


if __name__ == "__main__":
    raise SystemExit(main())
