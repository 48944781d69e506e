"""``doctor`` as a person and a script meet it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.doctor import diagnosis
from ablate.doctor.check import Check
from ablate.doctor.detectron2 import AREA as DETECTRON2
from ablate.engines.environment import SETTING
from analysis.shell import install_command
from tests.command_line import run

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def no_detectron2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_the_document(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(monkeypatch, "doctor", "--json", "--root", tmp_path) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["schema"] == 1
    assert document["analysis"] is True
    assert document["engines"]["vision"]["works"] is True
    assert document["engines"]["detectron2"] == {"works": False, "where": ""}
    areas = {"analysis", "engine vision", "engine detectron2", "machine", "optional"}
    assert {check["area"] for check in document["checks"]} == areas | ({"Slurm"} if shutil.which("sbatch") else set())
    assert all(check["found"] for check in document["checks"])
    packages = [check["area"] for check in document["checks"] if check["name"] == "packages"]
    assert packages == ["analysis", "engine vision"]
    assert list(tmp_path.iterdir()) == []  # it looks and leaves nothing


def test_the_screen(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "doctor") == 0
    out = capsys.readouterr().out
    assert "✓ engine vision (the default) works, on " in out
    assert "– engine detectron2 is not installed" in out
    assert SETTING in out
    assert "✗" not in out.split("\n\n")[0]
    assert all(line == line.rstrip() for line in out.splitlines())


def test_what_is_broken_stands_out(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "doctor", "--python", "/nowhere/python") == 0  # the default engine works
    out = capsys.readouterr().out
    assert "✗  Python" in out
    assert "✗ engine detectron2 does not work (see ✗ above)" in out


@pytest.mark.parametrize(("detectron2_works", "code"), [(False, 5), (True, 0)])
def test_without_the_default_engine_another_one_counts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], detectron2_works: bool, code: int
) -> None:
    broken = Check(area="engine vision", name="import torch", state="broken", found="ImportError: libcudart.so.13")
    monkeypatch.setattr(diagnosis, "check_torch", lambda: ([broken], ""))
    if detectron2_works:
        there = [Check(area=DETECTRON2, name=n, state="ok", found=n) for n in ("Python", "detectron2")]
        monkeypatch.setattr(diagnosis, "check_detectron2", lambda _: there)
    assert run(monkeypatch, "doctor") == code
    out = capsys.readouterr().out
    assert "libcudart.so.13" in out
    assert "✗ engine vision (the default) does not work" in out
    assert ("✓ engine detectron2 works" in out) == detectron2_works


def test_without_torch_it_says_so_at_once_and_leaves_with_5() -> None:
    """The base install alone: nothing heavy is imported to find that out."""
    script = (
        "import sys, cli, atexit\n"
        "from ablate.doctor import requirements\n"
        "have = requirements.installed\n"
        "requirements.installed = lambda name: None if name.startswith(('torch', 'tensorboard')) else have(name)\n"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'pycocotools'}\n"
        "atexit.register(lambda: print('imported:', sorted(heavy & set(sys.modules))))\n"
        "sys.argv = ['cli.py', 'doctor']\n"
        "cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 5, done.stderr
    assert "tensorboard is not installed; torch is not installed; torchvision is not installed" in done.stdout
    assert install_command("train") in done.stdout
    assert "✓ analyze works" in done.stdout
    assert "imported: []" in done.stdout
