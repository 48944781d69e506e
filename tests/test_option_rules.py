"""Every rule of the tables of options, pair by pair: a forbidden pair exits 2 with one sentence, before any work."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from ablate.cli.option_rules import RULES as ABLATE_RULES
from analysis.cli.option_rules import ONE_FILE, PREDICTIONS, RULES, OptionRule
from analysis.exceptions import DetablateError
from detablate import command_line

# None of these files exists, so that reading one would end with another exit code.
FILES = ["missing-1.json", "missing-2.json"]
VALUES = {
    "--gt": "missing.json",
    "--root": "nowhere",
    "--images": "nowhere",
    "--baseline": "missing-1",
    "--resamples": "9",
    "--gpus-per-run": "2",
    "--workers": "1",
    "--parallel": "2",
    "--checkpoint-minutes": "5",
    "--max-runs": "2",
    "--stop-after": "1h",
    "--cluster": "nowhere",
    "--partition": "main",
    "--account": "lab",
    "--qos": "normal",
    "--time": "60",
    "--nodes": "2",
    "--max-parallel": "2",
    "--constraint": "a100",
    "--sbatch": "mem=1G",
    "--print-job": "pbs",
    "--vary": "train.lr=1,2",
    "--out": "nowhere",
    "--data": "shapes",
    "--voc": "07",
    "--sizes": "small:0-32",
    "--max-dets": "100",
    "--by": "size",
    "--score": "0.5",
    "--precision": "0.9",
    "--recall": "0.5",
    "--hold-out": "0.2",
    "--seed": "1",
    "--validation": "test",
    "--style": "paper",
    "--width": "3.4in",
    "--min-objects": "5",
    "--columns": "AP",
    "--export": "fiftyone",
    "--assets": "pictures",
}
VERBS = {
    **{verb: ("analyze", verb) for verb in RULES},
    **{verb: ("ablate", verb) for verb in ABLATE_RULES},
    "AXIS": ("ablate", "attention"),
    "init": ("data", "init", "nowhere"),
    "shapes": ("data", "shapes"),
    "pretrain": ("weights", "pretrain"),
    "study compare": ("ablate", "compare"),
}
PAIRS = [(verb, rule) for table in (RULES, ABLATE_RULES) for verb, rules in table.items() for rule in rules]


@cache
def front_door() -> Any:
    return typer.main.get_command(command_line())


def run(arguments: list[str]) -> int:
    """The exit code; the command line is made once, which takes longer than to refuse an option."""
    try:
        front_door().main(arguments)
    except SystemExit as leaving:
        return int(leaving.code or 0)
    except DetablateError as refusal:
        return refusal.exit_code
    return 0


def written(option: str) -> list[str]:
    """An option of a rule as it is typed."""
    if option in (PREDICTIONS, ONE_FILE):
        return FILES[: 1 + (option == PREDICTIONS)]
    name, _, value = option.partition(" ")
    return [name, value or VALUES[name]] if value or name in VALUES else [name]


def command(verb: str, rule: OptionRule) -> list[str]:
    arguments = [*written(rule.option), *(written(rule.excludes) if rule.excludes else ())]
    if verb in RULES and rule.needs != (PREDICTIONS,) and not any(file in arguments for file in FILES):
        arguments += [*FILES, "--gt", "missing.json"]
    return [*VERBS[verb], *arguments]


def said(text: str) -> str:
    return " ".join(re.sub("[│╭╰─╮╯]", " ", text).split())


@pytest.mark.parametrize(("verb", "rule"), PAIRS, ids=lambda one: one if isinstance(one, str) else one.option)
def test_a_forbidden_pair_is_one_sentence_before_any_work(
    verb: str,
    rule: OptionRule,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command(verb, rule)) == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert rule.why in said(shown.err)
    assert rule.option in said(shown.err)
    assert not list(tmp_path.iterdir()), "something was written"


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", "errors", *FILES, "--gt", "missing.json", "--all", "--by", "size,class"],
        ["analyze", "errors", *FILES, "--gt", "missing.json", "--class-agnostic", "--by", "all"],
        ["analyze", "report", *FILES, "--gt", "missing.json", "--convention", "tidecv", "--resamples", "0"],
        ["analyze", "report", *FILES, "--gt", "missing.json", "--baseline", "missing-1"],
        ["ablate", "list", "--json", "--root", "nowhere"],
    ],
    ids=lambda arguments: arguments[1],
)
def test_what_agrees_is_not_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) != 2
    assert "cannot be used together" not in said(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["errors", "--by", "iou", "--background-iou", "0.96", "--iou", "0.97"], "is above all COCO thresholds"),
        (["errors", "--min-score", "nan"], "nan is not a number"),
        (["ap", "--max-dets", "1,ten"], "'1,ten' is not a list of whole numbers"),
        (["ap", "--max-dets", "0"], "'0' is not a list of whole numbers"),
    ],
)
def test_a_value_without_meaning_is_refused_before_any_work(
    arguments: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["analyze", *arguments, *FILES, "--gt", "missing.json"]) == 2
    assert sentence in said(capsys.readouterr().err)
