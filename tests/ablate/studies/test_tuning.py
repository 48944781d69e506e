"""The tuning protocol on objectives whose optimum is known, and a tuning over run folders, asked again and again."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.config.schema import Coco
from ablate.config.yaml import load_config
from ablate.data.sources import Files
from ablate.data.split import hold_out
from ablate.runs.folder import Status, Workspace
from ablate.studies.plan import Request
from ablate.studies.show_tuning import findings, measure_stages, tuning_table
from ablate.studies.study import read_study, write_study
from ablate.studies.tune import TuneRequest, chosen_config, plan_tuning
from ablate.studies.tuning import Point, Protocol, Results, Step, best_of, next_step
from analysis import read_ground_truth
from analysis.exceptions import BadInput
from tests.ablate.finished import begin, finish
from tests.ablate.simulated import simulate
from tests.ablate.tiny import write_data
from tests.command_line import run

PAPER = Protocol(lr=1.6e-4, weight_decay=0.1, unit="epochs", grid_length=25, drop_path_length=50)
LARGER = msgspec.structs.replace(PAPER, larger="vit-l")
RANDOM = msgspec.structs.replace(PAPER, grid_length=100, drop_path_length=100)
Objective = Callable[[Point], float | None]


def followed(protocol: Protocol, objective: Objective, most: int = 400) -> tuple[Step, Results]:
    """The protocol to its end."""
    results: dict[Point, float | None] = {}
    while (step := next_step(protocol, results, most)).missing:
        results |= {point: objective(point) for point in step.missing}
    return step, results


def bowl(lr: float, weight_decay: float, drop_path: float = 0.1, tilt: float = 0.0) -> Objective:
    """Best at so many doublings of the centre's values; with a ridge where tilted."""

    def ap(point: Point) -> float:
        x, y = point.lr_doublings - lr, point.weight_decay_doublings - weight_decay
        return 50 - x * x - y * y - tilt * x * y - 30 * (point.drop_path - drop_path) ** 2

    return ap


def test_the_first_grid_and_the_rates_are_the_papers() -> None:
    first = next_step(PAPER, {}, 60)
    lrs = sorted({point.lr(PAPER) for point in first.points})
    decays = sorted({point.weight_decay(PAPER) for point in first.points})
    assert (lrs, decays) == ([8e-5, 1.6e-4, 3.2e-4], [0.05, 0.1, 0.2])
    assert first.missing == first.points
    assert len(first.points) == 9
    assert {(point.drop_path, point.length) for point in first.points} == {(0.0, 25)}
    step, _ = followed(PAPER, bowl(0, 0))
    rates = [(point.drop_path, point.length) for point in step.points[9:]]
    assert rates == [(0.0, 50), (0.1, 50), (0.2, 50), (0.3, 50)]
    assert step.stage == "done"


@given(st.integers(-4, 4), st.integers(-4, 4), st.sampled_from(PAPER.drop_paths), st.floats(-1.5, 1.5))
@settings(max_examples=60, deadline=None)
def test_a_planted_optimum_is_found_inside_at_the_border_and_beyond(
    lr: int, weight_decay: int, drop_path: float, tilt: float
) -> None:
    step, results = followed(LARGER, bowl(lr, weight_decay, drop_path, tilt))
    assert step.stage == "done"
    best = step.best["grid"]
    assert (best.lr_doublings, best.weight_decay_doublings) == (lr, weight_decay)
    assert step.best["drop path"].drop_path == step.best["larger model"].drop_path == drop_path
    assert step.best["larger model"].larger
    around = {(cell.lr_doublings - lr, cell.weight_decay_doublings - weight_decay) for cell in step.cells}
    assert {(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)} <= around, "the best lies inside of what was tried"
    assert set(results) == set(step.points)


@given(st.integers(-3, 3), st.integers(-3, 3), st.integers(0, 2**32), st.sampled_from([PAPER, LARGER, RANDOM]))
@settings(max_examples=40, deadline=None)
def test_killed_anywhere_it_asks_for_the_same(lr: int, weight_decay: int, seed: int, protocol: Protocol) -> None:
    """Results come one by one, in any order, and it is asked after each."""
    objective = bowl(lr, weight_decay)
    whole, _ = followed(protocol, objective)
    rng, results, asked = random.Random(seed), dict[Point, float | None](), dict[Point, None]()
    while (step := next_step(protocol, results, 400)).missing:
        assert step == next_step(protocol, dict(reversed(results.items())), 400)
        asked |= dict.fromkeys(step.points)
        point = rng.choice(step.missing)
        results[point] = objective(point)
    assert tuple(asked) == whole.points
    assert step == whole


def test_a_flat_objective_ends_at_once_with_the_smallest() -> None:
    step, results = followed(PAPER, lambda _: 40.0)
    assert len(results) == 9 + 4
    assert step.best["grid"] == Point(False, -1, -1, 0.0, 25)
    assert step.best["drop path"].drop_path == 0


def test_equal_results_go_to_the_smaller_learning_rate() -> None:
    cells = [Point(False, i, j, 0.0, 25) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    results = dict.fromkeys(cells, 30.0) | {cells[5]: 40.0, cells[7]: 40.0}
    assert best_of(cells, results) == cells[5]


def test_random_weights_share_a_run_between_grid_and_drop_path() -> None:
    step, results = followed(RANDOM, bowl(0, 0))
    assert len(results) == 9 + 3
    assert step.best["grid"] in results


def test_what_diverged_is_no_best_and_all_of_it_is_an_end() -> None:
    step, _ = followed(PAPER, lambda point: None if point.lr_doublings > 0 else bowl(1, 0)(point))
    assert step.best["grid"].lr_doublings == 0
    step, _ = followed(PAPER, lambda _: None)
    assert (step.stage, step.trouble, step.best) == ("grid", "no result", {})
    step, _ = followed(PAPER, lambda point: None if point.length == 50 else 1.0)
    assert (step.stage, step.trouble) == ("drop path", "no result")


def test_no_more_is_asked_than_is_allowed() -> None:
    step, results = followed(PAPER, lambda point: float(point.lr_doublings), most=20)
    assert step.trouble == "too many runs"
    assert len(results) == len(step.points) == 18  # 9, and 3 for each of 3 doublings


# Over run folders.

SMALL = ("data.train.images=40", "data.validation.images=12", "train.iterations=40")
REQUEST = Request(settings=SMALL, name="small")
BASE_CENTRE = TuneRequest(centre="base")


def answered(root: Path, objective: Objective, tune: TuneRequest = BASE_CENTRE) -> Step:
    """Plan, give every run that is asked for its AP, and ask again, to the end."""
    workspace = Workspace(root)
    while (planned := plan_tuning(REQUEST, tune, workspace)).step.missing:
        write_study(workspace, planned.study)
        protocol = planned.tuning.protocol
        for point in planned.step.missing:
            (planned_run,) = planned.study.runs_of(point.name(protocol))
            ap = objective(point)
            if ap is None:
                begin(root, planned.study, planned_run, Status(state="diverged"))
            else:
                finish(root, planned.study, planned_run, ap)
    write_study(workspace, planned.study)
    return planned.step


def test_a_study_grows_to_the_planted_optimum_and_keeps_its_runs(shapes_root: Path) -> None:
    step = answered(shapes_root, bowl(2, 0, 0.2))
    study = read_study(Workspace(shapes_root), "small")
    assert step.stage == "done"
    assert len(study.runs) == len(step.points) == 9 + 3 + 3 + 3
    assert study.tuning is not None
    assert [run.variant for run in study.runs] == [point.name(study.tuning.protocol) for point in study.tuning.points]
    planned = plan_tuning(REQUEST, BASE_CENTRE, Workspace(shapes_root))
    config = chosen_config(planned, step.best["drop path"])
    assert (config.train.lr, config.train.weight_decay) == (4 * 2e-3, 0.05)
    assert config.model.backbone.drop_path == 0.2  # type: ignore[union-attr]
    assert config.train.iterations == 40, "the base's own length"
    assert {run.config.train.iterations for run in study.runs if run.config} == {20}  # 100 of 200 epochs
    assert not any(run.confounders for run in study.runs)


def test_a_larger_model_takes_over_and_is_tuned_for_drop_path_alone(shapes_root: Path) -> None:
    larger = shapes_root / "larger.yaml"
    larger.write_text("base: tiny-shapes\nmodel: {backbone: {depth: 8}}\n")
    tune = TuneRequest(centre="base", larger=str(larger))

    def objective(point: Point) -> float:
        return bowl(0, 0, 0.3 if point.larger else 0.1)(point)

    step = answered(shapes_root, objective, tune)
    planned = plan_tuning(REQUEST, tune, Workspace(shapes_root))
    assert len(step.points) == 9 + 3 + 4
    own, other = (chosen_config(planned, step.best[stage]).model.backbone for stage in ("drop path", "larger model"))
    assert [(one.depth, one.drop_path) for one in (own, other)] == [(4, 0.1), (8, 0.3)]  # type: ignore[union-attr]
    assert not any(run.confounders for run in planned.study.runs)


def test_held_out_images_take_the_place_of_the_validation_set(shapes_root: Path) -> None:
    tune, workspace = TuneRequest(centre="base", held_out=0.25), Workspace(shapes_root)
    assert "held-out" not in str(plan_tuning(REQUEST, tune, workspace, write=False).study.runs[0].config)
    study = plan_tuning(REQUEST, tune, workspace).study
    config = study.runs[0].config
    assert config is not None
    sources = config.data.train, config.data.validation
    assert [Path(one.annotations).name for one in sources if isinstance(one, Coco)] == ["train.json", "held-out.json"]
    counts = [len(read_ground_truth(Path(one.annotations)).image_id) for one in sources if isinstance(one, Coco)]
    assert counts == [30, 10]
    assert study.synthetic, "however it is stored"
    again = plan_tuning(REQUEST, tune, workspace, write=False).study
    assert [run.run_id for run in again.runs] == [run.run_id for run in study.runs]


def test_another_protocol_under_the_same_name_is_refused(shapes_root: Path) -> None:
    workspace = Workspace(shapes_root)
    write_study(workspace, plan_tuning(REQUEST, BASE_CENTRE, workspace).study)
    with pytest.raises(BadInput, match="a tuning 'small' with another lr, weight_decay exists"):
        plan_tuning(REQUEST, TuneRequest(), workspace)
    raised = TuneRequest(centre="base", most_runs=90)  # how many runs are allowed is no part of it
    assert plan_tuning(REQUEST, raised, workspace).step.missing


def test_what_does_not_differ_from_the_best_is_told(shapes_root: Path) -> None:
    """Two cells with the same good predictions, one with bad ones; the others diverged."""
    workspace = Workspace(shapes_root)
    planned = plan_tuning(REQUEST, BASE_CENTRE, workspace)
    write_study(workspace, planned.study)
    best, equal, bad = (Point(False, 0, place, 0.0, 20) for place in (-1, 0, 1))
    for point in planned.step.missing:
        (planned_run,) = planned.study.runs_of(point.name(planned.tuning.protocol))
        if point.lr_doublings:
            begin(shapes_root, planned.study, planned_run, Status(state="diverged"))
        else:
            simulate(shapes_root, planned.study, planned_run, 0.1 if point == bad else 0.9, seed=0)
    planned = plan_tuning(REQUEST, BASE_CENTRE, workspace)
    stage = measure_stages(planned, workspace)["grid"]
    assert (stage.best, stage.equal, set(stage.against)) == (best, [equal], {equal, bad})
    lost = (planned.results[bad] or 0) - (planned.results[best] or 0)
    assert stage.against[bad].value == pytest.approx(lost, abs=1e-6)
    assert stage.against[bad].low < lost < stage.against[bad].high < 0
    assert "6 have no result" in next(findings(planned, "grid", stage))
    rows = tuning_table(planned, {"grid": stage}, workspace).rows
    assert len(rows) == 9 + 4  # drop path is asked for next


def test_as_a_person_types_it(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [part for change in SMALL for part in ("--set", change)]
    command = ["ablate", "tune", "--centre", "base", "--name", "small", *arguments, "--root", shapes_root]
    assert run(monkeypatch, *command) == 0
    out = capsys.readouterr().out
    assert "0 of 9 settings have a result" in out
    assert "--tune-split 0.1 chooses on held-out training images" in " ".join(out.split())
    answered(shapes_root, bowl(0, 0))
    assert run(monkeypatch, *command) == 0
    out = capsys.readouterr().out
    assert (
        "Flat: none of the other 8 cells differs significantly from it." in out
    )  # their predictions are equal, whatever their AP
    folder = shapes_root / "results" / "studies" / "small"
    assert (folder / "tuning.png").stat().st_size > 10_000
    head, first, *_ = (folder / "tuning.csv").read_text().splitlines()
    assert head == "stage,lr,weight decay,drop path,iterations,box AP (points),against the best (points),remark"
    assert first.startswith("grid,")
    chosen = shapes_root / "configs" / "tuned" / "small.yaml"
    config = load_config(chosen)
    assert (config.train.lr, config.model.backbone.drop_path) == (2e-3, 0.1)  # type: ignore[union-attr]
    text = chosen.read_text()
    assert "optimistic" in text
    assert all(line in text for line in ("lr: 0.002", "weight_decay: 0.05", "drop_path: 0.1")), "also the base's own"
    assert run(monkeypatch, *command, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["stage"], document["next"]) == ("done", [])
    assert [point["best"] for point in document["points"]].count(True) == 2


RESNET = ["--set", "model.pyramid.type=fpn"]
BAD = [
    (["--max-runs", "8"], "the first grid alone has 3 x 3 = 9 runs"),
    (["--max-runs", "17", "--seeds", "0,1"], "3 x 3 x 2 seeds = 18 runs"),
    (["--tune-split", "1"], "must be a share of the training images"),
    (["--set", "train.lr=1e-3"], "or start from it with --centre base"),
    (["--set", "model.backbone.drop_path=0.1"], "every run of a tuning sets model.backbone.drop_path itself"),
    (["--set", "train.lrr=1"], "train.lrr: unknown key; did you mean lr"),
    (["--larger", "tiny-shapes"], "has the same model as the base"),
    (["--larger", "tiny-shapes-mae"], "starts from MAE weights and the base from random"),
    (["--larger-weights", "x.pth"], "belongs to --larger"),
    (["--weights", "mae=gone.pth"], "no such file"),
    (
        ["--set", "model.backbone={type: resnet, depth: 50, image_size: 64}", "--set", "model.pyramid.type=fpn"],
        "ResNet",
    ),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_what_cannot_be_tuned_is_refused(
    arguments: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(monkeypatch, "ablate", "tune", *arguments, "--root", tmp_path) == 4
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_tuning_whose_runs_all_diverged_says_so(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answered(shapes_root, lambda _: None)
    arguments = [part for change in SMALL for part in ("--set", change)]
    command = ["ablate", "tune", "--centre", "base", "--name", "small", *arguments, "--root", shapes_root]
    assert run(monkeypatch, *command) == 4
    assert "all runs of the grid diverged or ran out of memory" in capsys.readouterr().err
    assert not (shapes_root / "configs" / "tuned").exists()


def test_images_are_held_out_by_their_ids(tmp_path: Path) -> None:
    source = write_data(tmp_path / "data", images=20)
    files = Files(Path(source.annotations), Path(source.images))
    train, held_out = hold_out(files, 0.25, tmp_path / "parts")
    first, second, whole = (read_ground_truth(Path(one.annotations)) for one in (train, held_out, source))
    assert len(second.image_id) == 5
    assert sorted([*first.image_id, *second.image_id]) == sorted(whole.image_id)
    assert len(first) + len(second) == len(whole)
    assert first.category_id == second.category_id == whole.category_id
    assert Path(train.images) == Path(source.images).absolute()
    # Another order in the file holds out the same images.
    document = json.loads(files.annotations.read_text())
    document["images"].reverse()
    files.annotations.write_text(json.dumps(document))
    _, again = hold_out(files, 0.25, tmp_path / "others")
    assert isinstance(again, Coco)
    assert read_ground_truth(Path(again.annotations)).image_id == second.image_id


@pytest.mark.parametrize("share", [0.01, 0.99])
def test_a_share_that_leaves_nothing_is_refused(share: float, tmp_path: Path) -> None:
    source = write_data(tmp_path / "data", images=6)
    with pytest.raises(BadInput, match="leaves one of the two sets without an object"):
        hold_out(Files(Path(source.annotations), Path(source.images)), share, tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
