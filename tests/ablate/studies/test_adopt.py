"""Finished runs of any detector become a study; several studies stand side by side where that is fair."""

import gzip
import json
from pathlib import Path

import msgspec
import pytest

from ablate.launch.status import read_statuses
from ablate.runs.folder import Workspace
from ablate.studies.adopt import parse_run, read_facts
from ablate.studies.results import summarise
from ablate.studies.study import read_study
from ablate.studies.write_results import as_csv, as_latex, as_markdown
from analysis import coco_metrics, read_detections, read_ground_truth
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.exceptions import BadInput
from tests.command_line import run


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adopt")
    scene = simulate_scene(40, 3, 1)
    documents: dict[str, object] = {"gt": ground_truth_document(scene)}
    for seed in (0, 1):
        documents[f"good{seed}"] = simulate_detector(scene, Flaws(background=1, tail=2), seed)
        documents[f"bad{seed}"] = simulate_detector(scene, Flaws(missed=0.8, background=1, tail=2), 10 + seed)
    other = simulate_scene(30, 3, 2)
    documents |= {"gt2": ground_truth_document(other), "c": simulate_detector(other, Flaws(), 3)}
    documents["d"] = simulate_detector(other, Flaws(), 4)
    for name, document in documents.items():
        (folder / f"{name}.json").write_bytes(msgspec.json.encode(document))
    return {name: folder / f"{name}.json" for name in documents}


def adopt(monkeypatch: pytest.MonkeyPatch, root: Path, files: dict[str, Path], name: str, *options: object) -> int:
    variants = [f"--variant={variant},seed={seed}={files[f'{variant}{seed}']}" for variant in ("good", "bad")
                for seed in (0, 1)]  # fmt: skip
    return run(
        monkeypatch, "ablate", "adopt", name, "--gt", files["gt"], "--baseline", "good", *variants, "--root", root,
        *options,
    )  # fmt: skip


def test_finished_runs_become_a_study(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = tmp_path / "facts.csv"
    facts.write_text("variant,parameters M,trained by\ngood,3.2,us\nbad,25.9,them\n")
    root = tmp_path / "root"
    assert adopt(monkeypatch, root, files, "mine", "--facts", facts) == 0
    shown = capsys.readouterr().out
    assert "As given, not measured here" in shown
    assert "only the validation images" in shown
    study = read_study(Workspace(root), "mine")
    assert [status.state for status in read_statuses(Workspace(root), study)] == ["finished"] * 4
    assert run(monkeypatch, "ablate", "table", "mine", "--root", root, "--json") == 0
    table = json.loads(capsys.readouterr().out)
    truth = read_ground_truth(files["gt"])
    expected = [coco_metrics(truth, read_detections(files[f"bad{seed}"], truth))["AP"] for seed in (0, 1)]
    assert table["rows"][1]["metrics"]["AP"]["each"] == pytest.approx(expected)  # as `analyze ap` has them
    assert table["rows"][1]["facts"] == {"parameters M": 25.9, "trained by": "them"}
    assert table["kind"] == "adopted"
    summary = summarise(Workspace(root), study)
    assert "as_given_parameters M" in as_csv(summary)
    assert "as given" in as_latex(summary)
    assert "As given, not measured here" in as_markdown(summary)
    assert run(monkeypatch, "ablate", "compare", "mine", "--root", root, "--resamples", 20) == 0
    assert "over n = 2 seeds" in capsys.readouterr().out
    page = tmp_path / "report.html"
    quick = ("--pictures", 0, "--resamples", 0)
    assert run(monkeypatch, "ablate", "report", "mine", "--root", root, "--out", page, *quick) == 0
    assert "As given, not measured here" in page.read_text()
    assert adopt(monkeypatch, root, files, "mine", "--facts", facts) == 0  # once more changes nothing
    assert run(monkeypatch, "ablate", "launch", "mine", "--root", root, "--device", "cpu") == 0


def test_a_referenced_file_that_changes_is_noticed(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {name: tmp_path / path.name for name, path in files.items()}
    for name, path in files.items():
        own[name].write_bytes(path.read_bytes())
    own["bad1"].write_bytes(gzip.compress(own["bad1"].read_bytes()))
    assert adopt(monkeypatch, tmp_path / "root", own, "mine", "--link") == 0
    study = read_study(Workspace(tmp_path / "root"), "mine")
    assert all(Workspace(tmp_path / "root").run(one.run_id).predictions.is_symlink() for one in study.runs)
    own["bad0"].write_text("[]")
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "table", "mine", "--root", tmp_path / "root") == 0
    assert "1 of 2 damaged" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("variants", "options", "says"),
    [
        (["a={good0}"], ["--baseline", "a"], "compares two variants or more"),
        (["a={good0}", "b={bad0}"], ["--baseline", "c"], "choose one of a, b"),
        (["a={good0}", "b={good0}"], ["--baseline", "a"], "have the same content"),
        (["a={good0}", "a={bad0}"], ["--baseline", "a"], "compares two variants"),
        (["a={good0}", "b={bad0}", "b={bad1}"], ["--baseline", "a"], "given twice"),
        (["a={good0}", "b={gt}"], ["--baseline", "a"], "gt.json"),
        (["a={good0}", "b=none.json"], ["--baseline", "a"], "none.json: prediction file of b not found"),
        (["a={good0}", "lr=1=none.json"], ["--baseline", "a"], "needs a seed"),
        (["a={good0}", "b"], ["--baseline", "a"], "write NAME=PREDICTIONS"),
        (["a={good0}", "b,seed=x={bad0}"], ["--baseline", "a"], "whole number"),
        (["a={good0}", "b={bad0}"], ["--baseline", "a", "--images", "none"], "no such folder of images"),
        (["a={good0}", "b={bad0}"], ["--baseline", "a", "--facts", "none.csv"], "none.csv: cannot be read"),
    ],
)
def test_what_cannot_be_adopted_is_refused_before_anything_is_written(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    variants: list[str], options: list[str], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    named = [f"--variant={variant.format(**files)}" for variant in variants]
    assert run(monkeypatch, "ablate", "adopt", "mine", "--gt", files["gt"], *named, *options) == 4
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_facts_are_read_from_csv_and_yaml_and_refused_where_they_are_none(tmp_path: Path) -> None:
    path = tmp_path / "facts.csv"
    path.write_text("\ufeffvariant, GPU hours ,link\na, 12.50,https://a.b/c?d=1\nb,7,\n")
    assert read_facts(path, ["a", "b"]) == {
        "a": {"GPU hours": "12.50", "link": "https://a.b/c?d=1"},
        "b": {"GPU hours": 7},
    }
    for text, says in (
        ("variant\na\n", "needs a head"),
        ("variant,x\na,1,2\n", "line 2 has 3 cells"),
        ("variant,x\na,1\na,2\n", "a second time"),
        ("variant,x\nc,1\n", "not one of the variants"),
    ):
        path.write_text(text)
        with pytest.raises(BadInput, match=says):
            read_facts(path, ["a", "b"])
    other = tmp_path / "facts.yaml"
    other.write_text("a: {epochs: 300, note: 'x'}\n")
    assert read_facts(other, ["a"]) == {"a": {"epochs": 300, "note": "x"}}
    other.write_text("a: {epochs: [300]}\n")
    with pytest.raises(BadInput, match="a name and a value that is a number or text"):
        read_facts(other, ["a"])
    other.write_text("a: 3\n")
    with pytest.raises(BadInput, match="must be a mapping of facts to values"):
        read_facts(other, ["a"])


def test_names_of_runs() -> None:
    assert parse_run("a=b=c.json")[:2] == ("a", 0)
    assert parse_run("lr=0.1, big,seed=12=x/y.json") == ("lr=0.1, big", 12, Path("x/y.json"))


def test_studies_stand_side_by_side_where_their_data_are_equal(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert adopt(monkeypatch, root, files, "one") == 0
    more = (f"--variant=x={files['good1']}", f"--variant=y={files['bad1']}")
    assert (
        run(monkeypatch, "ablate", "adopt", "two", "--gt", files["gt"], "--baseline", "x", *more, "--root", root) == 0
    )
    assert run(monkeypatch, "ablate", "adopt", "other", "--gt", files["gt2"], "--baseline", "c", "--root", root,
               f"--variant=c={files['c']}", f"--variant=d={files['d']}") == 0  # fmt: skip
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "table", "one", "two", "--root", root, "--out", tmp_path / "out") == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[:2] for line in lines if line[:1] in (["one"], ["two"])][:4] == [
        ["one", "good"], ["one", "bad"], ["two", "x"], ["two", "y"],
    ]  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "table.csv", "table.json", "table.md", "table.tex",
    ]  # fmt: skip
    assert len((tmp_path / "out" / "table.csv").read_text().splitlines()) == 5
    assert run(monkeypatch, "ablate", "table", "one", "two", "--root", root, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["studies"]) == 2
    for option in (("--style", "screen"), ("--style", "paper"), ("--columns", "AP")):  # they would have no effect
        again = ("one", "two", "--root", root, "--out", tmp_path / "out")
        assert run(monkeypatch, "ablate", "table", *again, *option) == 2
        assert f"{option[0]} " in capsys.readouterr().err
    for names, says in ((("one", "other"), "differ in their validation data"), (("one", "one"), "is named twice")):
        assert run(monkeypatch, "ablate", "table", *names, "--root", root) == 4
        assert says in capsys.readouterr().err
