"""Figures as an author meets them: order, intervals, captions, and a PDF that a paper can hold as it is."""

import re
import zlib
from collections.abc import Iterator
from io import BytesIO
from itertools import combinations
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from analysis import read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from analysis.evaluation.analysis import Analysis, RunAnalysis
from analysis.evaluation.error_types import ERROR_TYPES, ERRORS
from analysis.evaluation.settings import Settings
from analysis.exceptions import BadInput
from analysis.render import plots
from analysis.render import slice_figures as slices
from analysis.render.comparison_figure import comparison_figure
from analysis.render.figure_style import (
    SCREEN,
    FigureStyle,
    Picture,
    bar_look,
    distinct_colors,
    drawing,
    figures_tex,
    finish,
    legend_above,
    new_figure,
)
from analysis.render.plots import bars, errors_figure, heat_map, name_classes, split_panels
from analysis.stats.compare import Candidate, Comparison, compare
from tests.analysis.render.test_latex import compiled
from tests.command_line import run

PAPER = FigureStyle.chosen("paper", "3.4in")
Example = tuple[Any, list[RunAnalysis], Comparison]


@pytest.fixture(autouse=True)
def _defaults() -> Iterator[None]:
    """matplotlib as it comes: to import tidecv changes its settings, in another test."""
    with mpl.rc_context():
        mpl.rcdefaults()
        yield


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Example:
    truth, files = write_example(tmp_path_factory.mktemp("example"), images=40)
    gt = read_ground_truth(truth)
    analysis = Analysis(gt, Settings(), ("class", "confusion"), at_stake=True)
    runs = [analysis.of(name, read_detections(path, gt)) for name, path in files.items()]
    runs.append(analysis.of("third", read_detections(next(iter(files.values())), gt)))
    candidates = [Candidate(one.name, (one.detections,)) for one in runs]
    return gt, runs, compare(gt, candidates, Settings(), mean_ap=False, resamples=800)


def streams(pdf: bytes) -> str:
    """What is drawn on the page of a PDF."""
    found = b""
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            found += zlib.decompress(stream)
        except zlib.error:
            continue
    return found.decode("latin-1")


def assert_fit_for_a_paper(picture: Picture, inches: float) -> None:
    """As wide as asked for, its fonts embedded as outlines, and all text of 7 pt."""
    pdf = picture.files["pdf"]
    box = re.search(rb"/MediaBox\s*\[\s*0 0 ([\d.]+) ([\d.]+)", pdf)
    assert box
    assert float(box[1]) == pytest.approx(inches * 72, abs=0.01)
    assert float(box[2]) < 9.5 * 72
    assert b"/Type3" not in pdf
    assert pdf.count(b"/FontFile2") >= 1
    sizes = {float(size) for size in re.findall(r"/\S+ ([\d.]+) Tf", streams(pdf))}
    assert sizes == {7.0}


def test_a_figure_for_a_paper(example: Example) -> None:
    gt, runs, measured = example
    named = [Analysis(gt, Settings()).of("ä→ℓ $x$", runs[0].detections), *runs[1:]]
    assert_fit_for_a_paper(errors_figure(gt, named, None, PAPER, ("pdf",)), 3.4)
    figure = comparison_figure(gt, measured, FigureStyle.chosen("paper", "86mm"), ("pdf",))
    assert figure is not None
    assert_fit_for_a_paper(figure, 86 / 25.4)
    for picture in slices.slice_figures(gt, runs, PAPER, ("pdf",)).values():
        assert_fit_for_a_paper(picture, 3.4)


def test_a_paper_has_its_width_and_fonts_whatever_the_user_has_set(example: Example) -> None:
    gt, runs, _ = example
    own = {
        "savefig.bbox": "tight",
        "pdf.fonttype": 3,
        "font.size": 20,
        "axes.labelsize": 20,
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context(own):
        assert_fit_for_a_paper(errors_figure(gt, runs, None, PAPER, ("pdf",)), 3.4)


def test_bars_differ_without_their_colours() -> None:
    looks = [bar_look(place, color, PAPER) for place, color in enumerate(distinct_colors(8))]
    assert len({look["hatch"] for look in looks}) == 8
    assert all("hatch" not in bar_look(0, color, SCREEN) for color in distinct_colors(1))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_the_legend_reads_row_by_row_in_the_order_of_the_bars(count: int) -> None:
    names = [f"run {number} of a name" for number in range(count)]
    with drawing():
        figure = new_figure(5, 2)
        axis = figure.subplots()
        bars(axis, ["a", "b"], names, np.ones((count, 2)), width=0.8)
        legend_above(figure, [axis])
        figure.draw_without_rendering()
        (legend,) = figure.legends
        places = [(round(-text.get_window_extent().y0), text.get_window_extent().x0) for text in legend.get_texts()]
        shown = [text.get_text() for _, text in sorted(zip(places, legend.get_texts(), strict=True))]
    assert shown == names
    firsts = [container.patches[0].get_x() for container in axis.containers]
    assert firsts == sorted(firsts)


def test_intervals_are_drawn_even_where_they_leave_out_their_value(example: Example) -> None:
    with drawing():
        figure = new_figure(3, 2)
        axis = figure.subplots()
        limits = np.array([[[1.5, 2.0], [np.nan, np.nan]]])
        bars(axis, ["a", "b"], ["x"], np.ones((1, 2)), limits, width=0.8)
        assert [line.get_ydata().tolist() for line in axis.lines] == [[1.5, 2.0]]
    gt, runs, measured = example
    figure_ = errors_figure(gt, runs, measured, formats=())
    assert "95 % intervals, 40 images drawn 800 times" in figure_.caption


def test_words_in_cells_stand_out_from_every_shade() -> None:
    with drawing():
        axis = new_figure(3, 2).subplots()
        shades = np.array([[np.nan, np.nan, 0.0, *np.linspace(0, 1, 17)]])
        heat_map(axis, shades, [["56.4", "0.0", "0.0", *["1.2"] * 17]], [""] * 20, [""])
    inks = [text.get_color() for text in axis.texts]
    assert inks[:3] == ["black", "black", "0.45"]  # outside the shades dark on white; a cell of nothing stands back
    grounds = [axis.collections[0].cmap(shade)[:3] for shade in shades[0, 3:]]
    pairs = [
        sorted(map(luminance, (mpl.colors.to_rgb(ink), ground))) for ink, ground in zip(inks[3:], grounds, strict=True)
    ]
    assert min((light + 0.05) / (dark + 0.05) for dark, light in pairs) >= 4.5  # WCAG's least contrast of text


def luminance(color: tuple[float, float, float]) -> float:
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in color]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_classes_are_named_once_in_each_row_and_column_of_panels(count: int) -> None:
    with drawing():
        figure = new_figure(6, 6)
        panels = split_panels(figure, count, 2)
        for place, axis in enumerate(panels):
            heat_map(axis, np.zeros((1, 1)), [[""]], ["a"], ["b"])
            name_classes(axis, place, count, 2)
    below = [axis.get_xlabel() != "" for axis in panels]
    beside = [axis.get_ylabel() != "" for axis in panels]
    assert below == {1: [True], 2: [True] * 2, 3: [False, True, True], 4: [False] * 2 + [True] * 2}[count]
    assert beside == [place % 2 == 0 for place in range(count)]
    assert [axis.xaxis.get_tick_params()["labelbottom"] for axis in panels] == below
    assert [axis.yaxis.get_tick_params()["labelleft"] for axis in panels] == beside


def test_numbers_over_bars_do_not_cover_each_other(example: Example, monkeypatch: pytest.MonkeyPatch) -> None:
    gt, runs, _ = example
    figures: list[Any] = []
    made = plots.new_figure
    monkeypatch.setattr(plots, "new_figure", lambda *size: figures.append(made(*size)) or figures[-1])
    for style, count, has_numbers in ((SCREEN, 2, True), (SCREEN, 3, False), (PAPER, 1, True), (PAPER, 2, False)):
        errors_figure(gt, runs[:count], None, style, ())
        if has_numbers:
            figures[-1].draw_without_rendering()
        numbers = [text.get_window_extent() for text in figures[-1].axes[0].texts if text.get_text()]
        assert bool(numbers) is has_numbers
        assert not any(one.overlaps(other) for one, other in combinations(numbers, 2))


def test_every_caption_has_settings_and_sizes(example: Example) -> None:
    gt, runs, measured = example
    compared = comparison_figure(gt, measured, formats=())
    assert compared is not None
    assert "Holm" in compared.caption
    pictures = {"errors": errors_figure(gt, runs, formats=()), "comparison": compared}
    pictures |= slices.slice_figures(gt, runs, formats=())
    assert set(pictures) == {"errors", "comparison", "by_class", "confusion"}
    for picture in pictures.values():
        assert "correct at IoU >= 0.5" in picture.caption
        assert "40 images" in picture.caption
    assert "Detections of all scores count." in pictures["confusion"].caption


def test_classes_are_ranked_by_the_ap_at_stake_and_small_ones_left_out(
    example: Example, monkeypatch: pytest.MonkeyPatch
) -> None:
    gt, runs, _ = example
    classes = runs[0].classes
    assert classes is not None
    gain = np.max([classes.delta_ap[error] for error in ERRORS], axis=0)
    few = int(np.median(classes.positives))
    expected = [c for c in np.argsort(-gain, kind="stable") if classes.positives[c] >= few]
    shown: list[list[str]] = []
    heat = slices.heat_map

    def watched(axis: Any, shade: Any, words: Any, across: Any, down: list[str], style: FigureStyle) -> None:
        shown.append([name.partition("  (")[0] for name in down])
        heat(axis, shade, words, across, down, style)

    monkeypatch.setattr(slices, "heat_map", watched)
    picture = slices.slice_figures(gt, runs[:1], formats=(), min_objects=few)["by_class"]
    assert shown[0] == [classes.names[c] for c in expected]
    assert f"Left out: {len(gain) - len(expected)} classes with fewer than {few} objects" in picture.caption
    assert "by_class" not in slices.slice_figures(gt, runs[:1], formats=(), min_objects=10**6)


def test_differences_that_are_not_known_make_no_panel(tmp_path: Path) -> None:
    truth, files = write_example(tmp_path, images=3)
    gt = read_ground_truth(truth)
    dt = read_detections(next(iter(files.values())), gt)
    measured = compare(gt, [Candidate("a", (dt,)), Candidate("b", (dt,))], resamples=800)
    for one in measured.vs_baseline:
        for number in one.differences:
            object.__setattr__(one.differences[number], "value", np.nan)
    assert comparison_figure(gt, measured) is None


def test_a_caption_with_anything_in_it_stays_in_the_picture_and_compiles(tmp_path: Path) -> None:
    with drawing(PAPER):
        figure = new_figure(3.4, 1)
        figure.subplots().plot([0, 1])
        picture = finish(figure, "50 % of $a_b & {x} \\ ~^#: ≤ 0.5", PAPER)
    with drawing():
        figure = new_figure(3.4, 1)
        figure.subplots().plot([0, 1])
        shown = finish(figure, "50 % of $a_b & {x} \\ ~^#: ≤ 0.5, 检测")
        assert Image.open(BytesIO(shown.files["png"])).text["Description"] == shown.caption  # type: ignore[attr-defined]
    (tmp_path / "plain.pdf").write_bytes(picture.files["pdf"])
    tex = figures_tex({"plain": picture}, PAPER).decode()
    assert r"\label{fig:plain}" in tex
    assert r"\begin{figure}" in tex
    assert r"\begin{figure*}" in figures_tex({"plain": picture}, FigureStyle.chosen("paper", "7in")).decode()
    compiled(tex, tmp_path)


@pytest.mark.parametrize("width", ["3.4", "3.4 miles", "-1in", "0in", "1e3in", "in", "90in", "3,4in"])
def test_what_is_no_width_is_refused(width: str) -> None:
    with pytest.raises(BadInput, match=r"must be a width from 2 to 20 inches with its unit"):
        FigureStyle.chosen("paper", width)


@pytest.mark.parametrize(("width", "inches"), [("3.4in", 3.4), ("8.636 cm", 3.4), ("86.36mm", 3.4), ("245.718pt", 3.4)])
def test_units_of_a_width(width: str, inches: float) -> None:
    assert FigureStyle.chosen("paper", width).width == pytest.approx(inches, abs=1e-3)


def test_columns_style_and_width_reach_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = write_example(tmp_path / "example", images=20)
    command = ("analyze", "errors", *files.values(), "--gt", truth)
    out = tmp_path / "out"
    wanted = ("--columns", "miss,AP50", "--style", "paper", "--width", "3in", "--out", out)
    assert run(monkeypatch, *command, *wanted) == 0
    assert (out / "errors.md").read_text().startswith("| run | miss | AP50 |\n")
    assert b"/MediaBox [ 0 0 216 " in (out / "errors.pdf").read_bytes()
    assert "**" not in (out / "errors.md").read_text()  # one training tells nothing of the next
    capsys.readouterr()
    assert run(monkeypatch, *command, "--columns", "mis", "--out", tmp_path / "none") == 4
    names = ", ".join(["AP50", *(one.label for one in ERROR_TYPES.values())])
    assert capsys.readouterr().err == f"error: --columns: 'mis' is not a column of this table; choose from {names}\n"
    assert not (tmp_path / "none").exists()
