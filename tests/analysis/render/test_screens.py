"""Whole screens in narrow terminals: every class, run and number of the document stands in them, nothing is cut off."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from analysis.coco.synthetic import write_example
from tests.command_line import run

LONG = "vit-base-with-windowed-attention-and-relative-positions"


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    truth, files = write_example(tmp_path_factory.mktemp("example"), images=60)
    return truth, [f"{LONG}={files['sloppy-boxes']}", f"b={files['confused-classes']}"]


def screen(monkeypatch: pytest.MonkeyPatch, capsys: Any, width: int, *arguments: object) -> list[str]:
    with monkeypatch.context() as terminal:
        for name, value in (("FORCE_COLOR", "1"), ("TERM", "dumb"), ("COLUMNS", str(width))):
            terminal.setenv(name, value)
        assert run(terminal, *arguments) == 0
    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    return lines


@pytest.mark.parametrize("width", [60, 80, 120])
def test_errors(example: tuple[Path, list[str]], width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    truth, files = example
    arguments = ("analyze", "errors", *files, "--gt", truth, "--by", "all", "--all")
    lines = screen(monkeypatch, capsys, width, *arguments)
    words = " ".join(lines).split()
    assert run(monkeypatch, *arguments, "--json") == 0
    for one in json.loads(capsys.readouterr().out)["runs"]:
        for delta in one["delta_ap"].values():
            assert f"{delta:.2f}" in words
        for row in one["by_class"]:
            assert any(row["class"] in line for line in lines)
            assert {f"{row['ap']:.1f}", *(f"{row['delta_ap'][e]:.2f}" for e in ("cls", "loc", "miss"))} <= set(words)
        for row in one["by_iou"]:
            assert {f"{row['iou']:.2f}", f"{row['ap']:.1f}", f"{row['delta_ap']['bg']:.2f}"} <= set(words)
        for row in one["confusion"]:
            if row["true"] != row["predicted"]:
                assert f"{row['detections']:,}" in words
    assert {"mislocalised", "objects", "detections"} <= set(words)


@pytest.mark.parametrize("width", [60, 80])
def test_compare(example: tuple[Path, list[str]], width: int, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    truth, files = example
    arguments = ("analyze", "compare", *files, "--gt", truth, "--resamples", 400)
    together = " ".join(screen(monkeypatch, capsys, width, *arguments))
    assert run(monkeypatch, *arguments, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    for number in document["runs"][0]["numbers"].values():
        assert f"{number['value']:.1f} [{number['low']:.1f}, {number['high']:.1f}]" in together
    for number in document["against_baseline"][0]["differences"].values():
        value, low, high = (f"{number[name] + 0.0:+z.1f}" for name in ("value", "low", "high"))
        if number["p"] <= 0.05:  # a limit that leaves out 0 does not round to it
            low, high = (
                f"{number[name]:+.1g}" if abs(number[name]) < 0.05 else short
                for name, short in (("low", low), ("high", high))
            )
        assert f"{value} [{low}, {high}]" in together
