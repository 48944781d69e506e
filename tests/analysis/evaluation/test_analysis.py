"""`analyze errors --by ...` as a person, a script and a paper's author meet it."""

import csv
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import read_detections, read_ground_truth
from analysis.coco.synthetic import write_example
from analysis.evaluation.analysis import PARTS, Analysis
from analysis.evaluation.error_types import ERRORS
from analysis.evaluation.settings import Settings
from analysis.render.slice_figures import slice_figures
from tests.analysis.cases import document, found, object_, write
from tests.command_line import run

HOSTILE = [
    "[/red] & 50%_$x^2$",
    "<script>alert(1)</script>",
    "a|b\n# head\x1b[2J\rgone",
    "=1+1;\"'`*_",
    "\u202e\u65e5\u672c",  # turned right to left, then Japanese
    "x" * 300,
]
BOXES = [(40 * i, 0, 30, 30) for i in range(6)]


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Path]]:
    return write_example(tmp_path_factory.mktemp("example"), images=60)


def test_figures_are_the_same_bytes_for_the_same_numbers(example):
    truth, files = example
    gt = read_ground_truth(truth)
    found_ = [Analysis(gt, Settings(), ("crowding",)).of("run", read_detections(files["sloppy-boxes"], gt))]
    first, second = (slice_figures(gt, found_)["by_crowding"] for _ in range(2))
    assert first == second
    assert first.files["pdf"].startswith(b"%PDF")


def test_the_document_holds_every_part(example, monkeypatch, capsys):
    truth, files = example
    options = ("--by", "all", "--sizes", "little:0-50,big:50-", "--json")
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth, *options) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    gt = read_ground_truth(truth)
    from analysis.evaluation.slices import parse_sizes

    analysis = Analysis(gt, Settings(), PARTS, parse_sizes("little:0-50,big:50-"))
    for entry, (name, path) in zip(runs, files.items(), strict=True):
        one = analysis.of(name, read_detections(path, gt))
        assert entry["fates"] == one.outcomes.count
        assert [row["class"] for row in entry["by_class"]] == gt.category_name
        for row, ap, objects in zip(entry["by_class"], one.classes.ap, one.classes.positives, strict=True):
            assert (row["ap"], row["objects"]) == (ap, objects)
            assert list(row["delta_ap"]) == [*ERRORS, "fp", "fn"]
        assert np.mean([row["raw_delta_ap"]["loc"] for row in entry["by_class"]]) == pytest.approx(
            entry["raw_delta_ap"]["loc"], abs=1e-12
        )
        assert [(row["size"], row["low"], row["high"]) for row in entry["by_size"]] == [
            ("little", 0, 50), ("big", 50, None),
        ]  # fmt: skip
        assert [row["delta_ap"]["miss"] for row in entry["by_size"]] == one.sizes.delta_ap["miss"].tolist()
        assert [row["iou"] for row in entry["by_iou"]] == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
        assert entry["mean_over_iou"]["ap"] == one.ious.mean_ap
        assert sum(row["objects"] for row in entry["by_crowding"]) == entry["positives"]
        assert sum(row["detections"] for row in entry["confusion"]) == entry["true_positives"] + entry["count"]["cls"]


def test_nothing_is_split_unless_asked(example, monkeypatch, capsys):
    truth, files = example
    arguments = ("analyze", "errors", files["sloppy-boxes"], "--gt", truth)
    assert run(monkeypatch, *arguments, "--json") == 0
    entry = json.loads(capsys.readouterr().out)["runs"][0]
    assert "fates" in entry
    assert not {"by_class", "by_size", "by_iou", "by_crowding", "confusion"} & set(entry)
    assert run(monkeypatch, *arguments, "--sizes", "all:0-", "--json") == 0  # sizes of one's own ask for sizes
    assert len(json.loads(capsys.readouterr().out)["runs"][0]["by_size"]) == 1


def test_the_screen_shows_the_first_rows_and_all_on_request(example, monkeypatch, capsys):
    truth, files = example
    arguments = ("analyze", "errors", files["confused-classes"], "--gt", truth, "--by", "class,size,confusion")
    assert run(monkeypatch, *arguments) == 0
    short = capsys.readouterr().out
    assert "The 10 of 12 classes with the most to gain" in short
    assert "By size" in short
    assert "By threshold" not in short
    assert "the costliest pair is category" in short
    assert run(monkeypatch, *arguments, "--all") == 0
    long = capsys.readouterr().out
    assert sum(line.startswith("category ") for line in long.splitlines()) > sum(
        line.startswith("category ") for line in short.splitlines()
    )
    assert all(line == line.rstrip() for line in long.splitlines())


def test_many_runs_stay_readable(example, monkeypatch, capsys):
    truth, files = example
    named = [f"{name}-{number}={path}" for number in range(3) for name, path in files.items()]
    assert run(monkeypatch, "analyze", "errors", *named, "--gt", truth, "--by", "class,iou") == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(bool(re.search(r"category \d+ +\d+ +\d+\.\d", line)) for line in lines) == 6 * 5
    assert sum(bool(re.search(r" mean +\d+\.\d", line)) for line in lines) == 6


@pytest.fixture
def one_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures in one format alone: a test of what is in them need not wait for the other."""
    import analysis.render.files

    figures = analysis.render.files.slice_figures
    monkeypatch.setattr(analysis.render.files, "slice_figures", partial(figures, formats=("png",)))


def test_out_writes_every_part(example, one_format, monkeypatch, tmp_path):
    truth, files = example
    out = tmp_path / "out"
    assert run(monkeypatch, "analyze", "errors", *files.values(), "--gt", truth, "--by", "all", "--out", out) == 0
    gt = read_ground_truth(truth)
    names = {"by_class", "by_size", "by_iou", "by_crowding", "confusion"}
    for name in names:
        frame = pd.read_csv(out / f"{name}.csv")
        assert list(dict.fromkeys(frame["run"])) == list(files)
        assert (out / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (out / f"{name}.md").read_text().startswith("| run |")
        tex = (out / f"{name}.tex").read_text()
        assert tex.count(r"\toprule") == tex.count(r"\bottomrule") > 0
        for part in re.findall(r"\\toprule(.*?)\\bottomrule", tex, re.DOTALL):
            columns = {line.count("&") - line.count(r"\&") for line in part.splitlines() if line.endswith(r"\\")}
            assert len(columns) == 1, "rows of different length"
    objects = pd.read_csv(out / "objects.csv.gz")
    detections = pd.read_csv(out / "detections.csv.gz")
    assert len(objects) == 2 * len(gt)
    for name in files:
        own = objects[objects["run"] == name]
        labels = detections[detections["run"] == name].set_index("row")
        assert own["annotation_id"].tolist() == gt.annotation_id.tolist()
        pointed = own[own["row"].notna()]
        by = labels.loc[pointed["row"].astype(int)]
        assert by["target"].tolist() == pointed["annotation_id"].tolist()
        assert by["score"].tolist() == pointed["score"].tolist()
        assert by["category"].tolist() == pointed["by_category"].tolist()
        assert dict(zip(pointed["fate"], by["label"], strict=True)) == {
            "found": "tp", "mislocalised": "loc", "confused": "cls",
        }  # fmt: skip
        assert set(own[own["row"].isna()]["fate"]) <= {"missed", "ignored"}
        assert own["dup_errors"].sum() == (labels["label"] == "dup").sum()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--by", "colour"), "class, size, iou, crowding, confusion"),
        (("--sizes", "small"), "NAME:FROM-TO"),
        (("--sizes", "a:0-9,a:9-"), "two sizes have the name 'a'"),
    ],
)
def test_refusals(options, words, example, monkeypatch, capsys):
    truth, files = example
    assert run(monkeypatch, "analyze", "errors", files["sloppy-boxes"], "--gt", truth, *options) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert words in " ".join(printed.err.replace("│", " ").split())


def hostile(folder: Path) -> tuple[Path, Path]:
    """Categories of every kind of name, the last never detected."""
    content = document([object_(c + 1, box) for c, box in enumerate(BOXES)], categories=len(HOSTILE))
    for category, name in zip(content["categories"], HOSTILE, strict=True):
        category["name"] = name
    results = [found(c + 1, box, 0.9 - c / 10) for c, box in enumerate(BOXES[:-1])]
    results += [found(2, BOXES[0], 0.95), found(4, BOXES[2], 0.4), found(5, (300, 300, 20, 20), 0.3)]
    return write(folder / "gt.json", content), write(folder / "_[bold]d$t.json", results)


def test_hostile_names(one_format, monkeypatch, capsys, tmp_path):
    truth, results = hostile(tmp_path)
    out = tmp_path / "out"
    arguments = ("analyze", "errors", results, "--gt", truth, "--by", "all", "--all")
    assert run(monkeypatch, *arguments, "--out", out) == 0
    screen = capsys.readouterr().out
    assert "\x1b" not in screen
    assert "\r" not in screen
    assert "[/red] & 50%_$x^2$" in screen
    frame = pd.read_csv(out / "by_class.csv", keep_default_na=False)
    assert frame["class"].tolist() == HOSTILE
    with (out / "confusion.csv").open(newline="") as file:
        assert {row["true"] for row in csv.DictReader(file)} <= set(HOSTILE)
    markdown = (out / "by_class.md").read_text()
    assert "<script>" not in markdown.replace(r"\<script\>", "")
    assert len({line.replace(r"\|", "").count("|") for line in markdown.splitlines() if line.startswith("|")}) == 1
    tex = (out / "by_class.tex").read_text()
    assert r"[/red] \& 50\%\_\$x\textasciicircum{}2\$" in tex


def test_a_single_perfect_image_and_all_wrong(one_format, monkeypatch, capsys, tmp_path):
    truth = write(tmp_path / "gt.json", document([object_(1, BOXES[0])]))
    right = write(tmp_path / "right.json", [found(1, BOXES[0], 0.9)])
    wrong = write(tmp_path / "wrong.json", [found(2, (500, 500, 9, 9), 0.9)])
    nothing = write(tmp_path / "nothing.json", [])
    out = tmp_path / "out"
    arguments = ("analyze", "errors", right, wrong, nothing, "--gt", truth, "--by", "all")
    assert run(monkeypatch, *arguments, "--out", out) == 0
    screen = capsys.readouterr().out
    assert "nan" not in screen
    assert run(monkeypatch, *arguments, "--json") == 0
    perfect, bad, none = json.loads(capsys.readouterr().out)["runs"]
    assert perfect["by_class"][0]["ap"] == pytest.approx(100)
    assert set(perfect["by_class"][0]["delta_ap"].values()) == {0}
    assert (perfect["fates"]["found"], bad["fates"]["missed"], none["fates"]["missed"]) == (1, 1, 1)
    assert perfect["by_class"][1]["ap"] is None  # no object
    assert none["confusion"] == []
