"""``ablate report``: a finished study on the embedded data becomes one page, with its caveat and its own images."""

import re
from pathlib import Path

import pytest

from ablate.axes import AXES
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.report import study_sections
from ablate.studies.results import summarise
from ablate.studies.study import write_study
from ablate.studies.training_curves import read_curves
from tests.ablate.finished import finish, probed
from tests.ablate.simulated import simulate
from tests.analysis.report.pages import text_of
from tests.command_line import run


def test_a_finished_study_becomes_a_page(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(AXES["head"], Request(), Workspace(shapes_root))
    write_study(Workspace(shapes_root), study)
    out = shapes_root / "pages" / "study.html"
    command = ("ablate", "report", "--root", shapes_root, "--out", out, "--pictures", 24, "--resamples", 200)
    assert run(monkeypatch, *command) == 4
    assert re.search(r"has no finished run yet; run it: .* ablate launch --root ", capsys.readouterr().err)
    for number, planned in enumerate(study.runs):
        folder = simulate(shapes_root, study, planned, 0.5 + 0.2 * number, number)
        for iteration in (5, 10):
            folder.append_metrics(iteration, {"loss": 3.0 / iteration})
    assert run(monkeypatch, *command) == 0
    assert "24 examples in the gallery" in capsys.readouterr().out
    page = out.read_text()
    said = " ".join(text_of(page).split())
    assert f"{study.title} Synthetic data, n = 1: demonstration only, not evidence." in said
    assert "scores highest" not in said
    assert "Cost, one image at a time variant peak memory, MiB training step, s prediction, s param. M" in said
    assert f"{study.baseline} (baseline)" in said
    assert f"Compared with {study.baseline}" in said
    assert "AP against cost" in said
    assert "training loss by iteration, in the end: paper 0.3, plain 0.3" in page
    assert "Nothing is tested, so there are no p-values and no stars." in said
    assert "p (Holm)" not in said
    assert "Several seeds give intervals and tests" in said
    assert page.count("data:image/jpeg;base64,") == 24
    assert "picture missing" not in page
    assert list(out.parent.iterdir()) == [out]


def test_seeds_are_compared_together_and_shown_one_by_one(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(AXES["head"], Request(seeds=[0, 1]), Workspace(shapes_root))
    write_study(Workspace(shapes_root), study)
    out = shapes_root / "seeds.html"
    command = ("ablate", "report", "--root", shapes_root, "--out", out, "--pictures", 6, "--resamples", 200)
    first, second, third, fourth = study.runs  # paper 0 and 1, plain 0 and 1
    for number, planned in enumerate((first, fourth)):
        simulate(shapes_root, study, planned, 0.4 + 0.3 * number, number)
    assert run(monkeypatch, *command) == 0
    assert "no other variant has a finished run" in capsys.readouterr().err
    assert "it is not known which differences are significant" in text_of(out.read_text())
    for number, planned in enumerate((second, third)):
        simulate(shapes_root, study, planned, 0.4 + 0.3 * number, 2 + number)
    assert run(monkeypatch, *command) == 0
    said = " ".join(text_of(out.read_text()).split())
    assert "everything else shows the first seed of each variant" in said
    assert "Designs are compared: means over seeds; intervals cover the variation between seeds and images." in said
    assert "over n = 2 seeds" in said
    assert "the 95 % interval over the choice of images" not in said
    assert 'class="whisker"' not in out.read_text()


def test_charts_and_published_numbers_of_a_study(shapes_root: Path) -> None:
    workspace = Workspace(shapes_root)
    study = plan(AXES["attention"], Request(seeds=[0, 1], only=["window", "global"]), workspace)
    write_study(workspace, study)
    ap, seconds = {"window": 30.0, "hybrid": 34.0, "global": 33.0}, {"window": 0.1, "hybrid": 0.2, "global": 0.3}
    for planned in study.runs:
        folder = finish(shapes_root, study, planned, ap[planned.variant] + planned.seed)
        probed(folder, seconds=seconds[planned.variant])
        for iteration in (10, 20, 30)[: 3 - planned.seed]:
            folder.append_metrics(iteration, {"loss": planned.seed + 2.0, "box_AP": 10.0})
    names = ["window", "hybrid", "global"]
    summary = summarise(workspace, study)
    of_study, training, published = study_sections(summary, read_curves(workspace, study), names)
    step = of_study.body[of_study.body.index("box AP against training step (s)") :].partition("</svg>")[0]
    front = re.findall(r'<polyline points="([^"]*)" class="front"/>', step)
    circles = re.findall(r'<g class="r(\d)">.*?<circle cx="([^"]*)" cy="([^"]*)"', step)
    at = {int(run): f"{x},{y}" for run, x, y in circles}
    assert front == [f"{at[0]} {at[1]}"]  # global costs more than hybrid and has less AP
    assert step.count('class="span"') == 3  # over two seeds; times were measured once
    assert "window: box AP 30.5, training step (s) 0.1" in step
    loss = training.body[training.body.index("training loss by iteration") :].partition("</svg>")[0]
    assert (loss.count("curve faint"), loss.count('class="curve d')) == (6, 3)
    assert "training loss by iteration, in the end: window 2.5, hybrid 2.5, global 2.5" in loss
    assert "arXiv 2203.16527" in published.body
    assert "Published cost, as a multiple of that of window" in published.body
    assert [one.anchor for one in study_sections(summary, {}, names)] == ["study", "published"]


def test_masks_of_a_study(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = plan(AXES["head"], Request(only=["plain"]), Workspace(shapes_root))
    write_study(Workspace(shapes_root), study)
    simulate(shapes_root, study, study.runs[0], 0.7, 0)
    out = shapes_root / "masks.html"
    arguments = ("--root", shapes_root, "--out", out, "--iou-type", "segm", "--pictures", 6, "--resamples", 0)
    assert run(monkeypatch, "ablate", "report", study.name, *arguments) == 0
    assert '<g class="found"><path d="M' in out.read_text()
    assert run(monkeypatch, "ablate", "report", "--root", shapes_root, "--out", shapes_root) == 4
    assert "is a folder; give the HTML file to write" in capsys.readouterr().err
