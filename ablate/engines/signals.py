"""A polite stop: the first signal lets the running step end and be saved, the second one acts at once."""

import os
import signal
import threading
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)


def outlive_a_polite_stop(_: int = 0) -> None:
    """For a process that loads images: a stop that goes to the whole process group is its parent's to act on.

    A second SIGTERM ends it: torch and multiprocessing end with it those who do not end otherwise.
    """

    def end(_: int, __: FrameType | None) -> None:
        os._exit(0)

    def spare(_: int, __: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, end)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, spare)


class StopRequest:
    """Notes that the process was asked to stop, as a context around the training loop."""

    def __init__(self) -> None:
        self.name = ""
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():  # only there does Python allow handlers
            self._before = {number: signal.signal(number, self._note) for number in STOPPING}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, _: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self.__exit__()
