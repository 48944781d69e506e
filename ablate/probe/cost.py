"""What was measured of a run, in its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec

from ablate.manifest import Hardware
from ablate.store import SCHEMA, RunFolder, read_json, run_folder
from ablate.studies.study import Study
from analysis.refusal import BadInput

FILE = "probe.json"


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """``probe.json``, in the folder of the run that was measured."""

    device: Literal["cpu", "cuda"]
    device_name: str
    threads: int  # that compute, on a CPU
    hardware: Hardware
    torch: str
    precision: str
    peak_gib: float | None  # none: out of memory
    seconds_per_iteration: float | None
    seconds_per_image: float | None  # none: no trained weights, or out of memory
    spread: float | None = None  # of the iterations: between their quartiles, as a share of the median
    iterations: int  # measured
    images: int  # predictions measured
    message: str = ""
    measured: str
    schema: int = SCHEMA

    @property
    def place(self) -> str:
        """Where it was measured; costs of two places are not compared."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        return f"{self.device_name}{threads}, torch {self.torch}"


def read_cost(folder: RunFolder) -> Cost | None:
    """What was measured of a run; none where nothing was, or where it cannot be read."""
    try:
        return read_json(folder.path / FILE, Cost)
    except BadInput:
        return None


def costs_of(root: Path, study: Study) -> Iterator[tuple[str, Cost]]:
    """What was measured of the variants of a study; one each, of any of its seeds."""
    for variant in study.variants:
        for run in study.runs:
            if run.variant == variant and run.identity:
                cost = read_cost(run_folder(root, run.identity))
                if cost is not None:
                    yield variant, cost
                    break
