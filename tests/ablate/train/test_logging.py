"""A bar where there is a terminal, lines where there is none, nothing where nobody asked."""

import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from ablate import progress as module
from ablate.progress import progress
from ablate.train.logging import show_messages

Go = Callable[[int, float], list[str]]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


@pytest.fixture
def go(clock: list[float], caplog: pytest.LogCaptureFixture) -> Go:
    """Steps of so many seconds -> what was logged meanwhile."""
    caplog.set_level(logging.INFO, "ablate")

    def steps_of(steps: int, seconds: float) -> list[str]:
        caplog.clear()
        with progress("predicting", "image", steps) as advance:
            for _ in range(steps):
                clock[0] += seconds
                advance()
        return caplog.messages

    return steps_of


def test_without_a_terminal_there_is_a_line_every_half_minute(go: Go, capsys: pytest.CaptureFixture[str]) -> None:
    assert go(100, 1.0) == [
        "predicting: image 31 of 100",
        "predicting: image 62 of 100",
        "predicting: image 93 of 100",
    ]
    assert go(25, 1.0) == []  # soon done
    assert go(2, 40.0) == ["predicting: image 1 of 2"]  # the end is told by what comes after it
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar_and_no_line(
    go: Go, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert go(7, 40.0) == []
    out, err = capsys.readouterr()
    assert out == ""  # the results of a command
    assert "predicting" in err
    assert "7/7" in err


def test_nobody_asked(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with progress("predicting", "image", 3, shown=False) as advance:
        clock[0] += 100
        advance()
    assert capsys.readouterr() == ("", "")


def test_the_bar_is_taken_away_when_a_step_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def fail() -> None:
        with progress("predicting", "image", 3) as advance:
            advance()
            raise RuntimeError("a step")

    for _ in range(2):  # a bar that still stood would refuse a second one
        with pytest.raises(RuntimeError, match="a step"):
            fail()


def test_messages_are_plain_lines_on_standard_error_once_somebody_asks(capsys: pytest.CaptureFixture[str]) -> None:
    logger = logging.getLogger("ablate.somewhere")
    logger.warning("nobody asked")
    assert capsys.readouterr() == ("", "")
    show_messages()
    show_messages()
    path = "/long/" * 40 + "[not markup].png"
    logger.info("starting from %s", path)
    logger.warning("it is damaged")
    logger.debug("a detail")
    assert capsys.readouterr() == ("", f"starting from {path}\nwarning: it is damaged\n")


def test_a_message_leaves_the_bar_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    show_messages()
    with progress("predicting", "image", 3) as advance:
        advance()
        logging.getLogger("ablate.somewhere").warning("it is damaged")
        advance()
    lines = capsys.readouterr().err.replace("\r", "\n").split("\n")
    (message,) = [line for line in lines if "it is damaged" in line]
    assert message.endswith("warning: it is damaged")
    assert "predicting" not in message
