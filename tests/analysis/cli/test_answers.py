"""``--cache``: the same answer at once, and never an old one."""

import json
from pathlib import Path
from typing import Any

import pytest

from analysis.cli import analyze, answers, compare, threshold
from analysis.coco.synthetic import write_example
from tests.command_line import run


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Asks a verb of ``analyze`` about an example: what it printed on both streams, and how often files were read."""
    truth, files = write_example(tmp_path / "example", images=40)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    read: list[Path] = []
    reader = analyze.read_files

    def counted(named: Any, *rest: Any) -> Any:
        read.append(truth)
        return reader(named, *rest)

    for module in (analyze, compare, threshold):
        monkeypatch.setattr(module, "read_files", counted)

    def ask(verb: str, *options: str, code: int = 0) -> tuple[str, str, int]:
        read.clear()
        assert run(monkeypatch, "analyze", verb, *files.values(), "--gt", truth, "--cache", *options) == code
        captured = capsys.readouterr()
        return captured.out, captured.err, len(read)

    ask.truth, ask.files, ask.folder = truth, files, tmp_path / "cache" / "detablate" / "answers"
    return ask


@pytest.mark.parametrize(
    ("verb", "options"),
    [
        ("errors", ("--by", "class")),
        ("errors", ("--json",)),
        ("ap", ()),
        ("compare", ("--resamples", "400")),
        ("threshold", ("--resamples", "0")),
    ],
)
def test_the_second_answer_is_the_first_and_reads_nothing(asked, verb: str, options: tuple[str, ...]) -> None:
    first = asked(verb, *options)
    assert first[0]
    assert first[2] == 1
    assert asked(verb, *options) == (*first[:2], 0)


def test_another_question_or_another_file_is_another_answer(asked) -> None:
    first = asked("ap")
    assert asked("ap", "--by", "class")[2] == 1
    path = asked.files["sloppy-boxes"]
    records = json.loads(path.read_text())
    path.write_text(json.dumps(records[: len(records) // 2]))
    changed = asked("ap")
    assert changed[2] == 1
    assert changed[0] != first[0]


def test_warnings_are_not_shown_to_whoever_asks_for_none(asked) -> None:
    path = asked.files["sloppy-boxes"]
    path.write_text(json.dumps([one | {"score": 2.0} for one in json.loads(path.read_text())]))
    loud, quiet = asked("ap"), asked("ap", "--quiet")
    assert "scores are outside" in loud[1]
    assert quiet[1] == ""
    assert asked("ap") == (*loud[:2], 0)


def test_an_answer_on_a_file_that_changed_meanwhile_is_not_kept(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, path = analyze.read_files, asked.files["sloppy-boxes"]

    def changed(*arguments: Any) -> Any:
        path.write_text(json.dumps(json.loads(path.read_text())[:-1]))
        return reader(*arguments)

    monkeypatch.setattr(analyze, "read_files", changed)
    asked("ap")
    assert not asked.folder.exists() or not list(asked.folder.iterdir())


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"stdout": "AP 99", "stderr": "", "sha256": "0"}', b"\xff"])
def test_a_damaged_entry_is_made_again(asked, damage: bytes) -> None:
    first = asked("ap")
    (entry,) = asked.folder.iterdir()
    entry.write_bytes(damage)
    assert asked("ap") == first
    assert asked("ap") == (*first[:2], 0)


def test_an_error_is_not_kept(asked) -> None:
    asked.files["sloppy-boxes"].write_text("[")
    assert asked("ap", code=4)[0] == ""
    assert not asked.folder.exists() or not list(asked.folder.iterdir())


def test_the_oldest_answers_are_removed(asked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "MOST_ANSWERS", 2)
    for cap in ("5", "6", "7"):
        asked("ap", "--max-dets", cap)
    assert len(list(asked.folder.iterdir())) == 2
    assert asked("ap", "--max-dets", "7")[2] == 0
    assert asked("ap", "--max-dets", "5")[2] == 1


def test_a_folder_that_cannot_be_written_is_a_warning(asked, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    out, err, _ = asked("ap")
    assert out
    assert "could not be kept" in err


def test_files_that_a_command_writes_need_the_command(asked, tmp_path: Path) -> None:
    assert "--cache and --out exclude each other" in asked("ap", "--out", str(tmp_path / "out"), code=2)[1]
