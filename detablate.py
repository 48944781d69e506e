"""detablate: controlled studies of object detectors, and exact error analysis of their predictions.

The public interface under one name; everything is imported when it is first used::

    import detablate

    gt = detablate.read_ground_truth("instances_val2017.json")
    dt = detablate.read_detections("coco_instances_results.json", gt)
    detablate.break_down(gt, dt).delta_ap  # points of AP50 to gain by fixing each type of error

The command line is :func:`main`: ``detablate`` after installation, ``cli.py`` in a clone, or ``python -m detablate``.
"""

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import analysis

if TYPE_CHECKING:
    import typer

TRAINING_PACKAGES = ("torch", "torchvision", "PIL", "psutil", "safetensors")
MISSING_ENGINE = 5  # exit code


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
        "ablate.cli.launch",
        "ablate.cli.results",
        "analysis.cli.compare",
        "analysis.cli.report",
    ):
        import_module(module)  # adds its verbs to the apps above
    app = typer.Typer(
        name="detablate",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback()
    def front_door(context: typer.Context) -> None:
        """Ablation studies and exact error analysis for object detectors."""
        show_messages()
        register_defaults(context)

    app.add_typer(analyze_app, name="analyze")
    app.add_typer(ablate_app, name="ablate")
    app.add_typer(data_app, name="data")
    app.add_typer(weights_app, name="weights")
    app.command()(doctor)
    return app


def main() -> None:
    """Run one command; an error of the user's becomes one sentence on standard error and its exit code."""
    from analysis.exceptions import BadRecords, DetablateError

    # Threads that wait spin for a moment and then sleep. Spinning on made training five times slower on a CPU that
    # others use too, sleeping at once nearly twice as slow on one that they do not.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        command_line()()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(130)
    except DetablateError as refusal:
        bad_data = isinstance(refusal, BadRecords)  # of annotations: analyze has an option of its own
        remedy = "; data check ANNOTATIONS IMAGES --write-clean FILE writes a copy without them" if bad_data else ""
        print(f"error: {refusal}{remedy}", file=sys.stderr)
        sys.exit(refusal.exit_code)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        remedy = "pip install 'detablate[train]'"
        print(f"error: this command needs {missing.name}, which the analysis does not: {remedy}", file=sys.stderr)
        sys.exit(MISSING_ENGINE)


if __name__ == "__main__":
    main()
