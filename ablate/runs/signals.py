"""Handlers of the signals that end a process; what the parent arranged stays."""

import signal
from collections.abc import Callable, Iterable, Mapping
from types import FrameType

Handler = Callable[[int, FrameType | None], object]


def handle(numbers: Iterable[signal.Signals], handler: Handler) -> dict[signal.Signals, object]:
    """Install a handler -> the handlers before, for `restore`.

    A signal that is ignored stays ignored: ``nohup`` ignores SIGHUP for its command, and a shell SIGINT for what it
    starts in the background. Only the main thread may call this.
    """
    wanted = [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
    return {number: signal.signal(number, handler) for number in wanted}


def restore(before: Mapping[signal.Signals, object]) -> None:
    """Put back the handlers that `handle` returned."""
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]
