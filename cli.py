"""The front door: ``cli.py analyze ...`` and ``cli.py ablate ...``, installed as ``detablate``."""

import os
import sys

import typer

import ablate.cli.launch
import ablate.cli.results
import ablate.cli.study
import ablate.cli.weights
import analysis.cli.compare
import analysis.cli.report
from ablate.cli.data import app as data_app
from ablate.cli.doctor import doctor
from ablate.cli.newest import register_defaults
from ablate.cli.run import app as ablate_app
from ablate.cli.weights import app as weights_app
from ablate.train.logging import show_messages
from analysis.cli.analyze import app as analyze_app
from analysis.exceptions import DetablateError

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

TRAINING_PACKAGES = ("torch", "torchvision", "PIL", "psutil", "safetensors")
MISSING_ENGINE = 5


def main() -> None:
    """Run one command; a refusal becomes one sentence on standard error and its exit code."""
    # Threads that wait spin for a moment and then sleep. Spinning on made training five times slower on a CPU that
    # others use too, sleeping at once nearly twice as slow on one that they do not.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        app()
    except KeyboardInterrupt:  # before a command has begun
        sys.exit(130)
    except DetablateError as refusal:
        print(f"error: {refusal}", file=sys.stderr)
        sys.exit(refusal.exit_code)
    except ModuleNotFoundError as missing:
        if missing.name not in TRAINING_PACKAGES:
            raise
        remedy = "pip install 'detablate[train]'"
        print(f"error: this command needs {missing.name}, which the analysis does not: {remedy}", file=sys.stderr)
        sys.exit(MISSING_ENGINE)


if __name__ == "__main__":
    main()
