"""The one way in which every part of the project says no: a sentence for a person and an exit code for a script."""


class DetablateError(Exception):
    """Work that cannot be done as asked; ``str(error)`` is one sentence that names the cause and the remedy.

    The command line prints the sentence on standard error and exits with ``exit_code``, without a traceback.
    """

    exit_code = 1


class BadInput(DetablateError):
    """A file, a record or a setting that cannot be used, or nothing to work on."""

    exit_code = 4
