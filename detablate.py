"""detablate: controlled studies of object detectors, and exact error analysis of their predictions.

The public interface in one module; each part is imported when it is first used::

    import detablate

    gt = detablate.read_ground_truth("instances_val2017.json")
    dt = detablate.read_detections("coco_instances_results.json", gt)
    breakdown = detablate.break_down(gt, dt)
    breakdown.delta_ap  # points of AP50 to gain by fixing each type of error
    breakdown.to_frame()  # as a pandas frame; plot() gives a matplotlib figure; a notebook shows a table

The command line is :func:`main`: ``detablate`` after installation, ``cli.py`` in a clone, or ``python -m detablate``.
"""

import gc
import logging
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import analysis

if TYPE_CHECKING:
    import typer

    from analysis import *  # noqa: F403

    __version__: str

__all__ = ["__version__", "command_line", "main"]
__all__ += analysis.__all__

TRAINING_PACKAGES = ("torch", "torchvision", "PIL", "psutil", "safetensors")
BAD_INPUT, MISSING_ENGINE = 4, 5  # exit codes
STOPPED = 128  # and the number of a signal: exit codes of what was asked to stop
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
LONGEST_ERROR = 2000  # characters
LONG_WORD = re.compile(r"(\S{60})\S{200,}(\S{40})")  # no path that a file can have and no number


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name in analysis.__all__:
        return getattr(analysis, name)
    raise AttributeError(f"module 'detablate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    """The version of the installation, or of the clone where it is not installed."""
    from importlib import metadata

    with suppress(metadata.PackageNotFoundError):
        return metadata.version("detablate")
    import tomllib

    version: str = tomllib.loads(Path(__file__).with_name("pyproject.toml").read_text())["project"]["version"]
    return version


def command_line() -> "typer.Typer":
    """All verbs: ``analyze``, ``ablate``, ``data``, ``weights`` and ``doctor``; each is imported when it is called."""
    import typer

    from ablate.cli.verbs import all_verbs
    from analysis.cli.help import EXIT_CODES, WIDTH, epilog
    from analysis.cli.verbs import TRUTH_OF_RUN, VerbGroup

    class FrontDoor(VerbGroup):
        def __init__(self, **attributes: Any) -> None:
            super().__init__(**(attributes | {"rows": all_verbs()}))

    app = typer.Typer(
        name="detablate",
        cls=FrontDoor,
        epilog=epilog(("analyze example", "ablate attention --launch"), EXIT_CODES),
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from analysis import native

            typer.echo(f"detablate {_version()} (compiled core: {native.describe()})")
            raise typer.Exit

    @app.callback()
    def front_door(
        context: typer.Context,
        version: bool = typer.Option(
            False,
            "--version",
            help="Show the version and whether the compiled core is used.",
            callback=show_version,
            is_eager=True,
        ),
    ) -> None:
        """Ablation studies and exact error analysis for object detectors."""
        from ablate.train.logging import show_messages

        show_messages()
        context.obj = _later("newest_predictions")
        context.meta[TRUTH_OF_RUN] = _later("truth_of_run")

    return app


def _shown_name() -> str:
    """How usage lines begin: as the program was started; for a shell's completion, the name of the file alone."""
    from analysis.shell import program

    completes = any("-completion" in word for word in sys.argv) or any(key.endswith("_COMPLETE") for key in os.environ)
    return Path(sys.argv[0]).name if completes else program()


def _later(name: str) -> Callable[[Path], Any]:
    """What the analysis, which knows no studies, cannot find by itself; imported when it is called."""

    def find(path: Path) -> Any:
        return getattr(import_module("ablate.cli.newest"), name)(path)

    return find


class _Stop:
    """Takes the first signal that ends a process as Python takes Ctrl-C, so that what is half-written is removed.

    A command that ends otherwise, such as ``launch``, has handlers of its own meanwhile. A second signal ends the
    process at once.
    """

    def __init__(self) -> None:
        self.number = 0  # of the signal that has come
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> None:
        from ablate.runs.signals import handle

        if threading.current_thread() is threading.main_thread():  # only there does Python allow handlers
            self._before = handle(STOPPING, self._note)

    def __exit__(self, *_: object) -> None:
        from ablate.runs.signals import restore

        restore(self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        from ablate.runs.signals import interrupt

        self.number = number
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
        interrupt(number, frame)


def main() -> None:
    """Run one command; an error of the user's becomes one sentence on standard error and its exit code.

    So do SIGINT, SIGTERM and SIGHUP, whose exit codes are 128 and their number.
    """
    from analysis.exceptions import BadRecords, DetablateError
    from analysis.shell import install_command

    # Threads that wait spin for a moment and then sleep. Spinning on made training five times slower on a CPU that
    # others use too, sleeping at once nearly twice as slow on one that they do not.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    if sys.argv[1:2] == ["analyze"]:  # imports make much and no garbage: looking for it took a tenth of a small command
        gc.set_threshold(100_000)
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    stop = _Stop()
    try:
        try:
            with stop:
                command_line()(prog_name=_shown_name())
        finally:
            sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit):  # typer makes the one of the other
        if not stop.number:
            raise
        name = signal.Signals(stop.number).name
        sentence = "all written files are complete; run the same command again to continue or start over"
        _say(f"stopped by {name}; {sentence}", is_error=False)
        sys.exit(STOPPED + stop.number)
    except DetablateError as refusal:
        bad_data = isinstance(refusal, BadRecords)  # of annotations: analyze has an option of its own
        _show_traceback()
        copy = f"{_shown_name()} data check ANNOTATIONS IMAGES --write-clean FILE"
        remedy = f"; or write a copy without them: {copy}" if bad_data else ""
        _say(f"{refusal}{remedy}", is_error=refusal.exit_code < STOPPED)
        sys.exit(refusal.exit_code)
    except OSError as error:
        if error.filename is None:
            _say(f"standard output: cannot be written ({error.strerror or error})")
            _close_output()
        else:
            _say(f"{os.fsdecode(error.filename)}: {error.strerror}; check the path")
        sys.exit(BAD_INPUT)
    except MemoryError as error:
        _say(f"out of memory ({error or 'no more memory is available'}); use smaller files or settings")
        sys.exit(BAD_INPUT)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        _say(f"this command needs the package {missing.name}; to install it: {install_command('train')}")
        sys.exit(MISSING_ENGINE)


def _open_standard_streams() -> None:
    """Discard what goes to a stream that the parent has closed; else the next file that is opened gets its number."""
    handle = os.open(os.devnull, os.O_RDWR)
    while handle <= 2:
        handle = os.open(os.devnull, os.O_RDWR)
    os.close(handle)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for as long as the process)


def _say(sentence: str, *, is_error: bool = True) -> None:
    """Print a sentence in one line of printable characters; of a very long one the middle is left out."""
    from analysis.render.table import one_line

    line = LONG_WORD.sub(r"\1...\2", one_line(sentence))
    if len(line) > LONGEST_ERROR:
        half = LONGEST_ERROR // 2
        line = f"{line[:half]} [... {len(line) - 2 * half:,} characters ...] {line[-half:]}"
    with suppress(OSError):  # nobody reads it
        print(f"error: {line}" if is_error else line, file=sys.stderr, flush=True)


def _show_traceback() -> None:
    """With ``--verbose``: where an error was raised."""
    if logging.getLogger("analysis").isEnabledFor(logging.DEBUG):
        traceback.print_exc()


def _close_output() -> None:
    """Give up standard output, which Python would otherwise complain about once more in the end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
