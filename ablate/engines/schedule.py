"""How the learning rate moves: linear warm-up, then half a cosine period or steps."""

import math
from collections.abc import Sequence
from typing import Literal


def lr_factor(
    iteration: int,
    *,
    iterations: int,
    warmup: int,
    schedule: Literal["cosine", "step"],
    milestones: Sequence[float] = (),
) -> float:
    """What the peak learning rate is multiplied with in one optimizer step.

    Args:
        iteration: the step, from 0.
        iterations: steps of the whole run.
        warmup: steps of the linear rise, in which step i has the factor (i + 1) / (warmup + 1) of the schedule's.
        schedule: cosine falls from 1 to 0 over the whole run; step divides by 10 at each milestone.
        milestones: of the step schedule, as fractions of the run.
    """
    rise = min(1.0, (iteration + 1) / (warmup + 1))
    done = iteration / iterations
    if schedule == "cosine":
        return rise * 0.5 * (1 + math.cos(math.pi * done))
    return float(rise * 0.1 ** sum(done >= milestone for milestone in milestones))


def lr_factor_after_warmup(iteration: int, *, iterations: int, warmup: int) -> float:
    """MAE's schedule: rises linearly from 0 in ``warmup`` steps, and only then falls along half a cosine to 0."""
    if iteration < warmup:
        return iteration / warmup
    return 0.5 * (1 + math.cos(math.pi * (iteration - warmup) / (iterations - warmup)))
