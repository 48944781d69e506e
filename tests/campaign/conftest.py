"""A real finished study, made once."""

from pathlib import Path

import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.config.yaml import dump_config
from ablate.execute.run import execute
from ablate.launch.base import LOG
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study, write_study
from ablate.train.outcome import RuntimeOptions
from tests.ablate.finished import probed
from tests.ablate.tiny import tiny_config, write_data

LOCK = "lease-0123456789abcdef.json"


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Study]:
    """A study of two finished runs with every file that a run can have, and the root under which it lies."""
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
