"""Which interpreter runs an engine, and what is said where none does."""

import sys
from pathlib import Path

import pytest

from ablate.engines import environment as availability
from ablate.engines.environment import SETTING, MissingEngine, need_detectron2, python_of
from tests.command_line import run

GONE = "detectron2_is_not_there"


@pytest.fixture(autouse=True)
def _nothing_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    availability._check.cache_clear()


@pytest.fixture
def without_detectron2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(availability, "find_spec", lambda _: None)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_our_own_engine_runs_here() -> None:
    assert python_of("vision") == sys.executable


@pytest.mark.usefixtures("without_detectron2")
def test_a_missing_detectron2_is_told_with_its_remedy() -> None:
    with pytest.raises(MissingEngine, match=rf"has no detectron2; install it .* or give .*{SETTING}=") as caught:
        need_detectron2()
    assert caught.value.exit_code == 5
    with pytest.raises(MissingEngine):
        python_of("detectron2")


def test_another_python_is_asked_before_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = script(tmp_path / "a python", "exit 0")
    monkeypatch.setenv(SETTING, good)
    assert python_of("detectron2") == good
    assert python_of("vision") == sys.executable
    bad = script(tmp_path / "bad", "echo Traceback >&2; echo \"ImportError: No module named 'tabulate'\" >&2; exit 1")
    monkeypatch.setenv(SETTING, bad)
    with pytest.raises(MissingEngine, match=r"bad does not work: ImportError: No module named 'tabulate'; it needs"):
        python_of("detectron2")
    monkeypatch.setenv(SETTING, str(tmp_path / "none"))
    with pytest.raises(MissingEngine, match="cannot be started"):
        python_of("detectron2")


@pytest.mark.usefixtures("without_detectron2")
@pytest.mark.parametrize(
    "command",
    [
        ("ablate", "attention", "--engine", "detectron2", "--launch"),
        ("ablate", "attention", "--set", "engine=detectron2", "--launch", "--yes"),
        ("ablate", "run", "tiny-shapes", "--set", "engine=detectron2"),
    ],
)
def test_nothing_is_written_where_it_is_missing(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *command, "--root", tmp_path) == 5
    assert "has no detectron2; install it" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("without_detectron2")
def test_a_study_can_be_planned_without_it(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "attention", "--engine", "detectron2", "--root", shapes_root) == 0
    assert "engine: detectron2" in capsys.readouterr().out
    assert (shapes_root / "configs/studies/attention-tiny-shapes-detectron2/plan.yaml").exists()
    assert run(monkeypatch, "ablate", "launch", "--root", shapes_root, "--device", "cpu") == 5
    assert not (shapes_root / "results" / "runs").exists()


def test_sources_that_were_not_installed_lack_their_configs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A detectron2 of empty modules stands in for a real one, up to the model zoo that has no configs."""
    for name in ("", "checkpoint", "engine", "evaluation", "modeling", "model_zoo"):
        folder = tmp_path / "detectron2" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "__init__.py").write_text("")
    zoo = "def get_config_file(path):\n    raise RuntimeError(path)\n"
    (tmp_path / "detectron2" / "model_zoo" / "__init__.py").write_text(zoo)
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(availability, "_check_floor", lambda: None)
    with pytest.raises(MissingEngine, match=r"configs is missing, .* its setup\.py makes a link: ln -s"):
        need_detectron2()
    for name in [name for name in sys.modules if name.partition(".")[0] == "detectron2"]:
        del sys.modules[name]  # not by monkeypatch, which would bring the empty ones back
