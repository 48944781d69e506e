"""Check detectron2 in this environment or another, in a process of its own, and name the remedies."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import msgspec
from packaging.requirements import Requirement

from ablate.doctor.check import Check, State
from ablate.doctor.requirements import PYTHON_FLOOR, declared, is_met, limits
from ablate.engines.environment import SETTING

AREA = "engine detectron2"
_check = partial(Check, AREA)
SECONDS = 180  # to import detectron2 from a cold and slow disk
# What its setup.py asks for, what it imports without asking (timm: its ViT; shapely: jittered crops of polygons), and
# setuptools, which it imports pkg_resources from.
COMPANIONS = (
    Requirement("setuptools<82"),
    Requirement("fvcore>=0.1.5,<0.1.6"),
    Requirement("iopath>=0.1.7,<0.1.10"),
    Requirement("omegaconf>=2.1,<2.4"),
    Requirement("hydra-core>=1.1"),
    Requirement("yacs>=0.1.8"),
    Requirement("termcolor>=1.1"),
    Requirement("cloudpickle"),
    Requirement("tabulate"),
    Requirement("timm"),
    Requirement("shapely"),
)
WHENCE = "install it from its repository; see its INSTALL.md"
_MARK = "detablate-doctor:"
# Runs in the other interpreter, which may be older than ours or hold nothing at all.
_PROBE = """
import importlib, json, os, sys
from importlib import metadata, util
answer = {"python": list(sys.version_info[:3]), "there": util.find_spec("detectron2") is not None, "version": "",
          "error": "", "missing": "", "old": False, "configs": "", "versions": {}}
for name in sys.argv[1:]:
    try:
        answer["versions"][name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
if answer["there"]:
    try:
        for name in ("", ".config", ".modeling", ".engine", ".evaluation", ".data", ".modeling.backbone.vit"):
            module = importlib.import_module("detectron2" + name)
            answer["version"] = answer["version"] or getattr(module, "__version__", "")
        answer["old"] = not hasattr(importlib.import_module("detectron2.modeling").Backbone, "padding_constraints")
        zoo = importlib.import_module("detectron2.model_zoo")
        try:
            zoo.get_config_file("common/models/mask_rcnn_fpn.py")
        except RuntimeError:
            answer["configs"] = os.path.join(os.path.dirname(os.path.abspath(zoo.__file__)), "configs")
    except BaseException as error:
        answer["error"] = type(error).__name__ + ": " + " ".join(str(error).split())[:300]
        answer["missing"] = getattr(error, "name", None) or ""
print("%s" + json.dumps(answer))
""".replace("%s", _MARK)


class Answer(msgspec.Struct, frozen=True):
    """The answer of an interpreter about itself."""

    python: tuple[int, int, int]
    there: bool
    version: str
    error: str
    missing: str  # the module that the error is about
    old: bool  # it cannot pad images to a square, as since June 2022
    configs: str  # where its model zoo's configs should be and are not; setup.py links them there
    versions: dict[str, str]


def check_detectron2(named: str | None) -> list[Check]:
    """The interpreter that was named, the one of the environment variable, or this one.

    Args:
        named: what ``--python`` gave.
    """
    chosen = named or os.environ.get(SETTING) or ""
    if not chosen:
        if importlib.util.find_spec("detectron2") is None:
            remedy = f"{WHENCE}, or give the Python of an environment that has it: --python, or {SETTING}"
            return [_check("detectron2", "absent", "not in this environment", remedy)]
        chosen = sys.executable
    program = shutil.which(os.path.expanduser(chosen))
    if program is None:
        origin = "--python" if named else SETTING
        remedy = f"give {origin} the python inside an environment, such as /path/to/env/bin/python"
        return [_check("Python", "broken", f"{chosen} is not an executable program", remedy)]
    # In another environment detectron2 needs beside it all that this project declares, and the parts for training.
    wanted = [] if Path(program) == Path(sys.executable) else [*declared(), *declared("train")]
    answer = probe(program, [package.name for package in (*COMPANIONS, *wanted)])
    if isinstance(answer, str):
        return [_check("Python", "broken", f"{program}: {answer}", "check that this Python starts")]
    return checks_of(program, answer, wanted)


def probe(program: str, packages: Sequence[str]) -> Answer | str:
    """Ask an interpreter about itself and these packages -> its answer, or the reason why there is none."""
    try:
        done = subprocess.run(
            [program, "-c", _PROBE, *packages],
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env={**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired:
        return f"did not answer within {SECONDS} seconds"
    except OSError as error:
        return error.strerror or str(error)
    for line in reversed(done.stdout.splitlines()):
        if line.startswith(_MARK):
            return msgspec.json.decode(line.removeprefix(_MARK), type=Answer)
    last = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    return f"ended without an answer ({last[:200]})"


def checks_of(program: str, answer: Answer, wanted: Sequence[Requirement]) -> list[Check]:
    """The findings on an interpreter's answer; ``wanted``: what else has to be in its environment."""
    checks = [
        Check.unless(
            answer.python >= PYTHON_FLOOR,
            AREA,
            "Python",
            found=f"{'.'.join(map(str, answer.python))}, {program}",
            remedy=f"make an environment with Python {'.'.join(map(str, PYTHON_FLOOR))}",
            state="broken",
        )
    ]
    if not answer.there:
        return [*checks, _check("detectron2", "broken", "not in this environment", WHENCE)]
    unfit = _unfit(COMPANIONS, answer.versions)
    if answer.error:
        checks.append(_check("detectron2", "broken", answer.error, _mend(program, answer, unfit)))
    elif answer.old:
        checks.append(_check("detectron2", "broken", "older than June 2022", "update it to its main branch"))
    elif answer.configs:
        link = f"run ln -s {Path(answer.configs).parents[2] / 'configs'} {answer.configs}, as its setup.py does"
        checks.append(_check("detectron2", "broken", f"{answer.configs} is missing", link))
    else:
        checks.append(_check("detectron2", "ok", f"{answer.version}, imports, with all modules that are used"))
        checks += _check_unfit("its dependencies", "warning", program, unfit, answer.versions)
    return checks + _check_unfit("packages", "broken", program, _unfit(wanted, answer.versions), answer.versions)


def _check_unfit(
    name: str, state: State, program: str, packages: Sequence[Requirement], versions: Mapping[str, str]
) -> list[Check]:
    """One finding for packages that are missing or of another version than asked for; none where there are none."""
    found = ", ".join(
        f"{package.name} {versions[package.name]} is not {limits(package)}"
        if package.name in versions
        else f"{package.name} is missing"
        for package in packages
    )
    return [_check(name, state, found, _install(program, packages))] if found else []


def _mend(program: str, answer: Answer, unfit: Sequence[Requirement]) -> str:
    """The command after which detectron2 can be imported."""
    if unfit:
        return _install(program, unfit)
    if answer.missing and not answer.missing.startswith("detectron2"):
        return f"run {program} -m pip install {answer.missing.partition('.')[0]}"
    return "build detectron2 again, against the torch of this environment"


def _unfit(packages: Sequence[Requirement], versions: Mapping[str, str]) -> list[Requirement]:
    return [p for p in packages if p.name not in versions or not is_met(p, versions[p.name])]


def _install(program: str, packages: Sequence[Requirement]) -> str:
    return f"run {program} -m pip install {' '.join(repr(package.name + limits(package)) for package in packages)}"
