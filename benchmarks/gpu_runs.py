"""The stages of `benchmarks/gpu.py` that carry out whole runs: tests, training that is stopped, several processes."""

import importlib.util
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_device import Device, Missing
from benchmarks.gpu_steps import with_data

ROOT = Path(__file__).resolve().parent.parent
TESTS = ("engines/test_gpu.py", "models/test_attention.py", "detector/test_batch_norm.py", "doctor/test_devices.py")


def tests(on: Device) -> None:
    """The tests that are marked ``gpu``; in the rehearsal they are only collected."""
    if importlib.util.find_spec("pytest") is None:
        raise Missing("pytest (pip install it)")
    words = ["-m", "gpu", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib --strict-markers"]
    files = [f"tests/ablate/{name}" for name in (TESTS[1:2] if on.tiny else TESTS)]
    command = [sys.executable, "-m", "pytest", *words, *(["--collect-only"] if on.tiny else []), *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stdout.strip().splitlines()[-1:] or done.stderr.strip().splitlines()[-1:] or [""]
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    on.say("tests", "marked gpu", exit_code=done.returncode, said=last[0], failures=failed or None)


def training(on: Device) -> None:
    """Bf16 on real images, ended by SIGTERM and continued by the same call."""
    _run(on, "training", images=8 if on.gpu else 2, images_per_norm=8 if on.gpu else 2, precision=on.precision)


def fp16(on: Device) -> None:
    """Loss scaling together with accumulation: two passes of four images a step."""
    precision = "fp16" if on.gpu else "fp32"
    _run(on, "fp16", images=8 if on.gpu else 2, images_per_norm=4 if on.gpu else 1, precision=precision)


def _run(on: Device, stage: str, *, images: int, images_per_norm: int, precision: str) -> None:
    from ablate.runs.folder import Workspace

    iterations = 40 if on.gpu else 21
    changes = (
        "train.epochs=none",
        f"train.iterations={iterations}",
        f"train.batch_size={images}",
        f"train.images_per_norm={images_per_norm}",
        f"train.precision={precision}",
        "evaluate.max_detections=20",
    )
    config, root = with_data(on, on.config("vit-b-coco", *changes)), on.work / stage
    start = multiprocessing.get_context("spawn" if on.gpu else "fork")
    ends = []
    for stopped in (True, False):
        began = time.monotonic()
        process = start.Process(target=_execute, args=(config, root, "cuda" if on.gpu else "cpu"))
        process.start()
        while stopped and process.is_alive():
            time.sleep(0.05)
            if any(run.read_metrics() for run in Workspace(root).runs()):  # a line every twenty iterations
                os.kill(process.pid or 0, signal.SIGTERM)
                break
        process.join(max(1.0, on.left()))
        ends.append((process.exitcode, round(time.monotonic() - began, 1)))
    (run,) = Workspace(root).runs()
    status, metrics, events = run.read_status(), run.read_metrics(), run.read_events()
    losses = [line for line in metrics if "loss" in line]
    on.say(
        stage,
        f"{precision}, {images} images in passes of {images_per_norm}",
        ended=ends,
        state=None if status is None else status.state,
        message=None if status is None else status.message[:160] or None,
        resumed_after=[event.get("iteration") for event in events if event["event"] == "resumed"],
        losses=[round(line["loss"], 3) for line in losses],
        seconds_a_step=[round(line["seconds_per_iteration"], 4) for line in losses],
        peak_gib=round(losses[-1]["peak_gib"], 3) if losses else None,
    )


def _execute(config: Any, root: Path, device: str) -> None:
    """A run from top to bottom, as the command does it."""
    from ablate.execute.run import execute
    from ablate.runs.folder import Workspace
    from ablate.train.outcome import RuntimeOptions
    from analysis.exceptions import DetablateError

    if device == "cpu":
        torch.set_num_threads(1)
    try:
        execute(config, Workspace(root), RuntimeOptions(device=device, workers=4 if device == "cuda" else 0))
    except DetablateError as error:
        print(f"  {error}", flush=True)
        raise SystemExit(error.exit_code) from None


def processes(on: Device) -> None:
    """NCCL with one process, and two processes on one device by gloo against one: the same weights."""
    start = multiprocessing.get_context("spawn" if on.gpu else "fork")
    if on.gpu:
        with on.row("processes", "NCCL, one process"):
            ended = _joined(start, _nccl, 1, on)
            on.say("processes", "NCCL, one process", ended=ended, nccl=".".join(map(str, torch.cuda.nccl.version())))
    from tests.ablate.tiny import prepared, tiny_config, write_data

    data = write_data(on.work / "rectangles")
    changes = {"train__iterations": 3, "train__batch_size": 4, "train__images_per_norm": 4, "train__lr": 0.02}
    for count in (1, 2):
        prepared(on.work, tiny_config(data, **changes), f"gloo-{count}")
    ended = [_joined(start, _train, count, on) for count in (1, 2)]
    weights = []
    for count in (1, 2):
        newest = sorted((on.work / "results" / "runs" / f"gloo-{count}" / "checkpoints").glob("*.pt"))[-1]
        weights.append(torch.load(newest, map_location="cpu", weights_only=True)["model"])
    worst = max((weights[0][key].double() - weights[1][key].double()).abs().max().item() for key in weights[0])
    on.say("processes", "two on one device by gloo against one", ended=ended, largest_difference=f"{worst:.1e}")


def _joined(start: Any, act: Any, count: int, on: Device) -> list[int | None]:
    """Exit codes of so many processes that torch brings together."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    children = [start.Process(target=act, args=(rank, count, port, on.gpu, on.work)) for rank in range(count)]
    for child in children:
        child.start()
    for child in children:
        child.join(max(1.0, on.left()))
    return [child.exitcode for child in children]


def _nccl(rank: int, count: int, port: int, gpu: bool, work: Path) -> None:
    """The collectives that training uses."""
    import torch.distributed as dist

    device = torch.device("cuda", 0)
    torch.cuda.set_device(device)
    meeting = f"tcp://127.0.0.1:{port}"
    dist.init_process_group("nccl", init_method=meeting, rank=rank, world_size=count, device_id=device)
    value, gathered = torch.ones(3, device=device), [None]
    dist.all_reduce(value)
    dist.broadcast(value, 0)
    dist.barrier()
    dist.gather_object({"rank": rank}, gathered)
    assert gathered == [{"rank": 0}]
    dist.destroy_process_group()


def _train(rank: int, count: int, port: int, gpu: bool, work: Path) -> None:
    """The smallest detector, trained by plain gradient descent, which shows every difference of gradients."""
    import torch.distributed as dist

    from ablate.engines.base import read_data
    from ablate.engines.registry import build_trainer
    from ablate.runs.folder import Workspace
    from ablate.train.distributed import Processes
    from ablate.train.outcome import RuntimeOptions

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=count)
    alone = Processes(rank, count, torch.device("cuda", 0) if gpu else torch.device("cpu"))
    folder = Workspace(work).run(f"gloo-{count}")
    config = folder.read_config()
    torch.manual_seed(0)
    data = read_data(config, folder.workspace, alone)
    trainer = build_trainer(config, data, folder, alone, RuntimeOptions(workers=0))
    trainer.optimizer = torch.optim.SGD(trainer.module.parameters(), lr=0.02)
    trainer.train()
    dist.destroy_process_group()
