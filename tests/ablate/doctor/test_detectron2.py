"""detectron2 looked for in this and other interpreters, real and pretended."""

import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from ablate.doctor.detectron2 import COMPANIONS, Answer, check_detectron2, checks_of, probe
from ablate.engines.environment import SETTING

GOOD = {
    "setuptools": "81.0.0",
    "fvcore": "0.1.5.post20221221",
    "iopath": "0.1.9",
    "omegaconf": "2.3.1",
    "hydra-core": "1.3.2",
    "yacs": "0.1.8",
    "termcolor": "3.3.0",
    "cloudpickle": "3.1",
    "tabulate": "0.10",
    "timm": "1.0",
    "shapely": "2.1",
}


def answer(**changes: object) -> Answer:
    values = {"python": (3, 11, 7), "there": True, "version": "0.6", "error": "", "missing": "", "old": False}
    values |= {"configs": "", "versions": GOOD}
    return Answer(**{**values, **changes})  # type: ignore[arg-type]


def told(*arguments: object) -> list[tuple[str, str, str, str]]:
    return [(c.name, c.state, c.found, c.remedy) for c in checks_of(*arguments)]  # type: ignore[arg-type]


def test_a_good_environment() -> None:
    assert set(GOOD) == {package.name for package in COMPANIONS}
    python, detectron2 = told("/env/bin/python", answer(), [])
    assert python == ("Python", "ok", "3.11.7, /env/bin/python", "")
    assert detectron2[:2] == ("detectron2", "ok")


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        (
            {
                "error": "ModuleNotFoundError: No module named 'pkg_resources'",
                "missing": "pkg_resources",
                "versions": {**GOOD, "setuptools": "84.2.1"},
            },
            "No module named 'pkg_resources'",
            "run /env/bin/python -m pip install 'setuptools<82'",
        ),
        (
            {"error": "ModuleNotFoundError: No module named 'cv2'", "missing": "cv2"},
            "No module named 'cv2'",
            "run /env/bin/python -m pip install cv2",
        ),
        (
            {
                "error": "ModuleNotFoundError: No module named 'timm'",
                "missing": "timm",
                "versions": {name: version for name, version in GOOD.items() if name not in ("timm", "tabulate")},
            },
            "No module named 'timm'",
            "run /env/bin/python -m pip install 'tabulate' 'timm'",
        ),
        ({"old": True}, "older than June 2022", "update it to its main branch"),
        (
            {"configs": "/src/detectron2/model_zoo/configs"},
            "/src/detectron2/model_zoo/configs is missing",
            "run ln -s /src/configs /src/detectron2/model_zoo/configs",
        ),
        ({"error": "ImportError: undefined symbol: _ZN3c10"}, "undefined symbol", "build detectron2 again"),
    ],
)
def test_what_keeps_it_from_being_imported_has_its_remedy(changes: dict[str, object], found: str, remedy: str) -> None:
    broken = told("/env/bin/python", answer(**changes), [])[-1]
    assert broken[:2] == ("detectron2", "broken")
    assert found in broken[2]
    assert remedy in broken[3]


def test_companions_that_are_known_to_bite_are_a_warning() -> None:
    odd = {**GOOD, "omegaconf": "2.4.0", "fvcore": "0.1.6"}
    warning = told("/env/bin/python", answer(versions=odd), [])[-1]
    assert warning == (
        "its dependencies",
        "warning",
        "fvcore 0.1.6 is not >=0.1.5,<0.1.6, omegaconf 2.4.0 is not >=2.1,<2.4",
        "run /env/bin/python -m pip install 'fvcore>=0.1.5,<0.1.6' 'omegaconf>=2.1,<2.4'",
    )


def test_an_environment_needs_this_projects_packages_and_python_too() -> None:
    checks = told("/p", answer(python=(3, 9, 18)), [Requirement("msgspec>=0.19")])
    assert checks[0] == ("Python", "broken", "3.9.18, /p", "make an environment with Python 3.11")
    assert checks[-1] == ("packages", "broken", "msgspec is missing", "run /p -m pip install 'msgspec>=0.19'")


def test_absent_here_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (check,) = check_detectron2(None)
    assert check.state == "absent"
    assert SETTING in check.remedy


def pretend(place: Path, script: str) -> str:
    """A program in a path with a blank that stands for an interpreter."""
    program = place / "my python"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_an_interpreter_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (check,) = check_detectron2(str(tmp_path / "gone"))
    assert (check.name, check.state) == ("Python", "broken")
    assert "--python" in check.remedy
    monkeypatch.setenv(SETTING, str(tmp_path))  # a folder
    (check,) = check_detectron2(None)
    assert SETTING in check.remedy
    (check,) = check_detectron2(pretend(tmp_path, "echo Segmentation fault >&2; exit 139"))
    assert check.found.endswith("ended without an answer (Segmentation fault)")
    (check,) = check_detectron2(pretend(tmp_path, "exit 3"))
    assert check.found.endswith("ended without an answer (exit code 3)")


def test_the_named_interpreter_goes_before_the_environment_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(SETTING, "/nowhere")
    (check,) = check_detectron2(pretend(tmp_path, "exit 3"))
    assert "my python" in check.found


def test_a_real_interpreter_with_a_detectron2_that_misses_pkg_resources(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The question itself, put to a real Python; what it prints besides is no answer."""
    (tmp_path / "detectron2").mkdir()
    source = "print('a banner')\n__version__ = '0.6'\nimport pkg_resources_of_old\n"
    (tmp_path / "detectron2" / "__init__.py").write_text(source)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = probe(sys.executable, ["msgspec", "no-such-package"])
    assert isinstance(found, Answer)
    assert found.there
    assert found.python == sys.version_info[:3]
    assert found.missing == "pkg_resources_of_old"
    assert found.error == "ModuleNotFoundError: No module named 'pkg_resources_of_old'"
    assert list(found.versions) == ["msgspec"]


@pytest.mark.detectron2
def test_a_real_detectron2_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    if importlib.util.find_spec("detectron2") is None:
        pytest.skip("needs detectron2 in this environment")
    monkeypatch.delenv(SETTING, raising=False)
    checks = {check.name: check for check in check_detectron2(None)}
    assert checks["detectron2"].state == "ok", checks
    assert checks["detectron2"].found.startswith("0.6")
