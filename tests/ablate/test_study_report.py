"""``ablate report``: a finished study on the embedded data becomes one page, with its caveat and its own images."""

from pathlib import Path

import pytest

from ablate.axes import AXES
from ablate.planning import Request, plan
from ablate.study import write_study
from tests.ablate.simulated import simulate
from tests.analysis.report.pages import text_of
from tests.command_line import run


def test_a_finished_study_becomes_a_page(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(AXES["head"], Request(), shapes_root)
    write_study(shapes_root, study)
    out = shapes_root / "pages" / "study.html"
    command = ("ablate", "report", "--root", shapes_root, "--out", out, "--pictures", 24, "--resamples", 200)
    assert run(monkeypatch, *command) == 4
    assert "has no finished run yet; run it: ablate launch" in capsys.readouterr().err
    for number, planned in enumerate(study.runs):
        simulate(shapes_root, study, planned, 0.5 + 0.2 * number, number)
    assert run(monkeypatch, *command) == 0
    assert "24 examples in the gallery" in capsys.readouterr().out
    page = out.read_text()
    said = " ".join(text_of(page).split())
    assert f"{study.title} Synthetic data, n = 1: shows the tool, is no evidence." in said
    assert "scores highest" not in said
    assert "What it costs Variant GiB s/iter. s/image param. M" in said
    assert f"{study.baseline} (baseline)" in said
    assert f"Against {study.baseline}" in said
    assert page.count("data:image/jpeg;base64,") == 24
    assert "picture missing" not in page
    assert list(out.parent.iterdir()) == [out]


def test_masks_of_a_study(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(AXES["head"], Request(only=["plain"]), shapes_root)
    write_study(shapes_root, study)
    simulate(shapes_root, study, study.runs[0], 0.7, 0)
    out = shapes_root / "masks.html"
    arguments = ("--root", shapes_root, "--out", out, "--iou-type", "segm", "--pictures", 6, "--resamples", 0)
    assert run(monkeypatch, "ablate", "report", study.name, *arguments) == 0
    assert '<g class="found"><path d="M' in out.read_text()
    assert run(monkeypatch, "ablate", "report", "--root", shapes_root, "--out", shapes_root) == 4
    assert "is a folder; name the HTML file to write" in capsys.readouterr().err
