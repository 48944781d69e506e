"""Figures and tables of a study for a paper: AP against cost, curves of training, and what is in bold."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ablate.axes import AXES
from ablate.runs.folder import Workspace
from ablate.studies.cost_figure import cost_figure, costs_of, front_sentence, pareto_front
from ablate.studies.plan import Request, plan
from ablate.studies.plots import about
from ablate.studies.results import Summary, summarise
from ablate.studies.significance import best_over_seeds
from ablate.studies.study import Study, write_study
from ablate.studies.training_curves import MOST_POINTS, read_curves, training_figure
from ablate.studies.write_results import as_latex, as_markdown, write_files
from analysis.exceptions import BadInput
from analysis.render.figure_style import SCREEN, FigureStyle
from analysis.stats.intervals import estimate
from tests.ablate.finished import finish, probed
from tests.analysis.render.test_latex import compiled
from tests.command_line import run

AP = {"window": (30.0, 31.0, 32.0), "hybrid": (39.0, 39.5, 41.0), "global": (40.0, 40.5, 41.0)}
COST = {"window": 0.1, "hybrid": 0.2, "global": 0.4}


@pytest.fixture(scope="module")
def planned(shapes_data: Path) -> Study:
    return plan(AXES["attention"], Request(seeds=(0, 1, 2), only=list(AP)), Workspace(shapes_data.parent.parent))


@pytest.fixture
def workspace(planned: Study, shapes_root: Path) -> Workspace:
    """A finished study with costs and curves."""
    workspace = Workspace(shapes_root)
    write_study(workspace, planned)
    for one in planned.runs:
        folder = finish(shapes_root, planned, one, AP[one.variant][one.seed])
        probed(folder, peak_gib=COST[one.variant], seconds=COST[one.variant])
        for iteration in range(1, 4):
            folder.append_metrics(iteration, {"loss": 3.0 / iteration, **({"box_AP": 10.0} if iteration > 1 else {})})
    return workspace


def test_the_best_are_those_that_do_not_differ_from_it_over_the_seeds() -> None:
    """Against 40, 40.5, 41: the differences 1, 1, 0 have t = 2, p = 0.18; 10, 9.5, 9 have t = 32.9, p = 0.0009."""
    high, near, far = (estimate(AP[name]) for name in ("global", "hybrid", "window"))
    seeds = [(0, 1, 2)] * 3
    assert best_over_seeds([far, near, high], seeds) == {1, 2}
    assert best_over_seeds([far, near, high], seeds, low=True) == {0}
    assert best_over_seeds([far, near, None], [*seeds[:2], ()]) == {1}
    assert best_over_seeds([near], seeds) == frozenset()


def test_pairs_are_of_the_same_seed() -> None:
    """In step the two differ by 1 each time; paired otherwise their difference would drown in noise."""
    first, second = estimate([10.0, 20.0, 30.0]), estimate([31.0, 11.01, 20.99])
    assert best_over_seeds([first, second], [(0, 1, 2), (2, 0, 1)]) == {1}
    assert best_over_seeds([first, second], [(0, 1, 2), (0, 1, 2)]) == {0, 1}


def test_nothing_is_bold_with_one_seed() -> None:
    one, two = estimate([40.0]), estimate([30.0, 31.0])
    assert best_over_seeds([one, one], [(0,), (0,)]) == frozenset()
    assert best_over_seeds([one, two], [(0,), (0, 1)]) == frozenset()


def test_no_more_is_bold_than_the_test_allows_and_the_notes_say_which(workspace: Workspace, planned: Study) -> None:
    text = as_markdown(summarise(workspace, planned), ["AP"])
    rows = {line.split(" | ")[0].strip("| "): line for line in text.splitlines() if " ± " in line and "|" in line}
    assert {name for name, line in rows.items() if "**" in line} == {"hybrid (baseline)", "global"}
    assert "Bold: the best mean of a column and all values that do not differ significantly from it" in text
    single = msgspec.structs.replace(planned, seeds=(0,), runs=tuple(one for one in planned.runs if one.seed == 0))
    text = as_markdown(summarise(workspace, single))
    assert not [line for line in text.splitlines() if line.startswith("|") and "**" in line]
    assert "Bold" not in text


def test_chosen_columns_and_a_table_that_compiles(workspace: Workspace, planned: Study, tmp_path: Path) -> None:
    summary = summarise(workspace, planned)
    tex = as_latex(summary, ["AP", "AP50", "loc", "miss", "memory"])
    head = next(line for line in tex.splitlines() if line.startswith("variant &"))
    assert head.count("&") == 5
    assert r"\shortstack{peak memory,\\MiB}" in head
    assert "multiply-adds" not in tex  # of what is not shown nothing is said
    for name in ("memry", ""):
        with pytest.raises(
            BadInput, match=r"--columns: '\w*' is not a column of this table; choose from AP, AP50, AP75,"
        ):
            as_latex(summary, [name])
    hostile = msgspec.structs.replace(summary, title="50 % of a_b & {c}")
    compiled(as_latex(hostile) + as_latex(msgspec.structs.replace(summary, study="x"), ["AP"]), tmp_path)


def test_columns_are_refused_before_anything_is_written(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("ablate", "table", "--root", workspace.root, "--out", tmp_path / "out")
    assert run(monkeypatch, *command, "--columns", "AP,memry") == 4
    assert "'memry' is not a column of this table; choose from AP," in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert run(monkeypatch, *command, "--style", "paper", "--width", "3.4") == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("points", "front"),
    [
        ([(1, 30), (2, 29), (3, 35), (1, 31)], [3, 2]),
        ([(1, 30), (1, 30)], [0]),
        ([(3, 1), (2, 2), (1, 3)], [2]),
        ([], []),
    ],
)
def test_the_pareto_front(points: list[tuple[float, float]], front: list[int]) -> None:
    assert pareto_front(points) == front


def drawn(monkeypatch: pytest.MonkeyPatch, module: str) -> list[Any]:
    """The figures that a module makes from now on."""
    from analysis.render import figure_style

    figures: list[Any] = []

    def new_figure(*size: float) -> Any:
        figures.append(figure_style.new_figure(*size))
        return figures[-1]

    monkeypatch.setattr(f"{module}.new_figure", new_figure)
    return figures


def test_ap_against_cost_has_a_panel_for_each_cost_that_differs(
    workspace: Workspace, planned: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise(workspace, planned)
    figures = drawn(monkeypatch, "ablate.studies.cost_figure")
    picture = cost_figure(summary, about(summary))
    assert picture is not None
    (figure,) = figures
    axes = [axis.get_xlabel() for axis in figure.axes]
    assert axes == ["training step (s)", "prediction (s per image)", "peak memory (MiB)"]
    assert "Within 1 % for all variants: parameters, multiply-adds." in picture.caption
    assert "n = 3" in picture.caption
    assert "240 images" in picture.caption
    dashed = next(line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert dashed.get_xdata().tolist() == [0.1, 0.2, 0.4]  # each costs more and scores more
    half = estimate(AP["window"])
    assert half is not None
    assert half.half is not None
    uprights = [line.get_ydata() for line in figure.axes[0].lines if len(set(line.get_xdata())) == 1]
    assert [31.0 - half.half, 31.0 + half.half] in [list(map(float, ends)) for ends in uprights if len(ends) == 2]
    assert "Dashed: the Pareto front of the means" in picture.caption
    cheapest_is_best = [
        msgspec.structs.replace(row, seconds_per_iteration=1 / row.metrics["AP"].mean) for row in summary.rows
    ]
    step, *_ = costs_of(summary)
    assert front_sentence(cheapest_is_best, [step]) == "Best in both means: global (training step)."
    alike = tuple(msgspec.structs.replace(row, peak_gib=1.0, size=None, seconds_per_iteration=None,
                                          seconds_per_image=None) for row in summary.rows)  # fmt: skip
    assert cost_figure(msgspec.structs.replace(summary, rows=alike), "") is None


def test_curves_of_training_are_a_line_a_seed_and_their_mean(
    workspace: Workspace, planned: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = drawn(monkeypatch, "ablate.studies.training_curves")
    curves = read_curves(workspace, planned)
    assert {key: {name: sorted(lines) for name, lines in of.items()} for key, of in curves.items()} == {
        key: {name: [0, 1, 2] for name in AP} for key in ("loss", "box_AP")
    }
    picture = training_figure(curves, "Study x.", FigureStyle.chosen("paper", "3.4in"))
    assert picture is not None
    assert "3 seeds" in picture.caption
    (figure,) = figures
    assert [sum(len(line.get_xdata()) > 0 for line in axis.lines) for axis in figure.axes] == [12, 12]
    losses = {key: curves[key] for key in ("loss",)}
    assert training_figure(losses, "", SCREEN) is not None
    assert len(figures[1].axes) == 1  # no empty panel
    assert training_figure({}, "") is None


def test_a_damaged_or_long_curve_is_left_out_or_thinned(
    workspace: Workspace, planned: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = drawn(monkeypatch, "ablate.studies.training_curves")
    first, second = (workspace.run(one.run_id) for one in planned.runs[:2])
    first.metrics.write_text("{nothing}\n")
    for iteration in range(4, 2004):
        second.append_metrics(iteration, {"loss": float("nan") if iteration == 9 else 1.0})
    curves = read_curves(workspace, planned)
    assert sorted(curves["loss"][planned.runs[0].variant]) == [1, 2]
    assert training_figure(curves, "", SCREEN) is not None
    longest = max(len(line.get_xdata()) for line in figures[0].axes[0].lines)
    assert 100 < longest <= MOST_POINTS
    assert all(np.isfinite(line.get_ydata()).all() for line in figures[0].axes[0].lines)


def test_all_figures_are_files_with_their_captions(workspace: Workspace, planned: Study, tmp_path: Path) -> None:
    summary: Summary = summarise(workspace, planned)
    out = tmp_path / "out"
    write_files(out, summary, read_curves(workspace, planned), FigureStyle.chosen("paper", "3.4in"))
    figures = {"errors", "cost", "training"}
    assert figures <= {path.stem for path in out.glob("*.pdf")}
    tex = (out / "figures.tex").read_text()
    for name in figures:
        assert rf"\includegraphics[width=\linewidth]{{{name}.pdf}}" in tex
    assert tex.count("Study attention-tiny-shapes") == len(figures)
    for name in figures:
        (tmp_path / f"{name}.pdf").write_bytes((out / f"{name}.pdf").read_bytes())
    compiled(tex, tmp_path)
