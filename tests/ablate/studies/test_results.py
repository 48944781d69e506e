"""The table of a study over hand-made results: arithmetic, refusals, what stands beside published numbers, formats."""

import csv
import io
import json
import shutil
from pathlib import Path

import msgspec
import pytest

from ablate.axes import AXES
from ablate.axes.custom import axis_from_keys
from ablate.config.identity import evaluation_identity
from ablate.config.schema import Coco
from ablate.config.yaml import load_config, with_changes
from ablate.execute.evaluation import Evaluation
from ablate.runs.folder import Status, Workspace
from ablate.runs.manifest import Manifest
from ablate.studies.cost import COST_FILE, MeasuredCost, read_cost
from ablate.studies.plan import DETECTIONS, PROPOSALS, Request, plan
from ablate.studies.plots import curves_figure
from ablate.studies.published import COCO_VALIDATION
from ablate.studies.results import summarise
from ablate.studies.show_results import summary_screen
from ablate.studies.study import Study, more_seeds, study_folder, write_study
from ablate.studies.tables import COUNTED, banner, interval
from ablate.studies.write_results import (
    as_csv,
    as_json,
    as_latex,
    as_markdown,
    published_csv,
    published_latex,
    write_files,
)
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.exceptions import BadInput
from analysis.stats.intervals import estimate
from tests.ablate.finished import altered, begin, finish, probed

PNG = b"\x89PNG"


@pytest.fixture(scope="session")
def planned(shapes_data: Path) -> Study:
    """Attention on the embedded data under three seeds, also the variants whose results are those of others."""
    every = ["window", "global, checkpointed", "global", "global, naive kernel"]
    return plan(AXES["attention"], Request(seeds=(0, 1, 2), only=every), Workspace(shapes_data.parent.parent))


@pytest.fixture
def root(shapes_root: Path) -> Path:
    return shapes_root


@pytest.fixture
def study(planned: Study, root: Path) -> Study:
    write_study(Workspace(root), planned)
    return planned


AP = {"window": (30.0, 31.0, 32.0), "hybrid": (33.0, 33.5, 34.0), "global": (34.0, 36.0, 35.0)}


def fill(root: Path, study: Study) -> None:
    for run in study.runs:
        if run.variant in AP:
            probed(finish(root, study, run, AP[run.variant][run.seed]), peak_gib=0.25)


def text_of(root: Path, study: Study, capsys: pytest.CaptureFixture[str]) -> str:
    from analysis.render.screen import print_whole

    print_whole(*summary_screen(summarise(Workspace(root), study)))
    return capsys.readouterr().out


def test_means_intervals_and_paired_differences(study: Study, root: Path) -> None:
    fill(root, study)
    rows = {row.variant: row for row in summarise(Workspace(root), study).rows}
    ap = rows["window"].metrics["AP"]
    assert (ap.mean, ap.n, ap.each) == (31.0, 3, (30.0, 31.0, 32.0))
    assert ap.half == pytest.approx(4.302653 * 1.0 / 3**0.5, rel=1e-6)  # a printed table of Student's t
    difference = rows["global"].difference
    assert difference is not None
    assert difference.each == (1.0, 2.5, 1.0)  # seed by seed
    assert difference.mean == pytest.approx(1.5)
    assert rows["hybrid"].difference is None
    assert rows["hybrid"].baseline
    assert rows["window"].other_ap is not None
    assert rows["window"].other_ap.mean == pytest.approx(29.0)
    assert rows["window"].errors["fn"].mean == 8.0
    assert set(rows["window"].errors) == set(ERROR_TYPES)
    assert rows["global, naive kernel"].state == "not started"
    assert rows["global, naive kernel"].n == 0


def test_masks_are_compared_when_asked_for(study: Study, root: Path) -> None:
    fill(root, study)
    rows = {row.variant: row for row in summarise(Workspace(root), study, "segm").rows}
    assert rows["window"].metrics["AP"].mean == pytest.approx(29.0)
    assert rows["window"].other_ap is not None
    assert rows["window"].other_ap.mean == pytest.approx(31.0)


def test_a_study_without_masks_says_so(study: Study, root: Path) -> None:
    for run in study.runs[:3]:
        altered(finish(root, study, run, 30).evaluation, Evaluation, mask=None)
    assert summarise(Workspace(root), study).rows[0].other_ap is None
    with pytest.raises(BadInput, match="has no masks to compare"):
        summarise(Workspace(root), study, "segm")


def test_one_seed_has_no_interval(root: Path) -> None:
    study = plan(AXES["head"], Request(), Workspace(root))
    for run in study.runs:
        finish(root, study, run, 40.0)
    summary = summarise(Workspace(root), study)
    assert summary.rows[0].metrics["AP"].half is None
    assert summary.notes[-1].startswith("n = 1: one run per variant, so no interval over seeds")
    command = "ablate head --base tiny-shapes --seeds 0,1,2 --name head-tiny-shapes-3-seeds --launch"
    assert f" {command} --root " in more_seeds(Workspace(root), study)
    assert summary.of_single_seeds
    assert banner(summary) == "synthetic data, n = 1: demonstration only, not evidence"
    assert interval(summary.rows[0].metrics["AP"]) == "40.0"


def test_different_validation_data_is_refused(study: Study, root: Path) -> None:
    fill(root, study)
    altered(Workspace(root).run(study.runs[0].run_id).manifest, Manifest, validation_data="other")
    with pytest.raises(BadInput, match=r"window and .* differ in their validation data.*one table"):
        summarise(Workspace(root), study)


def test_different_training_data_is_refused_unless_it_is_the_factor(study: Study, root: Path) -> None:
    fill(root, study)
    altered(Workspace(root).run(study.runs[0].run_id).manifest, Manifest, training_data="other")
    with pytest.raises(BadInput, match="differ in their training data"):
        summarise(Workspace(root), study)
    summarise(Workspace(root), msgspec.structs.replace(study, allowed_keys=(*study.allowed_keys, "data.train.images")))


@pytest.mark.parametrize(("field", "value"), [("iou", 0.6), ("convention", "tidecv")])
def test_different_error_settings_are_refused(field: str, value: object, study: Study, root: Path) -> None:
    fill(root, study)
    altered(Workspace(root).run(study.runs[0].run_id).evaluation, Evaluation, **{field: value})
    with pytest.raises(BadInput, match=f"differ in the {'IoU' if field == 'iou' else field} of the errors"):
        summarise(Workspace(root), study)


def test_different_evaluation_settings_are_refused_unless_they_are_the_factor(root: Path) -> None:
    study = plan(axis_from_keys(["evaluate.max_detections=50,100"]), Request(), Workspace(root))
    for run in study.runs:
        finish(root, study, run, 40.0)
    assert len(summarise(Workspace(root), study).rows) == 2
    with pytest.raises(BadInput, match=r"max_detections=50 and .* differ in evaluate\.max_detections"):
        summarise(Workspace(root), msgspec.structs.replace(study, allowed_keys=("train.lr",)))


def test_cost_of_different_machines_is_not_compared(study: Study, root: Path) -> None:
    fill(root, study)
    assert summarise(Workspace(root), study).cost_place == "Test CPU, 2 threads, torch 2.11.0"
    probed(Workspace(root).run(study.runs[0].run_id), name="Another CPU")
    summary = summarise(Workspace(root), study)
    assert summary.cost_place == ""
    assert all(row.peak_gib is None for row in summary.rows)
    assert any("different machines and is not compared" in note for note in summary.notes)
    assert all(row.metrics for row in summary.rows if row.variant in AP)  # AP is still there


def test_times_that_were_measured_beside_something_else_are_left_out(study: Study, root: Path) -> None:
    fill(root, study)
    window, hybrid = (Workspace(root).run(study.runs[place].run_id).path / COST_FILE for place in (0, 3))
    assert not [note for note in summarise(Workspace(root), study).notes if "probe" in note]
    altered(window, MeasuredCost, spread=0.4)
    altered(hybrid, MeasuredCost, spread=0.05, other_cores=1.3)
    summary = summarise(Workspace(root), study)
    (note,) = (note for note in summary.notes if "probe" in note)
    assert note.startswith("The times of window / hybrid are left out as unreliable: other processes")
    assert "used 1.3 of 2 cores, and the middle half of equal steps spans 40 % of their median time." in note
    rows = {row.variant: row for row in summary.rows}
    for variant in ("window", "hybrid"):
        assert (rows[variant].seconds_per_iteration, rows[variant].seconds_per_image) == (None, None)
        assert rows[variant].peak_gib == 0.25  # which does not depend on what else runs
    assert rows["global"].seconds_per_iteration == 0.1
    assert "| window | 256.0 | - | - |" in as_markdown(summary)
    assert "x baseline" not in as_markdown(summary)  # neither the column nor the sentence on it


@pytest.mark.parametrize(
    ("device", "cores", "others", "disturbed"),
    [
        ("cpu", 2, 0.1, False),
        ("cpu", 2, 0.5, True),
        ("cpu", 8, 5.9, False),  # six cores are idle
        ("cpu", 8, 6.5, True),
        ("cuda", 2, 1.5, False),  # which do not compute the steps
        ("cpu", 2, None, False),
    ],
)
def test_other_processes_disturb_where_no_core_is_left_to_them(
    device: str, cores: int, others: float | None, disturbed: bool, study: Study, root: Path
) -> None:
    folder = finish(root, study, study.runs[0], 30.0)
    probed(folder)  # on two threads
    cost = read_cost(folder)
    assert cost is not None
    hardware = msgspec.structs.replace(cost.hardware, cores=cores)
    assert msgspec.structs.replace(cost, device=device, hardware=hardware, other_cores=others).is_disturbed is disturbed


def test_a_ratio_of_times_stands_where_the_rounds_were_in_turn_and_do_not_overlap(study: Study, root: Path) -> None:
    fill(root, study)
    costs = {"window": (0.10, (0.099, 0.104)), "hybrid": (0.105, (0.103, 0.11)), "global": (0.21, (0.2, 0.22))}
    for run in study.runs:
        if run.variant in costs and run.seed == 0:
            seconds, rounds = costs[run.variant]
            file = Workspace(root).run(run.run_id).path / COST_FILE
            turn: dict[str, object] = {"session": "first", "rounds": 3, "other_cores": 0.04}
            altered(file, MeasuredCost, seconds_per_iteration=seconds, iteration_range=rounds, **turn)
    summary = summarise(Workspace(root), study)
    rows = {row.variant: row for row in summary.rows}
    assert rows["window"].iteration_ratio is None  # noise
    assert rows["hybrid"].iteration_ratio is None  # the baseline
    assert rows["global"].iteration_ratio == pytest.approx(2.0)
    assert rows["global"].image_ratio is None  # nothing tells how far its predictions are apart
    text = as_markdown(summary)
    assert "| global | 256.0 | 0.2100 ± 0.0100 | 2.00 |" in text
    assert "| window | 256.0 | 0.1000 ± 0.0025 |  |" in text
    assert "other processes used up to 0.0 cores during the measurement" in text
    assert "alone" not in text
    altered(file, MeasuredCost, session="another day")
    assert summarise(Workspace(root), study).rows[3].iteration_ratio is None


def test_rows_that_ran_out_of_memory_say_so(study: Study, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(root, study)
    for run in study.runs:
        if run.variant == "global, naive kernel":
            status = Status(state="out_of_memory", message="the cap of 1 GiB is full in iteration 1 of 300")
            probed(begin(root, study, run, status), peak_gib=None)
    row = summarise(Workspace(root), study).rows[-1]
    assert (row.state, row.n, row.metrics) == ("out of memory", 0, {})
    assert row.message == "the cap of 1 GiB is full in iteration 1 of 300"
    assert "out of memory" in as_latex(summarise(Workspace(root), study))
    out = text_of(root, study, capsys)
    assert out.count("out of memory") == 2
    assert "global, naive kernel: the cap of 1 GiB is full" in out
    cost = [
        line
        for line in as_markdown(summarise(Workspace(root), study)).splitlines()
        if line.startswith("| global, naive")
    ][1]  # it has no errors to show
    assert cost.startswith("| global, naive kernel | out of memory | - |")
    (probe,) = (Workspace(root).run(run.run_id) for run in study.runs if run.variant == row.variant and run.seed == 0)
    probed(probe, peak_gib=0.1)  # one image fits where a batch did not
    assert "Out of memory in training; the cost is that of a single image: global, naive kernel." in (
        summarise(Workspace(root), study).notes
    )


def test_some_seeds_may_be_missing(study: Study, root: Path) -> None:
    fill(root, study)
    window = [run for run in study.runs if run.variant == "window"]
    Workspace(root).run(window[1].run_id).write_status(Status(state="diverged", message="the loss is not finite"))
    row = summarise(Workspace(root), study).rows[0]
    assert row.state == "2 of 3 finished, 1 of 3 diverged"
    assert row.n == 2
    assert row.difference is not None
    assert row.difference.each == (-3.0, -2.0)  # seeds 0 and 2 alone
    assert row.message == "the loss is not finite"
    assert banner(summarise(Workspace(root), study)).startswith("synthetic data, n = 2 to 3:")
    hybrid = [run for run in study.runs if run.variant == "hybrid"]
    Workspace(root).run(hybrid[2].run_id).write_status(Status(state="running"))
    summary = summarise(Workspace(root), study)
    note = "Differences use only the seeds that the baseline has finished too: window 1 of 2 / global 2 of 3."
    assert note in summary.notes  # n stands beside the mean, which is over more
    assert note in as_markdown(summary)
    assert note in as_latex(summary)


def test_without_the_baseline_there_are_no_differences(study: Study, root: Path) -> None:
    for run in study.runs[:3]:
        finish(root, study, run, 30.0)
    summary = summarise(Workspace(root), study)
    assert summary.rows[0].difference is None
    assert "The baseline hybrid has no result (not started), so there are no differences." in summary.notes


def test_nothing_finished_is_a_table_of_states(study: Study, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = text_of(root, study, capsys)
    assert out.count("not started") == 5
    assert "Cost, one image at a time" in out  # parameters and multiply-adds are known
    assert (
        banner(summarise(Workspace(root), study)) == "synthetic data: demonstration only, not evidence"
    )  # n of nothing is nothing


def test_why_variants_are_blocked_is_said_once_below(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = plan(AXES["schedule"], Request(), Workspace(root), crossed=AXES["init"])
    out = text_of(root, study, capsys)
    assert out.count("blocked") == 15
    assert out.count("pass --weights beit=FILE") == 1
    lengths = {run.number for run in study.runs}
    assert f" x BEiT and {len(lengths) - 3} more: no public weights" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 110


def test_no_cell_is_broken_in_a_narrow_terminal(study: Study, root: Path) -> None:
    from rich.console import Console

    fill(root, study)
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(*summary_screen(summarise(Workspace(root), study)), sep="\n")
    lines = capture.get().splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if line.strip().startswith("±") or line.rstrip().endswith("±")]
    (at,) = (place for place, line in enumerate(lines) if line.startswith("Box AP50 lost to each type of error"))
    heads = [line.split() for line in lines[at:] if line.startswith("variant")][:2]
    assert heads == [["variant", "cls", "loc", "both", "dup"], ["variant", "bg", "miss", "FP", "FN"]]


def test_counts_have_the_digits_that_tell_variants_apart(study: Study, root: Path) -> None:
    fill(root, study)
    table = as_markdown(summarise(Workspace(root), study))
    rows = {line.split(" | ")[0]: line.split(" | ")[4:] for line in table.splitlines() if " | 256.0 | " in line}
    assert set(rows) == {"| window", "| hybrid (baseline)", "| global"}
    assert len({tuple(cells) for cells in rows.values()}) == 3
    assert "| variant | peak memory, MiB |" in table
    probed(Workspace(root).run(study.runs[0].run_id), peak_gib=27.25)
    table = as_markdown(summarise(Workspace(root), study))
    assert "| variant | peak memory, GiB |" in table
    assert "| window | 27.25 |" in table
    assert "| global | 0.25 |" in table  # one unit in a column


def test_there_is_no_negative_zero() -> None:
    assert interval(estimate([-0.04, -0.03]), sign=True) == "+0.0 ± 0.1"
    assert interval(estimate([-0.04])) == "0.0"


def test_a_damaged_result_is_a_row_with_the_reason(study: Study, root: Path) -> None:
    fill(root, study)
    path = Workspace(root).run(study.runs[0].run_id).evaluation
    path.write_bytes(path.read_bytes()[:200])
    row = summarise(Workspace(root), study).rows[0]
    assert row.state == "1 of 3 damaged, 2 of 3 finished"
    assert "evaluation.json: is damaged" in row.message
    (Workspace(root).run(study.runs[1].run_id).status).write_text("{")
    assert summarise(Workspace(root), study).rows[0].n == 1


def test_uncontrolled_rows_are_marked_everywhere(study: Study, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(root, study)
    cheat = msgspec.structs.replace(study.runs[0], confounders=("train.lr",))
    marked = msgspec.structs.replace(study, runs=(cheat, *study.runs[1:]))
    out = text_of(root, marked, capsys)
    assert "window †" in out
    assert "† not controlled: window also changes train.lr." in out
    summary = summarise(Workspace(root), marked)
    assert "| window † |" in as_markdown(summary)
    assert "† not controlled: window also changes train.lr." in as_markdown(summary)
    assert r"window$^\dagger$" in as_latex(summary)
    assert next(csv.DictReader(io.StringIO(as_csv(summary))))["not_controlled"] == "train.lr"


def on_coco(study: Study, **train: object) -> Study:
    """The study as if it had been planned on COCO with ViT-B."""
    coco = Coco(annotations="/coco/annotations/instances_train2017.json", images="/coco/train2017")
    runs = []
    for run in study.runs:
        changes = {**run.changes, "seed": run.seed, **{f"train.{key}": value for key, value in train.items()}}
        config = with_changes(load_config("vit-b-coco", ["train.images_per_norm=64"]), changes)
        config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, train=coco))
        runs.append(msgspec.structs.replace(run, config=config, evaluation=evaluation_identity(config, "t", "v")))
    return msgspec.structs.replace(study, runs=tuple(runs), synthetic=False)


def test_published_numbers_stand_in_a_row_only_where_all_is_the_same(root: Path) -> None:
    images, objects = COCO_VALIDATION
    tiny = plan(AXES["backbone"], Request(only=["ResNet-50"]), Workspace(root))
    first = tiny.runs[0]
    study = on_coco(
        msgspec.structs.replace(
            tiny,
            axis="backbone",
            baseline="ViT-B",
            runs=(msgspec.structs.replace(first, variant="ViT-B", changes={}),),
        )
    )
    folder = finish(root, study, study.runs[0], 48.7, images=images, objects=objects)
    summary = summarise(Workspace(root), study)
    row = summary.rows[0]
    assert row.published is not None
    assert (row.published.box_ap, row.published.epochs) == (48.9, 200)
    assert row.published not in [one.finding for one in summary.published]
    assert "48.9" in as_latex(summary)
    altered(folder.evaluation, Evaluation, images=206)  # a part of COCO is other data
    summary = summarise(Workspace(root), study)
    assert summary.rows[0].published is None
    assert any(one.finding.box_ap == 48.9 for one in summary.published)
    shorter = on_coco(study, epochs=100)
    finish(root, shorter, shorter.runs[0], 46.0, images=images, objects=objects)
    assert summarise(Workspace(root), shorter).rows[0].published is None


def test_published_differences_are_those_of_one_source(study: Study, root: Path) -> None:
    published = summarise(Workspace(root), study).published
    found = {(one.finding.variant, one.finding.size, one.finding.source[6:16]): one.box_difference for one in published}
    assert found["window", "vit-l", "2111.11429"] == pytest.approx(-2.6)
    assert found["window", "vit-l", "2203.16527"] == pytest.approx(-1.7)
    assert found["window", "vit-b", "2203.16527"] == pytest.approx(-2.3)
    assert found["hybrid", "vit-l", "2111.11429"] is None


def test_a_published_number_of_an_initialisation_stands_in_its_row_of_a_product(root: Path) -> None:
    images, objects = COCO_VALIDATION
    tiny = plan(AXES["schedule"], Request(), Workspace(root), crossed=AXES["init"])
    run = msgspec.structs.replace(
        next(run for run in tiny.runs if run.blocked is None),
        variant="25 epochs x MAE",
        levels=("25 epochs", "MAE"),
        changes={},
    )
    study = msgspec.structs.replace(tiny, baseline=run.variant, runs=(run,))
    study = on_coco(study, epochs=25.0)
    folder = finish(root, study, study.runs[0], 48.0, images=images, objects=objects)
    assert summarise(Workspace(root), study).rows[0].published is None  # from scratch
    altered(folder.manifest, Manifest, initialisation="MAE")
    row = summarise(Workspace(root), study).rows[0]
    assert row.published is not None
    assert (row.published.box_ap, row.published.variant) == (48.1, "25 epochs")
    record = next(csv.DictReader(io.StringIO(as_csv(summarise(Workspace(root), study)))))
    assert (record["published_box_AP (points)"], record["published_by"]) == (
        "48.1",
        "github.com/facebookresearch/mae, issue 43, comment of an author",
    )
    # Crossed with what `matches` does not look at, a row is none of the first axis's variants.
    assert summarise(Workspace(root), msgspec.structs.replace(study, product="attention")).rows[0].published is None


def test_published_numbers_are_files_of_their_own(root: Path) -> None:
    study = plan(AXES["scale"], Request(), Workspace(root))
    summary = summarise(Workspace(root), study)
    latex = published_latex(summary)
    rows = {line.partition(" & ")[0]: line for line in latex.splitlines() if line.endswith(r"\\")}
    single = r"single-scale & 48.4 & -1.7 & {52.0*} & -1.3 & 47.8 & -2.5 & 51.2 & -3.2 \\"
    assert rows["single-scale"] == single
    assert {line.count("&") for name, line in rows.items() if name} == {8}
    assert "{}[1] arXiv 2111.11429, Table 2, vit-b, MAE, 50 epochs, cosine" in latex  # no length of a line break
    assert "{}* computed from other numbers of its source" in latex
    records = list(csv.DictReader(io.StringIO(published_csv(summary))))
    assert len(records) == len(summary.published)
    (derived,) = (record for record in records if record["derived"] == "True")
    assert (derived["variant"], derived["box_ap (points)"], derived["box_difference (points)"]) == (
        "single-scale",
        "52.0",
        "-1.3",
    )
    assert "derived" in next(line for line in as_markdown(summary).splitlines() if "| 52.0 |" in line)
    masks = published_latex(summarise(Workspace(root), study, "segm"))
    assert "42.5" in masks
    assert "Table 2" not in masks  # it has no masks


def test_every_format_carries_the_warning_and_the_numbers(
    study: Study, root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(root, study)
    summary = summarise(Workspace(root), study)
    warning = "synthetic data, n = 3: demonstration only, not evidence"
    assert warning in text_of(root, study, capsys)
    assert warning in as_markdown(summary)
    assert warning in as_latex(summary).replace("Synthetic", "synthetic")
    assert COUNTED in " ".join(text_of(root, study, capsys).split())
    assert COUNTED in as_markdown(summary)
    assert COUNTED in as_latex(summary)
    assert f"{PROPOSALS:,} proposals and {DETECTIONS} masks" in COUNTED
    document = json.loads(as_json(summary))
    assert document["synthetic"] is True
    assert document["rows"][0]["metrics"]["AP"]["mean"] == 31.0
    records = list(csv.DictReader(io.StringIO(as_csv(summary))))
    assert [record["variant"] for record in records] == list(study.variants)
    assert float(records[0]["box_AP (points)"]) == 31.0
    assert records[0]["synthetic"] == "True"
    assert records[-1]["box_AP (points)"] == ""
    assert "| window | 31.0 ± 2.5 |" in as_markdown(summary)
    latex = as_latex(summary)
    assert latex.count(r"\toprule") == latex.count(r"\midrule") == latex.count(r"\bottomrule") > 1  # in parts
    assert "resizebox" not in latex
    assert r"31.0 & $\pm$ 2.5" in latex
    by_row = [
        [line.count("&") for line in latex.splitlines() if line.startswith(name)] for name in ("window", "hybrid")
    ]
    assert by_row[0] == by_row[1]


def test_names_cannot_break_a_table(study: Study, root: Path) -> None:
    fill(root, study)
    hostile = "50% & a_b | {x} \\ ~^#$"
    runs = tuple(msgspec.structs.replace(r, variant=hostile) if r.variant == "window" else r for r in study.runs)
    summary = summarise(Workspace(root), msgspec.structs.replace(study, runs=runs))
    line = next(line for line in as_latex(summary).splitlines() if line.startswith("50"))
    assert line.startswith(r"50\% \& a\_b | \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}\#\$ & 31.0 &")
    row = next(line for line in as_markdown(summary).splitlines() if line.startswith("| 50"))
    assert row.startswith(r"| 50% & a\_b \| {x} \\ \~^#\$ |")
    assert next(csv.DictReader(io.StringIO(as_csv(summary))))["variant"] == hostile


def test_files_and_figures_are_written(study: Study, root: Path) -> None:
    fill(root, study)
    out = root / "out"
    names = {path.name for path in write_files(out, summarise(Workspace(root), study))}
    tables = {"table.csv", "table.md", "table.tex", "table.json", "published.csv", "published.tex"}
    assert names == tables | {"errors.png", "errors.pdf", "figures.tex"}
    assert (out / "errors.png").read_bytes().startswith(PNG)
    assert (out / "errors.pdf").read_bytes().startswith(b"%PDF")
    assert not [path for path in out.iterdir() if path.name.endswith(".part")]


def test_a_numeric_axis_is_a_curve_with_a_line_for_each_of_the_other(root: Path) -> None:
    study = plan(AXES["schedule"], Request(), Workspace(root), crossed=AXES["head"])
    for run in study.runs:
        finish(root, study, run, 30.0 + (run.number or 0) / 100)
    from ablate.studies.plots import _lines_of, _other_axis

    summary = summarise(Workspace(root), study)
    lines = _lines_of(summary.rows)
    assert {name: [row.number for row in line] for name, line in lines.items()} == {
        name: sorted({run.number for run in study.runs if run.number}) for name in ("paper", "plain")
    }
    picture = curves_figure(summary)
    assert picture is not None
    assert picture.files["png"].startswith(PNG)
    assert _other_axis(summary, summary.rows) == "head"
    assert curves_figure(msgspec.structs.replace(summary, unit="")) is None
    swapped = summarise(Workspace(root), plan(AXES["head"], Request(), Workspace(root), crossed=AXES["schedule"]))
    assert set(_lines_of(swapped.rows)) == {"paper", "plain"}
    assert _other_axis(swapped, swapped.rows) == "head"


def test_error_types_are_drawn_for_each_initialisation_at_its_best_length(root: Path) -> None:
    from ablate.studies.plots import _rows_with_errors, errors_figure

    study = plan(AXES["schedule"], Request(), Workspace(root), crossed=AXES["init"])
    for run in study.runs:
        if run.blocked is None:
            peak = 280 if "MAE" in run.variant else 1120
            finish(root, study, run, 30.0 - abs((run.number or 0) - peak) / 100)
    summary = summarise(Workspace(root), study)
    rows, at_best = _rows_with_errors(summary)
    assert {row.variant for row in rows} == {"1120 iterations x random", "280 iterations x MAE"}
    assert at_best
    picture = errors_figure(summary)
    assert picture is not None
    assert "each at its best length" in picture.caption
    assert any("the best lengths differ between initialisations" in note for note in summary.notes)
    assert not any("tokenizer" in caution for caution in summary.published_cautions), "BEiT has no run here"


def test_a_deleted_neighbour_changes_no_table(study: Study, root: Path) -> None:
    other = plan(AXES["head"], Request(seeds=(0, 1, 2)), Workspace(root))
    write_study(Workspace(root), other)
    fill(root, study)
    before = as_json(summarise(Workspace(root), study))
    shutil.rmtree(study_folder(Workspace(root), other.name))
    assert as_json(summarise(Workspace(root), study)) == before
