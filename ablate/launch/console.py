"""Where `logging` of this program goes: plain sentences on standard error, for people and for the logs of workers."""

import logging
import sys

PREFIXES = {logging.WARNING: "warning: ", logging.ERROR: "error: "}


class _ToStandardError(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"{PREFIXES.get(record.levelno, '')}{record.getMessage()}", file=sys.stderr, flush=True)


def configure_logging() -> None:
    """Print what the loggers of this program say from INFO on, a line a record; calling it again changes nothing."""
    logger = logging.getLogger("ablate")
    logger.setLevel(logging.INFO)
    logger.handlers = [_ToStandardError()]
