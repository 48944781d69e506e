"""A bar where there is a terminal, lines where there is none, nothing where nobody asked."""

import sys
from types import SimpleNamespace

import pytest

from ablate.train import logging as module
from ablate.train.logging import progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def go(clock: list[float], steps: int, seconds: float) -> list[str]:
    said: list[str] = []
    with progress("predicting", "image", steps, said.append) as advance:
        for _ in range(steps):
            clock[0] += seconds
            advance()
    return said


def test_without_a_terminal_there_is_a_line_every_half_minute(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    assert go(clock, 100, 1.0) == [
        "predicting: image 31 of 100",
        "predicting: image 62 of 100",
        "predicting: image 93 of 100",
    ]
    assert go(clock, 25, 1.0) == []  # soon done
    assert go(clock, 2, 40.0) == ["predicting: image 1 of 2"]  # the end is told by what comes after it
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_and_no_line(
    clock: list[float], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert go(clock, 7, 40.0) == []
    out, err = capsys.readouterr()
    assert out == ""  # the results of a command
    assert "predicting" in err
    assert "7/7" in err


def test_nobody_asked(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("predicting", "image", 3, None) as advance:
        clock[0] += 100
        advance()
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_taken_away_when_a_step_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def fail() -> None:
        with progress("predicting", "image", 3, lambda _: None) as advance:
            advance()
            raise RuntimeError("a step")

    for _ in range(2):  # a bar that still stood would refuse a second one
        with pytest.raises(RuntimeError, match="a step"):
            fail()
