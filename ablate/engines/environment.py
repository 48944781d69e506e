"""Which interpreter runs an engine, and what to do where none does.

detectron2 is on no package index and wants older packages than the rest, so it may live in an environment of its own:
the setting below names that one's Python. Workers, timings and measurements of this engine then run there, with this
package on their path; the run folder is all that the two have in common.
"""

import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from analysis.exceptions import DetablateError

SETTING = "DETABLATE_DETECTRON2_PYTHON"
# Every module that the worker of such a run imports, so that a lack shows before anything is written.
CHECK = (
    "import ablate.launch.worker, ablate.execute.evaluation, psutil, torchvision, tensorboard; "
    "from ablate.engines.environment import need_detectron2; need_detectron2()"
)
INSTALL = (
    "install it from its repository (see its INSTALL.md; the command doctor shows what is missing), or give the "
    "Python of an environment that has it: "
    f"export {SETTING}=/path/to/bin/python"
)


class MissingEngine(DetablateError):
    """An engine that is not installed here."""

    exit_code = 5


def need_detectron2() -> None:
    """Check that detectron2 works in this process.

    Raises:
        MissingEngine: it does not; the sentence says what is missing.
    """
    import warnings

    if find_spec("detectron2") is None:
        raise MissingEngine(f"engine detectron2: this Python ({sys.executable}) has no detectron2; {INSTALL}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its old packages
            import detectron2.checkpoint
            import detectron2.engine
            import detectron2.evaluation
            import detectron2.modeling  # noqa: F401
            from detectron2 import model_zoo
    except ImportError as error:
        missing = "setuptools<82" if error.name == "pkg_resources" else error.name
        raise MissingEngine(
            f"engine detectron2: it is installed but cannot be imported ({error}); in its environment: "
            f"{sys.executable} -m pip install {missing!r}"
        ) from None
    _check_floor()
    try:
        model_zoo.get_config_file("common/models/mask_rcnn_fpn.py")
    except RuntimeError:
        folder = Path(str(model_zoo.__file__)).parent
        raise MissingEngine(
            f"engine detectron2: {folder / 'configs'} is missing, as happens if its sources are on the path but not "
            "installed; its setup.py makes a link: "
            f"ln -s {folder.parents[1] / 'configs'} {folder / 'configs'}"
        ) from None


def _check_floor() -> None:
    """Check what the exported configs need besides the import of detectron2."""
    from detectron2.layers import get_norm
    from detectron2.modeling import Backbone

    try:
        get_norm("naiveSyncBN_N", 1)
        old = not hasattr(Backbone, "padding_constraints")
    except KeyError:
        old = True
    if old:
        raise MissingEngine(
            "engine detectron2: it is too old (it cannot pad images to a square); update it to its main branch of June "
            "2022 or newer"
        )
    if find_spec("shapely") is None:  # which it needs, undeclared, to crop polygons
        raise MissingEngine(
            f"engine detectron2: it cannot crop polygons without shapely: {sys.executable} -m pip install shapely"
        )


def python_of(engine: str) -> str:
    """The interpreter in which an engine runs; this one where it can.

    Raises:
        MissingEngine: there is none.
    """
    if engine != "detectron2":
        return sys.executable
    named = os.environ.get(SETTING, "")
    # A virtual environment's Python is a link: the paths tell them apart, their targets do not.
    if named and os.path.abspath(os.path.expanduser(named)) != os.path.abspath(sys.executable):
        _check(named)
        return named
    need_detectron2()
    return sys.executable


@cache
def _check(python: str) -> None:
    try:
        done = subprocess.run(
            [python, "-c", CHECK], env=package_environment(), capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise MissingEngine(
            f"engine detectron2: {SETTING}={python} cannot be started ({error.strerror}); name a Python"
        ) from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        reason = said[-1].partition("MissingEngine: ")[2] or said[-1] if said else f"exit code {done.returncode}"
        raise MissingEngine(
            f"engine detectron2: {SETTING}={python} does not work: {reason}; it needs Python 3.11 or newer, detectron2 "
            "and the packages of detablate[train]"
        )


def package_environment() -> dict[str, str]:
    """Our environment, in which Python finds this package and nothing of the current folder."""
    package = str(Path(__file__).resolve().parents[2])
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)), "PYTHONSAFEPATH": "1"}
