import tempfile
from pathlib import Path

import pytest

from tests.ablate.launch.studies import environment


@pytest.fixture(autouse=True)
def _devices_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are shared by all processes of a user on a machine; not by those of tests."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    for name, value in environment(folder).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
