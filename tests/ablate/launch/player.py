"""A worker that plays its run: the real one, with another engine."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import msgspec

from ablate.launch import worker
from ablate.launch.base import WorkerJob
from ablate.runs.folder import FINAL, Status, Workspace
from ablate.runs.lock import holding
from ablate.train.outcome import Diverged, Interrupted
from analysis.exceptions import BadInput
from tests.ablate.finished import write_manifest, write_results


def note(root: Path, **fields: object) -> None:
    with (root / "played.jsonl").open("a") as file:
        file.write(json.dumps({"pid": os.getpid(), "at": time.monotonic(), **fields}) + "\n")


def run_as_told(job: WorkerJob) -> None:
    root, folder = Path(job.root), Workspace(Path(job.root)).job_folder(job.run)
    path = root / "plays" / job.run
    told = json.loads(path.read_text()) if path.exists() else {"ends": "finished", "seconds": 0.0}
    if told["ends"] == "refused":
        raise BadInput("images/: there is no such folder of images")
    with holding(folder.path, "the run"):
        status = folder.read_status()
        if status is not None and (status.state == "finished" or (status.state in FINAL and not job.again)):
            return
        stopped: list[int] = []
        signal.signal(signal.SIGTERM, lambda number, _: stopped.append(number))
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        threads = os.environ.get("OMP_NUM_THREADS", "")
        device, processes = job.options.device, sys.argv[2]
        note(root, what="began", run=job.run, gpus=gpus, device=device, processes=processes, threads=threads)
        folder.write_status(Status(state="running", phase="training", iteration=1, iterations=2))
        print("playing", flush=True)
        deadline = time.monotonic() + told["seconds"]
        while time.monotonic() < deadline and not stopped:
            time.sleep(0.01)
        note(root, what="ended", run=job.run)
        if stopped:
            time.sleep(told.get("saves", 0.0))
            folder.write_status(Status(state="interrupted", message="stopped", iteration=1, iterations=2))
            raise Interrupted("stopped")
        if told["ends"] == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if told["ends"] == "full":
            raise OSError(28, "No space left on device", str(folder.status))
        message = "the loss is not finite" if told["ends"] == "diverged" else ""
        if told["ends"] == "finished":
            write_manifest(folder)
            write_results(folder)
        folder.write_status(Status(state=told["ends"], message=message, iteration=2, iterations=2))
        if told["ends"] in ("diverged", "failed"):
            raise Diverged(message)


if __name__ == "__main__":
    worker._execute = run_as_told
    sys.exit(worker.carry_out(msgspec.json.decode(sys.argv[1], type=WorkerJob)))
