"""The pinned versions with their hashes: those of pyproject.toml, without addresses, enough for the analysis."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FILE = ROOT / "requirements-hashed.txt"
PIN = re.compile(r"^(?P<name>[a-z0-9._-]+)==(?P<version>[\w.]+)", re.M)


def test_every_pin_has_hashes_and_is_that_of_the_project() -> None:
    text = FILE.read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    known = {
        tuple(pin.partition(" ;")[0].strip().split("==")) for pin in project["tool"]["uv"]["constraint-dependencies"]
    }
    blocks = re.split(r"\n(?=[a-z])", text.strip())
    for block in blocks:
        assert re.fullmatch(r"[a-z0-9._-]+==[^\n]*( \\\n    --hash=sha256:[0-9a-f]{64})+", block), block
    pins = {(pin["name"], pin["version"]) for pin in PIN.finditer(text)}
    assert {pin for pin in pins if pin[0] != "colorama"} <= known  # click's, on Windows alone
    needed = {re.split(r"[><=\[ ]", one)[0].replace(".", "-") for one in project["project"]["dependencies"]}
    assert needed <= {name for name, _ in pins}
    assert "://" not in text


@pytest.mark.campaign
def test_the_analysis_installs_from_it_and_runs(tmp_path: Path) -> None:
    """Needs a package index."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "-r", str(FILE)]
    subprocess.run(install, check=True, timeout=900)
    command = [
        str(python),
        str(ROOT / "cli.py"),
        "analyze",
        "example",
        "--out",
        str(tmp_path / "out"),
        "--images",
        "20",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=tmp_path)
    assert "AP50" in done.stdout
    assert subprocess.run([str(python), "-c", "import torch"], capture_output=True, check=False).returncode == 1
