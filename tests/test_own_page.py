"""The page on what is one's own: its files load, and its commands work as they stand there."""

import re
import shlex
from pathlib import Path

import pytest

from ablate.config.schema import PluginBackbone
from ablate.config.yaml import load_config
from tests.ablate.data.test_layouts import label_studio
from tests.command_line import run

PAGE = Path(__file__).parent.parent / "docs" / "own.md"
FILES = dict(re.findall(r"^<!-- (\S+\.yaml) -->\n```yaml\n(.*?)^```", PAGE.read_text(), re.M | re.S))
COMMANDS = [line.partition(" #")[0] for line in re.findall(r"^detablate (.*)$", PAGE.read_text(), re.M)]


def test_the_page_has_what_is_tested_here() -> None:
    assert sorted(FILES) == ["mine.yaml", "net.yaml", "windows.yaml"]
    assert len(COMMANDS) == 12


def test_its_commands_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).write_text(text)
    label_studio(Path("cats"))
    for command in COMMANDS:
        words = shlex.split(command)
        expected = 4 if words == ["data", "init", "cats"] or "STUDY" in words else 0  # one set only; no such study
        assert run(monkeypatch, *words) == expected, command
        said = capsys.readouterr()
        if "--product" in words:
            assert "small x " in said.out
    assert isinstance(load_config("net.yaml").model.backbone, PluginBackbone)
