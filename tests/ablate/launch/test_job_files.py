"""Job files of other schedulers, as texts; those of shells and YAML are read by what reads them."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ablate.config.yaml import parse_yaml
from ablate.launch import job_files
from ablate.launch.job_files import SCHEDULERS, Scheduler, job_file
from ablate.runs.folder import Workspace
from tests.ablate.launch.studies import a_run, a_study

GOLDEN = Path(__file__).parents[2] / "golden" / "jobs"
YAML = ("kubernetes", "skypilot")


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_job_files_are_as_they_were(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheduler: Scheduler) -> None:
    monkeypatch.setattr(sys, "executable", "/lab/bin/python")
    monkeypatch.setattr(job_files, "_program", lambda: ("/lab/detablate/cli.py",))
    study = a_study(tmp_path, [a_run("x"), a_run("y")], "O'Brien's 2nd")
    text = job_file(Workspace(tmp_path), study, scheduler, drains=4, gpus=2, device="auto")
    text = text.replace(str(tmp_path), "/lab/root")
    assert text == (GOLDEN / f"{scheduler}.txt").read_text(encoding="utf-8")
    on_a_cpu = job_file(Workspace(tmp_path), study, scheduler, drains=1, gpus=0, device="cpu")
    assert "--device cpu" in on_a_cpu
    assert not re.search(r"gpu|accelerators", on_a_cpu, re.I)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_job_files_can_be_read_whatever_the_names(tmp_path: Path, scheduler: Scheduler) -> None:
    root = tmp_path / 'a "root" with $HOME'
    root.mkdir()
    study = a_study(root, [a_run("x")], 'it\'s "$(echo bad)" `x`')
    text = job_file(Workspace(root), study, scheduler, drains=1, gpus=1, device="auto")
    if scheduler == "kubernetes":
        pod = parse_yaml(text, "job")["spec"]["template"]["spec"]["containers"][0]
        assert pod["workingDir"] == str(root)
        script = pod["command"][2]
    else:
        script = parse_yaml(text, "job")["run"] if scheduler == "skypilot" else text
    script = script.replace(f"exec {sys.executable}", "exec printf '%s\\n'")
    script = script.replace(f"exec '{sys.executable}'", "exec printf '%s\\n'")
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[-2:] == ["--", study.name]
    assert str(root) in words
