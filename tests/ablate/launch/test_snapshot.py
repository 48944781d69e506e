"""The copy of the program that jobs run."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.launch import snapshot
from ablate.launch.snapshot import take_snapshot
from ablate.runs.manifest import git_state


def test_a_snapshot_is_a_copy_that_knows_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = take_snapshot(tmp_path / "code")
    assert take_snapshot(tmp_path / "code") == folder, "the same program is copied once"
    assert git_state(folder / "ablate") == git_state(Path(__file__).parents[3] / "ablate")
    assert [path for path in folder.rglob("*") if "__pycache__" in path.parts] == []
    script = "import ablate.config.yaml as y, ablate.launch.cluster as c; print(y.load_config('tiny-shapes').engine)"
    environment = {"PYTHONPATH": str(folder), "PYTHONSAFEPATH": "1", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == "vision\n", done.stderr
    checkout = tmp_path / "checkout"
    shutil.copytree(folder, checkout)
    monkeypatch.setattr(snapshot, "SOURCE", checkout)
    (checkout / "analysis" / "shell.py").write_text("edited")
    other = take_snapshot(tmp_path / "code")
    assert other != folder
    assert (other / "analysis" / "shell.py").read_text() == "edited"
    assert "edited" not in (folder / "analysis" / "shell.py").read_text()[:10]
