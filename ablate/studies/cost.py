"""The measured cost of a run, and which numbers may be shown in the table of a study.

Memory is the same every time. Time is not: it is left out where it is unreliable, and a ratio of two times
where the rounds of the two overlap, or were not taken in turn.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from ablate.runs.folder import SCHEMA, RunFolder, Workspace, read_json
from ablate.runs.manifest import Hardware
from ablate.studies.study import Study
from analysis.exceptions import BadInput

COST_FILE = "probe.json"
STEADY = 0.25  # between the quartiles of equal iterations, as a share of their median
SPARE = 0.25  # cores that other processes may use beyond those that the measured one leaves idle

Range = tuple[float, float]  # the lowest and the highest median of a round


class MeasuredCost(msgspec.Struct, frozen=True, kw_only=True):
    """``probe.json``, in the folder of the run that was measured: one image a training step and a prediction.

    Its seconds are not those of ``metrics.jsonl``, which are of an iteration of the whole run: a batch, its loading
    included.
    """

    device: Literal["cpu", "cuda"]
    device_name: str
    threads: int  # that compute, on a CPU
    hardware: Hardware
    torch: str
    precision: str
    peak_gib: float | None = None  # none: out of memory
    seconds_per_iteration: float | None = None  # a training step of one image: the median over the rounds
    iteration_range: Range | None = None  # none: measured before there were rounds
    seconds_per_image: float | None = None  # a prediction; none: no trained weights, or out of memory
    image_range: Range | None = None
    spread: float | None = None  # of the iterations: between their quartiles, as a share of the median
    iterations: int = 0  # measured
    images: int = 0  # predictions measured
    rounds: int = 0  # in turn with the other variants
    session: str = ""  # when the rounds began: the same for all variants that were measured in turn
    other_cores: float | None = None  # that other processes used meanwhile, in the mean; none: not known
    message: str = ""
    measured: str
    schema: int = SCHEMA

    @property
    def place(self) -> str:
        """The device and machine; costs of two places are not compared."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        return f"{self.device_name}{threads}, torch {self.torch}"

    @property
    def is_disturbed(self) -> bool:
        """Whether its times are unreliable: other processes used its cores, or equal steps took unequal times."""
        idle = max(self.hardware.cores - self.threads, 0)
        others = self.device == "cpu" and (self.other_cores or 0) > idle + SPARE
        return others or (self.spread or 0) > STEADY


class RowCost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of a variant as far as it may be shown; the ratios are to the baseline."""

    measured: MeasuredCost
    seconds_per_iteration: float | None
    seconds_per_image: float | None
    iteration_ratio: float | None
    image_ratio: float | None


def read_cost(folder: RunFolder) -> MeasuredCost | None:
    """The measured cost of a run; None if there is none, or if it cannot be read."""
    try:
        return read_json(folder.path / COST_FILE, MeasuredCost)
    except BadInput:
        return None


def study_costs(workspace: Workspace, study: Study) -> tuple[dict[str, RowCost], list[str]]:
    """The cost of each variant under any of its seeds, all from one place, and the reason for missing times."""
    costs: dict[str, MeasuredCost] = {}
    for run in study.runs:
        if run.run_id and run.variant not in costs and (cost := read_cost(workspace.run(run.run_id))):
            costs[run.variant] = cost
    places: dict[str, list[str]] = {}
    for variant, cost in costs.items():
        places.setdefault(cost.place, []).append(variant)
    if len(places) > 1:
        listed = "; ".join(f"{place} (of {' / '.join(variants)})" for place, variants in places.items())
        return {}, [
            f"Cost was measured on different machines and is not compared: {listed}. To measure all on this machine: "
            "ablate probe --again."
        ]
    base = costs.get(study.baseline)
    return {variant: _row_cost(cost, base) for variant, cost in costs.items()}, _cautions(costs)


def _row_cost(cost: MeasuredCost, base: MeasuredCost | None) -> RowCost:
    is_told = not cost.is_disturbed
    in_turn = base is not None and base is not cost and cost.session != "" and cost.session == base.session
    comparable = base if is_told and in_turn and base is not None and not base.is_disturbed else None
    return RowCost(
        measured=cost,
        seconds_per_iteration=cost.seconds_per_iteration if is_told else None,
        seconds_per_image=cost.seconds_per_image if is_told else None,
        iteration_ratio=None
        if comparable is None
        else _ratio(
            (cost.seconds_per_iteration, cost.iteration_range),
            (comparable.seconds_per_iteration, comparable.iteration_range),
        ),
        image_ratio=None
        if comparable is None
        else _ratio((cost.seconds_per_image, cost.image_range), (comparable.seconds_per_image, comparable.image_range)),
    )


def _ratio(own: tuple[float | None, Range | None], base: tuple[float | None, Range | None]) -> float | None:
    """The ratio of two times; None if one is missing, or if their rounds overlap, so that the ratio is noise."""
    (seconds, rounds), (base_seconds, base_rounds) = own, base
    if seconds is None or base_seconds is None or rounds is None or base_rounds is None:
        return None
    return None if rounds[0] <= base_rounds[1] and base_rounds[0] <= rounds[1] else seconds / base_seconds


def _cautions(costs: Mapping[str, MeasuredCost]) -> list[str]:
    disturbed = {variant: cost for variant, cost in costs.items() if cost.is_disturbed}
    if not disturbed:
        return []
    return [
        f"The times of {' / '.join(disturbed)} are left out as unreliable: {disturbance(list(disturbed.values()))}."
        " When the machine is idle: ablate probe --again."
    ]


def disturbance(costs: Sequence[MeasuredCost]) -> str:
    """Why the times of disturbed measurements are unreliable: the worst of each reason."""
    spread = max(cost.spread or 0 for cost in costs)
    used = max(cost.other_cores or 0 for cost in costs)
    reasons = [
        *([f"other processes used {used:.1f} of {costs[0].hardware.cores} cores"] if used > SPARE else []),
        *(
            [f"the middle half of equal steps spans {100 * spread:.0f} % of their median time"]
            if spread > STEADY
            else []
        ),
    ]
    return ", and ".join(reasons)
