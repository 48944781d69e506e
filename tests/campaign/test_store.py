"""A study with damaged files: one damaged row with its remedy, and everything else goes on."""

import random
import time
from pathlib import Path

import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.config.yaml import dump_config
from ablate.execute.run import execute
from ablate.launch.base import LOG
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.results import summarise
from ablate.studies.study import Study, study_folder, write_study
from ablate.train.outcome import RuntimeOptions
from tests.ablate.finished import probed
from tests.ablate.tiny import tiny_config, write_data
from tests.campaign.damage import damage, restore
from tests.command_line import run

SECONDS = 20.0  # within which a command must end
LOCK = "lease-0123456789abcdef.json"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A study of two finished runs with every file that a run can have."""
    root = tmp_path_factory.mktemp("store")
    torch.set_num_threads(1)
    config = tiny_config(write_data(root / "data"), evaluate__score_threshold=0.01, train__iterations=2)
    (root / "base.yaml").write_text(dump_config(config))
    request = Request(base=str(root / "base.yaml"), name="store", device="cpu")
    study = plan(axis_from_keys(["train.lr=1e-3,2e-3"]), request, Workspace(root))
    write_study(Workspace(root), study)
    for planned in study.runs:
        assert planned.config is not None
        folder = execute(planned.config, Workspace(root), RuntimeOptions(device="cpu", workers=0)).folder
        probed(folder)
        (folder.path / LOG).write_text("a line\n")
        (folder.path / LOCK).write_text("{}")
    return root, study


def storm(
    root: Path, study: Study, seeds: range, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Damage a file of the second run, or of the study, and look at it by every command."""
    last = Workspace(root).run(study.runs[1].run_id).path
    files = [path for path in sorted(last.rglob("*")) if path.is_file() and path.parent.name != "tensorboard"]
    files.append(study_folder(Workspace(root), study.name) / "study.json")
    before = {path: path.read_bytes() for path in files}
    assert len(files) == 12
    expected = summarise(Workspace(root), study).rows[0]
    commands = ["ablate list", "ablate status", "ablate logs", "ablate table", "ablate compare", "analyze errors"]
    for seed in seeds:
        rng = random.Random(seed)
        path = files[seed % len(files)]
        way = damage(path, rng)
        context = f"seed {seed}: {path.name} {way}"
        for command in [*commands, f"ablate report --out {root}/page.html --pictures 0 --resamples 0"]:
            began = time.monotonic()
            try:
                code = run(monkeypatch, *command.split(), "--root", root)
            except Exception as error:
                error.add_note(f"{context}: {command}")
                raise
            said = capsys.readouterr()
            assert time.monotonic() - began < SECONDS, context
            assert code in (0, 4), f"{context}: {command}: {said.err}"
            assert said.err.count("\n") <= 2, f"{context}: {command}: {said.err}"
            if path.name != "study.json" and "compare" not in command:
                assert code == 0, f"{context}: {command}: {said.err}"
        if path.name != "study.json":
            assert summarise(Workspace(root), study).rows[0] == expected, context
        restore(path, before[path])


def test_a_sample(
    finished: tuple[Path, Study], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storm(*finished, range(12), monkeypatch, capsys)


@pytest.mark.campaign
@pytest.mark.parametrize("first", range(0, 2000, 250))
def test_a_storm(
    finished: tuple[Path, Study], first: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    storm(*finished, range(first, first + 250), monkeypatch, capsys)
