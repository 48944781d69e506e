"""What is printed where: --quiet, --verbose, NO_COLOR and COLUMNS, on a terminal and in a pipe."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from analysis.coco.synthetic import write_example
from tests.command_line import run

ROOT = Path(__file__).parent.parent
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|9[0-7])[;m]")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("example")
    truth, predictions = write_example(folder, images=12)
    for path in predictions.values():
        found = json.loads(path.read_text())
        path.write_text(json.dumps([*found, found[0] | {"image_id": 10**6}]))  # which is warned of
    return [*map(str, predictions.values()), "--drop-unknown", "--gt", str(truth)]


def test_quiet_leaves_the_result_and_verbose_adds_what_was_done(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = {}
    for option in ("", "-q", "-v"):
        assert run(monkeypatch, "analyze", "ap", *files, *filter(None, [option])) == 0
        shown[option] = capsys.readouterr()
    assert shown[""].out == shown["-q"].out == shown["-v"].out
    assert "warning: " in shown[""].err
    assert shown["-q"].err == ""
    assert set(shown[""].err.splitlines()) < set(shown["-v"].err.splitlines())
    assert re.search(r"read \S+sloppy-boxes.json: \d\.\d\d s", shown["-v"].err)


def test_an_error_is_told_with_quiet_and_where_it_was_raised_with_verbose(
    files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "analyze", "ap", "missing.json", *files[-2:], "-q") == 4
    assert capsys.readouterr().err == "error: missing.json: no such file; check the path\n"
    assert run(monkeypatch, "analyze", "ap", "missing.json", *files[-2:], "-v") == 4
    told = capsys.readouterr().err
    assert "Traceback" in told
    assert told.splitlines()[-1] == "error: missing.json: no such file; check the path"


@pytest.mark.parametrize("columns", [60, 200])
def test_columns_set_the_width_in_a_pipe(
    columns: int, files: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert run(monkeypatch, "analyze", "errors", *files) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_no_color_holds_on_a_terminal_and_a_pipe_has_no_codes(files: list[str]) -> None:
    command = [sys.executable, "cli.py", "analyze", "errors", *files]
    plain = {key: value for key, value in os.environ.items() if key not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    assert COLOUR.search(_on_a_terminal(command, plain | {"TERM": "xterm-256color"}))
    assert not COLOUR.search(_on_a_terminal(command, plain | {"TERM": "xterm-256color", "NO_COLOR": "1"}))
    piped = subprocess.run(command, cwd=ROOT, env=plain | {"TERM": "xterm-256color"}, capture_output=True, check=True)
    assert b"\x1b" not in piped.stdout + piped.stderr


def _on_a_terminal(command: list[str], environment: dict[str, str]) -> str:
    """What a command prints on a terminal."""
    outer, inner = pty.openpty()
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=inner, stderr=inner) as process:
        os.close(inner)
        read = b""
        while True:
            try:
                part = os.read(outer, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            read += part
    os.close(outer)
    assert process.returncode == 0
    return read.decode()
