"""A study with damaged files: one damaged row with its remedy, and everything else goes on."""

import random
import time
from pathlib import Path

import msgspec
import pytest

from ablate.runs.folder import Workspace
from ablate.studies.results import summarise
from ablate.studies.study import Study, study_folder
from tests.campaign.damage import damage, restore
from tests.campaign.peak import forget_peak, peak_memory
from tests.command_line import run

SECONDS = 20.0  # of the processor, within which a command must end
HANGS = 120.0  # seconds by the clock, on a machine that others use too
MOST_MEMORY = 2 << 30  # bytes, of all commands in one process after each other


def storm(
    root: Path, study: Study, seeds: range, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> float:
    """Damage a file of the second run, or of the study, and look at it by every command -> the longest seconds."""
    longest = 0.0
    last = Workspace(root).run(study.runs[1].run_id).path
    files = [path for path in sorted(last.rglob("*")) if path.is_file() and path.parent.name != "tensorboard"]
    files.append(study_folder(Workspace(root), study.name) / "study.json")
    before = {path: path.read_bytes() for path in files}
    assert len(files) == 12
    expected = summarise(Workspace(root), study).rows[0]
    for seed in seeds:
        path = files[seed % len(files)]
        try:
            way = damage(path, random.Random(seed))
            longest = max(longest, every_command(root, path, f"seed {seed}: {path.name} {way}", monkeypatch, capsys))
            if path.name != "study.json":
                found = summarise(Workspace(root), study).rows[0]
                if path.name == "probe.json":  # measured elsewhere, it says now: costs are not compared then
                    costs = ("peak_gib", "seconds_per_iteration", "seconds_per_image")
                    found = msgspec.structs.replace(found, **{cost: getattr(expected, cost) for cost in costs})
                assert found == expected, f"seed {seed}: {path.name} {way}"
        finally:
            restore(path, before[path])
    return longest


def every_command(
    root: Path, path: Path, context: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> float:
    """Every command that reads the store where ``path`` is damaged -> the longest, in seconds of a CPU."""
    longest = 0.0
    commands = ["ablate list", "ablate status", "ablate logs", "ablate table", "ablate compare", "analyze errors"]
    for command in [*commands, f"ablate report --out {root}/page.html --pictures 0 --resamples 0"]:
        began, used = time.monotonic(), time.process_time()
        try:
            code = run(monkeypatch, *command.split(), "--root", root)
        except Exception as error:
            error.add_note(f"{context}: {command}")
            raise
        said = capsys.readouterr()
        assert time.monotonic() - began < HANGS, context
        longest = max(longest, time.process_time() - used)
        assert longest < SECONDS, f"{context}: {command}"
        assert code in (0, 4), f"{context}: {command}: {said.err}"
        assert said.err.count("\n") <= 2, f"{context}: {command}: {said.err}"
        if path.name != "study.json" and "compare" not in command:
            assert code == 0, f"{context}: {command}: {said.err}"
    return longest


def test_a_sample(
    finished: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storm(*finished, range(12), monkeypatch, capsys)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 800, 100))
def test_a_storm(
    finished: tuple[Path, Study], first: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = forget_peak()
    longest = storm(*finished, range(first, first + 100), monkeypatch, capsys)
    used = peak_memory() - held
    with capsys.disabled():
        print(f"files {first} to {first + 99}: longest {longest:.1f} s, {used >> 20} MiB")
    assert used < MOST_MEMORY
