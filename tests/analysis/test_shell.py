"""A command that is printed works when it is pasted."""

import shlex
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest

from ablate.cli.launch import launch
from analysis.shell import install_command, shell_command
from tests.command_line import run


@pytest.fixture(autouse=True)
def _by_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV", raising=False)
    monkeypatch.setattr(sys, "argv", ["cli.py"])
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))


def test_it_begins_as_the_program_was_started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    python = Path(sys.executable).name
    assert shell_command("ablate", "launch", study="x") == f"{python} cli.py ablate launch x"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shell_command("ablate") == f"{sys.executable} cli.py ablate", "no such python on the path"
    monkeypatch.setenv("UV", "/somewhere/uv")
    assert shell_command("ablate") == "python -m uv run cli.py ablate", "uv is a package of some Python alone"
    (tmp_path / "uv").touch(mode=0o755)
    assert shell_command("ablate") == "uv run cli.py ablate"


def test_installed_it_is_called_by_its_name_or_by_its_path_where_the_shell_does_not_find_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    script = tmp_path / "my tools" / "detablate"
    script.parent.mkdir()
    script.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(script)])
    assert shell_command("ablate") == f"'{script}' ablate"
    monkeypatch.setenv("PATH", str(script.parent))
    assert shell_command("ablate") == "detablate ablate"
    monkeypatch.setattr(sys, "argv", ["detablate"])
    assert shell_command("ablate") == "detablate ablate"


def test_uv_runs_what_it_has_run_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "argv", ["/project/.venv/bin/detablate"])
    monkeypatch.setenv("UV", "/somewhere/uv")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("uv", "uvx"):
        (tmp_path / name).touch(mode=0o755)
    assert shell_command("doctor") == "uv run detablate doctor"
    monkeypatch.setattr(sys, "prefix", "/cache/uv/archive-v0/Ab1")
    origin = SimpleNamespace(read_text=lambda _: '{"url": "file:///my%20wheels/detablate.whl"}')
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: origin)
    assert shell_command("doctor") == "uvx --from '/my wheels/detablate.whl' detablate doctor"
    monkeypatch.setattr(origin, "read_text", lambda _: None)
    assert shell_command("doctor") == "uvx detablate doctor"


def test_extras_are_installed_from_where_the_program_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clone = Path(__file__).parents[2]
    monkeypatch.chdir(clone)
    assert install_command("train") == "pip install -e '.[train]'"
    monkeypatch.chdir(tmp_path)
    assert install_command("train") == f"pip install -e {shlex.quote(f'{clone}[train]')}"
    monkeypatch.setattr("analysis.shell.__file__", str(tmp_path / "site-packages" / "analysis" / "shell.py"))
    assert install_command("verify") == "pip install 'detablate[verify]'"
    assert install_command() == "pip install detablate"
    monkeypatch.setenv("UV", "/somewhere/uv")
    assert install_command("train").endswith("uv sync --extra train")
    monkeypatch.setattr(sys, "prefix", "/cache/uv/archive-v0/Ab1")
    origin = SimpleNamespace(read_text=lambda _: '{"url": "file:///wheels/detablate.whl"}')
    monkeypatch.setattr("importlib.metadata.distribution", lambda _: origin)
    assert install_command("train").endswith("--from '/wheels/detablate.whl[train]' detablate")


def test_a_worker_or_a_notebook_names_the_file_of_the_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    for script in ("/elsewhere/ablate/launch/worker.py", "/elsewhere/ipykernel_launcher.py", "-c", ""):
        monkeypatch.setattr(sys, "argv", [script])
        assert shell_command("ablate").endswith(f"{Path(__file__).parents[2] / 'cli.py'} ablate")


def test_as_a_module_it_is_started_as_a_module_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/clone/detablate.py"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", ModuleSpec("detablate", None))
    assert shell_command("ablate").endswith(" -m detablate ablate")


def test_it_names_the_root_where_that_is_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for here in (Path(), Path(tmp_path)):
        assert shell_command("ablate", "list", root=here).endswith("cli.py ablate list")
    assert shell_command("ablate", "list", root=Path("my runs")).endswith("cli.py ablate list --root 'my runs'")


@pytest.mark.parametrize("name", ["plain", "two words", 'it\'s "mine"', "-dash", "--json", "$(id) `id`", "日本語", "*"])
def test_any_name_reaches_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = shlex.split(shell_command("ablate", launch.__name__, root=tmp_path, study=name))
    assert run(monkeypatch, *words[words.index("ablate") :]) == 4
    assert f"there is no study {name!r}" in capsys.readouterr().err
