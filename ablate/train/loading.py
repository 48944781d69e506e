"""Errors in the processes that load images, by their cause: a damaged image, or the host's memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from ablate.data.loader import worker_error
from ablate.train.memory import is_loader_lost
from ablate.train.outcome import Interrupted
from analysis.exceptions import BadInput


@contextmanager
def loading_errors_named() -> Iterator[None]:
    """Around taking a batch from a loader.

    Raises:
        BadInput: an image cannot be used.
        Interrupted: the host has no memory left to load images in; that says nothing about the device.
    """
    try:
        yield
    except BadInput as error:
        raise worker_error(error) from None
    except (RuntimeError, MemoryError, OSError) as error:
        if not is_loader_lost(error):
            raise
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise Interrupted(
            f"a process that loads images ended or ran out of host memory ({reason[-1]}); lower --workers or "
            "free memory (in a container also its /dev/shm), and run the same command to continue"
        ) from None
