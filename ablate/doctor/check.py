"""The result of one check: a state, what was found, and the remedy."""

from typing import Literal

import msgspec

# ok: as it should be; absent: optional and not here; warning: works, with a risk; broken: an engine cannot run.
State = Literal["ok", "absent", "warning", "broken"]


class Check(msgspec.Struct, frozen=True):
    """One finding.

    Attributes:
        area: what it belongs to: analysis, engine vision, engine detectron2, machine, optional.
        name: what was looked at.
        state: see ``State``.
        found: what is there, in words.
        remedy: one sentence that names the command or setting to mend it; empty where nothing is to be done.
    """

    area: str
    name: str
    state: State
    found: str
    remedy: str = ""

    @classmethod
    def unless(cls, good: bool, area: str, name: str, found: str, remedy: str, state: State = "warning") -> "Check":
        """A finding that is ok if the condition holds, and else has another state and a remedy."""
        return cls(area, name, "ok", found) if good else cls(area, name, state, found, remedy)
