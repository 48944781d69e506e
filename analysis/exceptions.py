"""The errors that users see: one sentence for a person, and an exit code for a script."""


class DetablateError(Exception):
    """Work that cannot be done as asked; ``str(error)`` is one sentence that names the cause and the remedy.

    The command line prints the sentence on standard error and exits with ``exit_code``, without a traceback.
    """

    exit_code = 1


class BadInput(DetablateError):
    """A file, record or setting cannot be used, or there is no input."""

    exit_code = 4


class BadRecords(BadInput):
    """Some records of a file cannot be used; reading it with ``drop_invalid=True`` leaves them out.

    Args:
        sentence: about the first of them.
        count: of bad records.
    """

    def __init__(self, sentence: str, count: int) -> None:
        super().__init__(sentence if count < 2 else f"{sentence} ({count:,} bad records in total)")
