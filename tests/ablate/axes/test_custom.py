"""Axes of a person's own: keys on the command line, and files."""

from pathlib import Path

import pytest

from ablate.axes import AxisOptions
from ablate.axes.custom import axis_from_file, axis_from_keys
from ablate.config.yaml import load_config
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from analysis.exceptions import BadInput

BASE = load_config("tiny-shapes")
WINDOW = "model.backbone.attention.window_size"


def test_a_key_and_its_values() -> None:
    axis = axis_from_keys([f"{WINDOW}=4,8"])
    made = axis.variants(BASE, AxisOptions())
    assert [(variant.name, variant.changes, variant.number) for variant in made] == [
        ("window_size=4", {WINDOW: 4}, 4.0),
        ("window_size=8", {WINDOW: 8}, 8.0),
    ]
    assert axis.allowed_keys == {WINDOW}
    assert axis.unit == "window size"


def test_lists_words_and_scientific_numbers_are_values() -> None:
    axis = axis_from_keys(["train.betas=[0.9, 0.99],[0.9, 0.999]"])
    assert [variant.changes["train.betas"] for variant in axis.variants(BASE, AxisOptions())] == [
        [0.9, 0.99],
        [0.9, 0.999],
    ]
    assert axis.unit == ""
    rates = axis_from_keys(["train.lr=5e-4,1e-3", "train.lr=1e-3,2e-3"])
    assert [variant.name for variant in rates.variants(BASE, AxisOptions())] == ["lr=0.0005", "lr=0.001", "lr=0.002"]
    words = axis_from_keys(["model.pyramid.type=simple,last_map"])
    assert [variant.number for variant in words.variants(BASE, AxisOptions())] == [None, None]


def test_two_keys_are_varied_one_by_one() -> None:
    axis = axis_from_keys(["train.lr=1e-4", "train.weight_decay=0.1,0.2"])
    made = {variant.name: variant.changes for variant in axis.variants(BASE, AxisOptions())}
    assert made == {
        "base": {},
        "lr=0.0001": {"train.lr": 1e-4},
        "weight_decay=0.1": {"train.weight_decay": 0.1},
        "weight_decay=0.2": {"train.weight_decay": 0.2},
    }


def test_values_that_are_the_bases_own_are_not_run_twice(tmp_path: Path) -> None:
    requests = ["train.lr=1e-3,2e-3", "train.weight_decay=0.05,0.1"]  # the base has 2e-3 and 0.05
    study = plan(axis_from_keys(requests), Request(), Workspace(tmp_path), write=False)
    assert study.variants == ("base", "lr=0.001", "weight_decay=0.1")
    assert study.baseline == "base"
    with pytest.raises(BadInput, match="every given value is the base's own"):
        axis_from_keys(["train.lr=2e-3", "train.weight_decay=0.05"]).variants(BASE, AxisOptions())


def test_keys_are_crossed(tmp_path: Path) -> None:
    axis = axis_from_keys(["train.lr=1e-3,2e-3", "train.weight_decay=0.05,0.1,0.2"], grid=True)
    made = {variant.name: variant.changes for variant in axis.variants(BASE, AxisOptions())}
    assert len(made) == 6
    assert made["lr=0.001, weight_decay=0.2"] == {"train.lr": 1e-3, "train.weight_decay": 0.2}
    assert axis.allowed_keys == {"train.lr", "train.weight_decay"}
    study = plan(axis, Request(), Workspace(tmp_path), write=False)
    assert study.baseline == "lr=0.002, weight_decay=0.05", "the one that is the base"
    with pytest.raises(BadInput, match=r"train\.lr is the only one"):
        axis_from_keys(["train.lr=1e-3,2e-3"], grid=True)


def test_keys_that_end_alike_are_told_apart() -> None:
    keys = ("evaluate.nms_threshold", "model.detector.proposals.nms_threshold")
    axis = axis_from_keys([f"{keys[0]}=0.4", f"{keys[1]}=0.6"])
    names = [variant.name for variant in axis.variants(BASE, AxisOptions())]
    assert names == ["base", f"{keys[0]}=0.4", f"{keys[1]}=0.6"]


@pytest.mark.parametrize(
    ("requests", "sentence"),
    [
        (["train.lr"], "needs several values"),
        (["train.lr="], "needs several values"),
        (["train.lr=1e-4"], "is given one value"),
        (["train.lr=[1"], "not valid YAML"),
    ],
)
def test_what_varies_nothing_is_refused(requests: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        axis_from_keys(requests)


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [("train.lrr=1,2", "did you mean lr"), ("train.lr=1e-4,fast", "must be a number"), ("train.lr=1,-1", "above 0")],
)
def test_a_key_or_value_that_does_not_exist_is_refused_before_anything_is_planned(
    request_: str, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=sentence):
        plan(axis_from_keys([request_]), Request(), Workspace(tmp_path), write=False)
    assert list(tmp_path.iterdir()) == []


FILE = """\
name: windows
touches: [model.backbone.attention.window_size]
baseline: large
unit: tokens
variants:
  small: {model.backbone.attention.window_size: 4}
  large: {model.backbone.attention.window_size: 8}
  cheat: {model.backbone.attention.window_size: 2, train.lr: 0.004}
"""


def test_a_file_is_an_axis_and_what_it_smuggles_in_is_named(tmp_path: Path) -> None:
    path = tmp_path / "axis.yaml"
    path.write_text(FILE)
    axis = axis_from_file(path)
    assert axis.baseline == "large"
    study = plan(axis, Request(), Workspace(tmp_path), write=False)
    assert {run.variant: run.confounders for run in study.runs} == {"small": (), "large": (), "cheat": ("train.lr",)}


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("baseline: large", "baseline: huge", "baseline: must be one of small, large, cheat, not huge"),
        ("touches: [model.backbone.attention.window_size]\n", "", "touches: is missing"),
        ("name: windows", "nam: windows", "did you mean name"),
        (
            "small: {model.backbone.attention.window_size: 4}",
            "small: 4",
            "variants: small: must be a mapping of keys to values",
        ),
        (FILE[FILE.index("  large:") :], "", "baseline|compares two or more"),
    ],
)
def test_a_file_that_is_no_axis_is_refused(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "axis.yaml"
    path.write_text(FILE.replace(old, new))
    with pytest.raises(BadInput, match=sentence):
        axis_from_file(path)
