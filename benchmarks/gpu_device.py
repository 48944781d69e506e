"""One device, and how work on it is measured: what the stages of `benchmarks/gpu.py` share."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

GIB = 2**30
TINY = [  # changes that make a preset small enough for the rehearsal on a CPU
    "model.backbone.width=16",
    "model.backbone.depth=4",
    "model.backbone.heads=2",
    "model.backbone.image_size=64",
    "model.backbone.attention.window_size=3",
    "model.backbone.position.absolute_grid=3",
    "model.pyramid.channels=8",
    "model.detector.box_conv_channels=8",
    "model.detector.box_fc=16",
    "model.detector.mask_conv_channels=8",
    "model.detector.rois_per_image=8",
    "model.detector.proposals.train_before_nms=50",
    "model.detector.proposals.train_after_nms=40",
    "evaluate.proposals_before_nms=50",
    "evaluate.proposals_after_nms=40",
]


class Missing(Exception):
    """What this machine lacks for a stage, or for a part of one."""


class Device:
    """The GPU that is measured, or the CPU of the rehearsal.

    Args:
        tiny: rehearse on the CPU, with toy sizes; the numbers mean nothing.
        out: file that results are appended to, a JSON object a line.
        until: `time.monotonic()` at which everything must be over.
        coco: a COCO root, whose images are read; None makes pictures.
        work: temporary folder.
    """

    def __init__(self, *, tiny: bool, out: Path, until: float, coco: Path | None, work: Path) -> None:
        self.tiny, self.out, self.until, self.coco, self.work = tiny, out, until, coco, work
        if not tiny and not torch.cuda.is_available():
            raise Missing("no CUDA device is visible to PyTorch; --tiny rehearses on the CPU")
        self.gpu = not tiny
        self.device = torch.device("cuda", 0) if self.gpu else torch.device("cpu")
        self.name = torch.cuda.get_device_name(0) if self.gpu else "CPU (rehearsal)"
        self.bf16 = self.gpu and torch.cuda.is_bf16_supported(including_emulation=False)
        self.precision = "bf16" if self.bf16 else "fp16" if self.gpu else "fp32"

    def say(self, stage: str, row: str, **values: Any) -> None:
        """One result: a line of the file, and one on the screen."""
        values = {key: value for key, value in values.items() if value is not None}
        line = {"stage": stage, "row": row, "device": self.name, "torch": str(torch.__version__), **values}
        with self.out.open("a") as file:
            file.write(json.dumps(line, default=str) + "\n")
        print(f"  {row}: " + ", ".join(f"{key} {value}" for key, value in values.items()), flush=True)

    def left(self) -> float:
        """Seconds until everything must be over."""
        return self.until - time.monotonic()

    def has(self, seconds: float) -> bool:
        """Whether so many seconds are left; the rehearsal always goes on."""
        return self.tiny or self.left() > seconds

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.gpu:
            torch.cuda.synchronize(self.device)

    def clear(self) -> None:
        """Give back memory that is not used, and begin to look for a peak."""
        gc.collect()
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak_gib(self) -> float | None:
        """The most that was allocated since `clear`; none on a CPU."""
        return round(torch.cuda.max_memory_allocated(self.device) / GIB, 2) if self.gpu else None

    def milliseconds(
        self, act: Callable[[int], object], *, warm: int = 3, repeats: int = 8, most: float = 12.0
    ) -> dict[str, float]:
        """Median and range of synchronised calls, which end when ``most`` seconds are over."""
        began, times = time.perf_counter(), []
        warm, repeats = (1, 1) if self.tiny else (warm, repeats)
        for number in range(warm + repeats):
            self.synchronise()
            start = time.perf_counter()
            act(number)
            self.synchronise()
            if number >= warm:
                times.append(1e3 * (time.perf_counter() - start))
            if times and time.perf_counter() - began > most:
                break
        return {
            "ms": round(statistics.median(times), 2),
            "range_ms": round(max(times) - min(times), 2),
            "n": len(times),
        }

    @contextmanager
    def row(self, stage: str, name: str) -> Iterator[None]:
        """A part of a stage whose failure is told, and does not end the stage."""
        try:
            yield
        except Missing as missing:
            self.say(stage, name, missing=str(missing))
        except Exception as error:  # whatever the device's libraries raise
            said = str(error).strip().splitlines() or [""]
            self.say(stage, name, failed=f"{type(error).__name__}: {said[0][:200]}", peak_gib=self.peak_gib())
        finally:
            self.clear()

    def config(self, base: str, *changes: str) -> Any:
        """A preset, small in the rehearsal."""
        from ablate.config.yaml import load_config

        return load_config(base, [*(TINY if self.tiny else []), *changes])
