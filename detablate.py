"""detablate: controlled studies of object detectors, and exact error analysis of their predictions.

The public interface under one name; everything is imported when it is first used::

    import detablate

    gt = detablate.read_ground_truth("instances_val2017.json")
    dt = detablate.read_detections("coco_instances_results.json", gt)
    detablate.break_down(gt, dt).delta_ap  # points of AP50 to gain by fixing each type of error

The command line is :func:`main`: ``detablate`` after installation, ``cli.py`` in a clone, or ``python -m detablate``.
"""

import os
import re
import signal
import sys
import threading
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from types import FrameType
from typing import TYPE_CHECKING, Any

import analysis

if TYPE_CHECKING:
    import typer

TRAINING_PACKAGES = ("torch", "torchvision", "PIL", "psutil", "safetensors")
BAD_INPUT, MISSING_ENGINE = 4, 5  # exit codes
STOPPING = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
LONGEST_ERROR = 2000  # characters
LONG_WORD = re.compile(r"(\S{60})\S{200,}(\S{40})")  # no path that a file can have and no number


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata

        return metadata.version("detablate")
    if name in analysis.__all__:
        return getattr(analysis, name)
    raise AttributeError(f"module 'detablate' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*analysis.__all__, "__version__", "command_line", "main"]


def command_line() -> "typer.Typer":
    """All verbs: ``analyze``, ``ablate``, ``data``, ``weights`` and ``doctor``."""
    import typer

    from ablate.cli.data import app as data_app
    from ablate.cli.doctor import doctor
    from ablate.cli.newest import register_defaults
    from ablate.cli.run import app as ablate_app
    from ablate.cli.weights import app as weights_app
    from ablate.train.logging import show_messages
    from analysis.cli.analyze import app as analyze_app

    for module in (
        "ablate.cli.study",
        "ablate.cli.tune",
        "ablate.cli.new",
        "ablate.cli.launch",
        "ablate.cli.adopt",
        "ablate.cli.results",
        "analysis.cli.ap",
        "analysis.cli.compare",
        "analysis.cli.report",
        "analysis.cli.threshold",
        "analysis.cli.gate",
    ):
        import_module(module)  # adds its verbs to the apps above
    app = typer.Typer(
        name="detablate",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    def show_version(wanted: bool) -> None:
        if wanted:
            from analysis import native

            typer.echo(f"detablate {__getattr__('__version__')} (compiled core: {native.describe()})")
            raise typer.Exit

    @app.callback()
    def front_door(
        context: typer.Context,
        version: bool = typer.Option(
            False,
            "--version",
            help="Show the version, and whether the compiled core is in use.",
            callback=show_version,
            is_eager=True,
        ),
    ) -> None:
        """Ablation studies and exact error analysis for object detectors."""
        show_messages()
        register_defaults(context)

    app.add_typer(analyze_app, name="analyze")
    app.add_typer(ablate_app, name="ablate")
    app.add_typer(data_app, name="data")
    app.add_typer(weights_app, name="weights")
    app.command()(doctor)
    return app


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

    def _note(self, number: int, _: FrameType | None) -> None:
        self.number = number
        for one in self._before:
            signal.signal(one, signal.SIG_DFL)
        raise KeyboardInterrupt(signal.Signals(number).name)


def main() -> None:
    """Run one command; an error of the user's becomes one sentence on standard error and its exit code.

    So do SIGINT, SIGTERM and SIGHUP, whose exit codes are 128 and their number.
    """
    from analysis.exceptions import BadRecords, DetablateError

    # Threads that wait spin for a moment and then sleep. Spinning on made training five times slower on a CPU that
    # others use too, sleeping at once nearly twice as slow on one that they do not.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    _open_standard_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be UTF-8
    stop = _Stop()
    try:
        try:
            with stop:
                command_line()()
        finally:
            sys.stdout.flush()
    except (KeyboardInterrupt, SystemExit):  # typer makes the one of the other
        if not stop.number:
            raise
        name = signal.Signals(stop.number).name
        _say(f"stopped by {name}; what was written is whole, and the same command continues or begins again")
        sys.exit(128 + stop.number)
    except DetablateError as refusal:
        bad_data = isinstance(refusal, BadRecords)  # of annotations: analyze has an option of its own
        remedy = "; data check ANNOTATIONS IMAGES --write-clean FILE writes a copy without them" if bad_data else ""
        _say(f"{refusal}{remedy}")
        sys.exit(refusal.exit_code)
    except OSError as error:
        if error.filename is None:
            _say(f"standard output: cannot be written ({error.strerror or error})")
            _close_output()
        else:
            _say(f"{os.fsdecode(error.filename)}: {error.strerror}; check the path")
        sys.exit(BAD_INPUT)
    except MemoryError as error:
        _say(f"the memory of this machine does not hold what this needs ({error or 'no more to be had'}); ask for less")
        sys.exit(BAD_INPUT)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        _say(f"this command needs {missing.name}, which the analysis does not: pip install 'detablate[train]'")
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


def _say(sentence: str) -> None:
    """Print an error in one line of printable characters; of a very long one the middle is left out."""
    from analysis.render.table import one_line

    line = LONG_WORD.sub(r"\1...\2", one_line(sentence))
    if len(line) > LONGEST_ERROR:
        half = LONGEST_ERROR // 2
        line = f"{line[:half]} [... {len(line) - 2 * half:,} characters ...] {line[-half:]}"
    with suppress(OSError):  # nobody reads it
        print(f"error: {line}", file=sys.stderr, flush=True)


def _close_output() -> None:
    """Give up standard output, which Python would otherwise complain about once more in the end."""
    with suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
