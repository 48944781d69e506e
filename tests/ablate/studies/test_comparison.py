"""`ablate compare` over hand-made results: seeds paired, two sources of noise, what is left out, refusals."""

import json
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from ablate.config.schema import Coco
from ablate.config.yaml import load_config
from ablate.runs.folder import Status, Workspace
from ablate.studies.results import compare_study
from ablate.studies.study import Study, StudyRun, write_study
from analysis import break_down, read_detections, read_ground_truth
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene
from analysis.exceptions import BadInput
from analysis.render.takeaways import comparison_takeaways, scope_sentence
from tests.ablate.finished import begin, finish
from tests.command_line import run

SCENE = simulate_scene(40, 4, seed=3)
FLAWS = {"window": Flaws(box_noise=0.2), "hybrid": Flaws(box_noise=0.07), "global": Flaws(box_noise=0.072)}
SEEDS = (0, 1, 2)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A study as planning would write it, of three variants and three seeds."""
    truth = tmp_path / "gt.json"
    truth.write_bytes(msgspec.json.encode(ground_truth_document(SCENE)))
    digest = read_ground_truth(truth).digest
    config = load_config("tiny-shapes")
    coco = Coco(annotations=str(truth), images=str(tmp_path))
    config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, validation=coco))
    runs = tuple(
        StudyRun(
            variant=variant, seed=seed, changes={}, config_path=f"configs/{variant}-{seed}.yaml", config=config,
            training=f"{variant}{seed}".encode().hex().ljust(64, "0"),
            evaluation=f"{variant}{seed}".encode().hex()[::-1].ljust(64, "0"), levels=(variant,),
        )
        for variant in FLAWS
        for seed in SEEDS
    )  # fmt: skip
    made = Study(
        name="hand-made", axis="attention", title="Attention", source="nobody", allowed_keys=(), baseline="hybrid",
        base="tiny-shapes", settings={}, seeds=SEEDS, synthetic=True, training_data="0" * 64, validation_data=digest,
        runs=runs, planned="2026-01-01T00:00:00.000+00:00",
    )  # fmt: skip
    write_study(Workspace(tmp_path), made)
    return made


def fill(root: Path, study: Study, seeds: tuple[int, ...] = SEEDS, variants: tuple[str, ...] = tuple(FLAWS)) -> None:
    for one in study.runs:
        if one.variant in variants and one.seed in seeds:
            folder = finish(root, study, one, 30.0, images=40)
            records = simulate_detector(SCENE, FLAWS[one.variant], seed=100 * one.seed + len(one.variant))
            folder.predictions.write_bytes(msgspec.json.encode(records))


def test_one_seed_speaks_of_models(study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    fill(tmp_path, study, seeds=(0,))
    assert run(monkeypatch, "ablate", "compare", "--root", tmp_path, "--resamples", 400) == 0
    screen = capsys.readouterr().out
    assert "window: 1 of 3 seeds are finished here and in the baseline" in screen
    assert "one training each (n = 1)" in screen  # the heading of the intervals
    assert "Another seed may reverse any of them." in " ".join(screen.split())
    assert "Nothing is tested, so there are no p-values and no stars." in " ".join(screen.split())
    assert not re.search(r"\bp\b  |\*|beyond noise|significant|for these two models", screen)
    assert "window minus hybrid, one training each: AP " in screen
    assert "ablate launch" in screen[screen.index("For intervals over seeds:") :]
    assert "Standard error" not in screen  # one seed cannot tell the sources apart
    assert "synthetic data: demonstration only, not evidence" in screen


def test_one_seed_has_intervals_over_images_in_every_format_and_no_p(
    study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    fill(tmp_path, study, seeds=(0,))
    out = tmp_path / "out"
    assert run(monkeypatch, "ablate", "compare", "--root", tmp_path, "--resamples", 200, "--json", "--out", out) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["resampling"]["family"] == ""
    for one in document["against_baseline"]:
        for number in one["differences"].values():
            assert (number["p"], number["p_family"], number["stands"]) == (None, None, False)
            assert number["low"] <= number["high"]
    for text in ((out / "comparison.md").read_text(), (out / "comparison.tex").read_text()):
        assert "Nothing is tested, so there are no p-values and no stars." in text
        assert "(Holm)" not in text


def test_the_same_files_as_models_are_tested(study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    fill(tmp_path, study, seeds=(0,), variants=("window", "hybrid"))
    files = [f"{name}={predictions(tmp_path, study, name, 0)}" for name in ("hybrid", "window")]
    assert run(monkeypatch, "analyze", "compare", *files, "--gt", tmp_path / "gt.json", "--resamples", 400) == 0
    screen = " ".join(capsys.readouterr().out.split())
    assert "p (Holm)" in screen
    assert "The results hold for these trained models" in screen
    assert "not how other trainings of the same designs would differ" in screen


def test_a_narrow_terminal_loses_no_column(study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    fill(tmp_path, study)
    monkeypatch.setenv("FORCE_COLOR", "1")  # for rich a terminal
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.setenv("LINES", "50")  # else rich takes a dumb terminal for 80 x 25
    assert run(monkeypatch, "ablate", "compare", "--root", tmp_path, "--resamples", 400) == 0
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()]
    assert max(map(len, lines)) <= 72
    heads = [line.split() for line in lines if line.endswith("  p  p (Holm)")]
    assert heads == [["hybrid", name, "p", "p", "(Holm)"] for name in ("window", "global")]  # no room side by side
    for name in ("AP50 lost to all", "cls ", "FN "):
        assert len([line for line in lines if line.startswith(name)]) == 2
    sources = [line for line in lines if re.match(r"(window|global), n = 3  ", line)]
    assert len(sources) == 4  # folded into two
    assert all(re.fullmatch(r"\w+, n = 3(  +\d+\.\d / \d+\.\d){5}", line) for line in sources)


def test_seeds_are_paired_and_their_noise_stands_apart(study: Study, tmp_path: Path) -> None:
    fill(tmp_path, study, variants=("window", "hybrid"))
    _, ground_truth, found = compare_study(Workspace(tmp_path), study, resamples=200)
    assert [one.name for one in found.vs_baseline] == ["window"]
    assert found.of_designs
    window = found.vs_baseline[0]
    assert window.seeds == SEEDS
    assert window.transitions is None
    costs = {
        variant: [
            break_down(ground_truth, read_detections(predictions(tmp_path, study, variant, seed), ground_truth)).raw
            for seed in SEEDS
        ]
        for variant in ("window", "hybrid")
    }
    each = [own["loc"] - base["loc"] for own, base in zip(costs["window"], costs["hybrid"], strict=True)]
    loc = window.differences["loc"]
    assert loc.value == pytest.approx(np.mean(each), abs=1e-9)
    assert loc.seeds == pytest.approx(np.std(each, ddof=1) / math.sqrt(3), abs=1e-9)
    assert loc.n == 3
    assert loc.images > 0
    assert loc.low < loc.value < loc.high
    assert loc.significant


def predictions(root: Path, study: Study, variant: str, seed: int) -> Path:
    (one,) = [one for one in study.runs if (one.variant, one.seed) == (variant, seed)]
    return Workspace(root).run(one.run_id).predictions


def test_a_variant_of_one_seed_among_designs_is_said(study: Study, tmp_path: Path) -> None:
    fill(tmp_path, study, seeds=(0, 1), variants=("window", "hybrid"))
    fill(tmp_path, study, seeds=(1,), variants=("global",))
    _, _, found = compare_study(Workspace(tmp_path), study, resamples=400)
    assert [(one.name, one.seeds) for one in found.vs_baseline] == [("window", (0, 1)), ("global", (1,))]
    assert not found.of_designs
    assert scope_sentence(found).endswith(
        "Exception: global with one training (n = 1), so its interval is over images alone and it is not tested."
    )
    assert found.family == "1 run against the baseline x 10 numbers = 10 tests"
    assert "global: 1 of 3 seeds are finished here and in the baseline" in found.cautions
    first, second = comparison_takeaways(found)
    assert "over n = 2 seeds" in first
    assert "global minus hybrid, one training each: AP " in second


def test_what_is_not_finished_is_left_out_and_said(study: Study, tmp_path: Path) -> None:
    fill(tmp_path, study, seeds=(0,), variants=("window", "hybrid"))
    _, _, found = compare_study(Workspace(tmp_path), study, resamples=200)
    assert [one.name for one in found.vs_baseline] == ["window"]
    assert "global is left out: it has no finished run with a seed of the baseline" in found.cautions
    assert found.family == ""
    assert not found.tested


def test_refusals(study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    fill(tmp_path, study, variants=("window",))
    with pytest.raises(BadInput, match="no run of the baseline hybrid is finished"):
        compare_study(Workspace(tmp_path), study)
    for one in study.runs:
        if one.variant == "window":
            begin(tmp_path, study, one, Status(state="prepared"))
    fill(tmp_path, study, variants=("hybrid",))
    with pytest.raises(BadInput, match="no other variant has a finished run with a seed of the baseline hybrid"):
        compare_study(Workspace(tmp_path), study)
    fill(tmp_path, study)
    truth = tmp_path / "gt.json"
    truth.write_bytes(msgspec.json.encode(ground_truth_document(simulate_scene(60, 4, seed=4))))
    assert run(monkeypatch, "ablate", "compare", "--root", tmp_path) == 4
    assert "has changed since study 'hand-made' was planned" in capsys.readouterr().err


def test_the_document_and_the_files(study: Study, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    fill(tmp_path, study, seeds=(0, 1), variants=("window", "hybrid"))
    out = tmp_path / "out"
    command = ("ablate", "compare", "hand-made", "--root", tmp_path, "--resamples", 200, "--json", "--out", out)
    assert run(monkeypatch, *command) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["study"], document["synthetic"], document["baseline"]) == ("hand-made", True, "hybrid")
    assert document["resampling"]["resamples"] == 200
    assert {path.name for path in out.iterdir()} == {
        "comparison.csv",
        "categories.csv",
        "comparison.md",
        "comparison.tex",
        "comparison.json",
        "comparison.png",
        "comparison.pdf",
        "comparison_figures.tex",
    }
    (window,) = document["against_baseline"]
    assert window["fates"] is None
    assert set(window["differences"]["AP"]) == {
        "value", "low", "high", "error_images", "error_seeds", "n", "p", "p_family", "stands",
    }  # fmt: skip
    assert "over n = 2 seeds" in window["finding"]
