"""``--jobs``: several files at the same time give the same answer."""

from pathlib import Path

import pytest

from analysis.coco.synthetic import write_example
from tests.command_line import run


@pytest.mark.parametrize("verb", ["errors", "ap", "compare", "threshold"])
def test_the_answer_is_the_same(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = write_example(tmp_path, images=40)
    few = ("--resamples", "400") if verb in ("compare", "threshold") else ()
    answers = []
    for jobs in (1, 2):
        assert run(monkeypatch, "analyze", verb, *files.values(), "--gt", truth, *few, "--jobs", jobs) == 0
        answers.append(capsys.readouterr())
    assert answers[0] == answers[1]
    assert answers[0].out


def test_the_first_bad_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = write_example(tmp_path, images=40)
    for path in files.values():
        path.write_text("[")
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth, "--jobs", "2") == 4
    assert next(iter(files.values())).name in capsys.readouterr().err
