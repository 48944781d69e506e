"""Which runs of a study may start, as a pure function of how all of them stand."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ablate.launch.standing import DONE, Standing, State
from ablate.studies.study import Job

CAN_START: tuple[State, ...] = ("waiting", "interrupted")
CAN_FAIL: tuple[State, ...] = ("failed", "diverged", "out_of_memory")


@dataclass(frozen=True, slots=True)
class Queue:
    """What is left to do.

    Attributes:
        ready: may start now, in the order of the study.
        later: wait for another run of the study, or for a process elsewhere that is at them.
        hopeless: cannot run, because what they need will not be there: name of the folder -> why.
    """

    ready: list[Job]
    later: list[Job]
    hopeless: dict[str, str]


def queue(
    runs: Sequence[Job],
    found: Sequence[Standing],
    *,
    set_aside: Collection[str],
    again: Collection[str],
    elsewhere: Mapping[str, State | None],
) -> Queue:
    """What may start, what has to wait, and what waits in vain.

    Args:
        runs: of the study and what they need, in order.
        found: how each of them stands.
        set_aside: names of the run folders that this launch has started before.
        again: those to be run although they failed.
        elsewhere: states of runs that are needed and are not of this study; none where they do not exist.
    """
    state: dict[str, State] = {
        run.identity: standing.state for run, standing in zip(runs, found, strict=True) if run.identity
    }
    unique = {run.identity: run for run in runs if run.identity}
    hopeless: dict[str, str] = {}

    def is_open(identity: str) -> bool:
        return (
            identity not in set_aside
            and identity not in hopeless
            and (state[identity] in CAN_START or (identity in again and state[identity] in CAN_FAIL))
        )

    def is_there(need: str) -> bool:
        return state.get(need, elsewhere.get(need)) == "finished"

    def is_coming(need: str) -> bool:
        return need in state and (is_open(need) or state[need] == "running")

    changed = True
    while changed:  # what needs something hopeless is hopeless too
        changed = False
        for identity, run in unique.items():
            for need in run.needs:
                if is_open(identity) and not is_there(need) and not is_coming(need):
                    name = unique[need].variant if need in unique and "/" in need else f"run {need}"
                    hopeless[identity] = f"needs {name}, which {_what_became(need, state, elsewhere)}"
                    changed = True
    ready: list[Job] = []
    later: list[Job] = []
    training: set[str] = set()  # one at a time of those that train the same: the others take over its weights
    for identity, run in unique.items():
        if state[identity] == "running":
            training.add(run.training)
    for identity, run in unique.items():
        if state[identity] == "running" and identity not in set_aside:
            later.append(run)
        elif is_open(identity):
            needed = all(map(is_there, run.needs))
            (ready if needed and run.training not in training else later).append(run)
            training.add(run.training)
    return Queue(ready, later, hopeless)


def _what_became(need: str, state: Mapping[str, State], elsewhere: Mapping[str, State | None]) -> str:
    what = state.get(need, elsewhere.get(need))
    if what is None:
        return "is not part of this study and was never run"
    if need not in state:
        return f"is not part of this study and is {what.replace('_', ' ')}"
    return "came to no result" if what not in DONE else "ran out of memory"
