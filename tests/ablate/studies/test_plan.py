"""From an axis to the files of a study: golden text, identities, names, and what is refused."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from ablate.axes import AXES, AxisOptions
from ablate.axes.custom import axis_from_file, axis_from_keys
from ablate.config.identity import evaluation_identity, short_id
from ablate.config.yaml import dump_config, load_config
from ablate.data.fingerprint import read_data_set
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.study import (
    Study,
    configs_folder,
    list_studies,
    newest_study,
    plan_text,
    read_study,
    run_text,
    slug,
    study_folder,
    write_study,
)
from analysis.exceptions import BadInput
from tests.ablate.tiny import tiny_config, write_data

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


@pytest.fixture
def base(tmp_path: Path) -> str:
    """A config of a few thousand parameters on six painted images, as a file."""
    path = tmp_path / "base.yaml"
    path.write_text(dump_config(tiny_config(write_data(tmp_path / "data"))))
    return str(path)


@pytest.fixture
def root(shapes_root: Path) -> Path:
    """Where studies are written."""
    return shapes_root


def attention(base: str, root: Path, **wishes: object) -> Study:
    return plan(AXES["attention"], Request(base=base, **wishes), Workspace(root))  # type: ignore[arg-type]


def golden(name: str, text: str) -> None:
    text = re.sub("results/runs/[0-9a-f]{12}", "results/runs/IDENTITY", text)
    assert text == (GOLDEN / name).read_text(encoding="utf-8"), f"tests/golden/{name} differs; look, then replace it"


def test_the_generated_files_read_as_they_should(base: str, root: Path, tmp_path: Path) -> None:
    study = attention(base, root, name="Müller's study", seeds=(0, 1), settings=["train.lr=8e-5"])
    write_study(Workspace(root), study)
    folder = configs_folder(Workspace(root), study.name)
    assert len(list(folder.iterdir())) == 11
    place = str(tmp_path)
    golden("plan.yaml", (folder / "plan.yaml").read_text(encoding="utf-8").replace(place, "/ROOT"))
    golden("run.yaml", (folder / "global-checkpointed-seed1.yaml").read_text(encoding="utf-8").replace(place, "/ROOT"))


def test_a_generated_config_is_the_run_of_its_identity(base: str, root: Path) -> None:
    study = attention(base, root, seeds=(3, 4), settings=["evaluate.padding=least"])
    write_study(Workspace(root), study)
    for run in study.runs:
        config = load_config(root / run.config_path)
        assert config == run.config
        training, validation = (
            read_data_set(one, Workspace(root)) for one in (config.data.train, config.data.validation)
        )
        assert (training.truth.digest, validation.truth.digest) == (study.training_data, study.validation_data)
        evaluation = evaluation_identity(config, training.digest, validation.digest)
        assert (run.evaluation, run.run_id) == (evaluation, short_id(evaluation))
    assert len({run.run_id for run in study.runs}) == 10


def test_a_written_study_reads_back_as_it_was(base: str, root: Path) -> None:
    study = attention(base, root)
    write_study(Workspace(root), study)
    assert msgspec.to_builtins(read_study(Workspace(root), study.name)) == msgspec.to_builtins(study)
    assert read_study(Workspace(root), slug(study.name)).name == study.name
    assert study.baseline == "hybrid"
    assert study.name == "attention-base"


def test_a_base_on_the_embedded_data_says_so_and_shares_its_baseline(root: Path) -> None:
    studies = [plan(AXES[name], Request(), Workspace(root)) for name in ("attention", "scale", "schedule", "head")]
    assert all(study.synthetic for study in studies)
    baselines = {run.run_id for study in studies for run in study.runs if run.variant == study.baseline}
    assert len(baselines) == 1
    assert "" not in baselines


def test_the_embedded_data_shows_every_result_once(root: Path) -> None:
    """Global attention in three ways: distinct rows by default, the others where they are named; real data has all."""
    cost_alone = ("global, checkpointed", "global, naive kernel")
    study = plan(AXES["attention"], Request(), Workspace(root))
    assert study.variants == ("window", "hybrid", "global")
    assert study.left_out == cost_alone
    named = plan(AXES["attention"], Request(only=[cost_alone[0]]), Workspace(root))
    assert named.variants == ("hybrid", cost_alone[0])
    assert named.left_out == ()
    known = AXES["attention"].variants(load_config("vit-b-coco"), AxisOptions())
    assert {one.name: one.same_result_as for one in known if one.same_result_as} == dict.fromkeys(cost_alone, "global")


def test_real_data_has_every_row_of_the_paper(base: str, root: Path) -> None:
    study = attention(base, root)
    assert study.variants == ("window", "hybrid", "global, checkpointed", "global", "global, naive kernel")
    assert study.left_out == ()


def test_a_dry_run_writes_nothing_and_knows_no_identity(tmp_path: Path) -> None:
    study = plan(AXES["attention"], Request(), Workspace(tmp_path), write=False)
    assert list(tmp_path.iterdir()) == []
    assert {run.run_id for run in study.runs} == {""}
    assert all(run.size is not None and run.size.parameters > 100_000 for run in study.runs)
    assert "results" not in run_text(study, study.runs[0])
    assert "results/runs" not in plan_text(study)


def test_the_same_plan_again_becomes_the_newest(base: str, root: Path) -> None:
    first = attention(base, root)
    write_study(Workspace(root), first)
    write_study(Workspace(root), plan(AXES["head"], Request(base=base), Workspace(root)))
    assert newest_study(Workspace(root)).axis == "head"
    write_study(Workspace(root), msgspec.structs.replace(first, planned="9999"))
    assert newest_study(Workspace(root)).axis == "attention"
    assert len(list_studies(Workspace(root))) == 2


@pytest.mark.parametrize(
    ("wishes", "sentence"),
    [
        ({"settings": ["train.lr=0.5"]}, "with another plan exists .it differs in train.lr."),
        ({"seeds": (0, 1)}, "with another seeds exists"),
        ({"only": ["window"]}, "it differs in global, checkpointed; global; global, naive"),
    ],
)
def test_another_plan_under_a_name_is_refused(wishes: dict[str, object], sentence: str, base: str, root: Path) -> None:
    write_study(Workspace(root), attention(base, root, name="mine"))
    before = (study_folder(Workspace(root), "mine") / "study.json").read_bytes()
    with pytest.raises(BadInput, match=sentence + ".*--name"):
        write_study(Workspace(root), attention(base, root, name="mine", **wishes))
    assert (study_folder(Workspace(root), "mine") / "study.json").read_bytes() == before


def test_weights_that_arrive_later_do_not_make_another_plan(base: str, root: Path) -> None:
    study = plan(AXES["init"], Request(base=base), Workspace(root))
    assert {run.variant for run in study.runs if run.blocked} == {"supervised", "MoCo v3", "BEiT", "MAE"}
    assert not any((root / run.config_path).exists() for run in study.runs)
    write_study(Workspace(root), study)
    assert {(root / run.config_path).exists() for run in study.runs if run.blocked} == {False}
    *others, last = study.runs
    arrived = msgspec.structs.replace(last, blocked=None, evaluation="e" * 64, config=study.runs[0].config)
    write_study(Workspace(root), msgspec.structs.replace(study, runs=(*others, arrived)))
    with pytest.raises(BadInput, match="it differs in MAE"):
        write_study(Workspace(root), study)  # and now they are gone again


def test_a_deleted_study_takes_nothing_with_it(base: str, root: Path) -> None:
    for axis in ("attention", "head"):
        write_study(Workspace(root), plan(AXES[axis], Request(base=base), Workspace(root)))
    shutil.rmtree(study_folder(Workspace(root), "attention-base"))
    shutil.rmtree(configs_folder(Workspace(root), "attention-base"))
    assert [study.axis for study in list_studies(Workspace(root))] == ["head"]
    with pytest.raises(BadInput, match=r"there is no study 'attention-base'.*there are: head-base"):
        read_study(Workspace(root), "attention-base")


def test_a_damaged_study_is_named_and_hides_no_other(base: str, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    for axis in ("attention", "head"):
        write_study(Workspace(root), plan(AXES[axis], Request(base=base), Workspace(root)))
    path = study_folder(Workspace(root), "attention-base") / "study.json"
    path.write_bytes(path.read_bytes()[:1000])
    assert [study.axis for study in list_studies(Workspace(root))] == ["head"]
    said = caplog.messages
    assert len(said) == 1
    assert "study.json: is damaged" in said[0]
    assert "plan the study again; its runs are kept" in said[0]


@pytest.mark.parametrize(
    "name", ['it\'s "mine"', "../../etc", "Ärger mit ß", "日本語", "a/b", "x" * 300, "CON", "-x", "."]
)
def test_any_name_makes_one_folder_of_its_own(name: str, base: str, root: Path) -> None:
    study = plan(axis_from_keys(["train.lr=1e-4,2e-4"]), Request(base=base, name=name), Workspace(root))
    write_study(Workspace(root), study)
    assert read_study(Workspace(root), name).name == name
    assert [path.parent for path in (root / "results" / "studies").rglob("study.json")] == [
        study_folder(Workspace(root), name)
    ]
    assert len(study_folder(Workspace(root), name).name) < 60
    assert load_config(root / study.runs[0].config_path) == study.runs[0].config


def test_names_that_fold_to_the_same_letters_stay_apart() -> None:
    names = ["a b", "a-b", "A-B", "a_b", "ä-b"]
    assert len({slug(name).casefold() for name in names}) == len(names)


def test_two_axes_are_crossed(base: str, root: Path) -> None:
    study = plan(AXES["schedule"], Request(base=base), Workspace(root), crossed=AXES["head"])
    assert study.name == "schedule-head-base"
    assert len(study.runs) == 10
    assert study.baseline == "6 iterations x paper"
    assert study.runs[1].levels == ("1 iterations", "plain")
    assert all(run.confounders == () for run in study.runs)
    write_study(Workspace(root), study)
    with pytest.raises(BadInput, match=r"both change model.backbone.attention.pattern"):
        plan(AXES["attention"], Request(base=base), Workspace(root), crossed=AXES["propagation"])
    with pytest.raises(BadInput, match="is the axis of this study already"):
        plan(AXES["attention"], Request(base=base), Workspace(root), crossed=AXES["attention"])


def test_what_is_set_for_all_may_be_what_an_axis_starts_from(base: str, root: Path) -> None:
    naive = attention(base, root, settings=["model.backbone.attention.kernel=naive"])
    assert naive.variants == ("window", "hybrid", "global, checkpointed", "global")
    assert plan(AXES["schedule"], Request(base=base, settings=["train.iterations=20"]), Workspace(root)).baseline == (
        "20 iterations"
    )
    assert (
        plan(AXES["head"], Request(base=base, settings=["model.detector.head=plain"]), Workspace(root)).baseline
        == "plain"
    )


def test_a_seed_is_no_variant_of_a_file_either(base: str, root: Path, tmp_path: Path) -> None:
    path = tmp_path / "axis.yaml"
    path.write_text("name: luck\ntouches: [seed]\nvariants: {a: {seed: 0}, b: {seed: 1}}\n")
    with pytest.raises(BadInput, match="give --seeds"):
        plan(axis_from_file(path), Request(base=base), Workspace(root))


def test_only_some_variants_and_always_the_baseline(base: str, root: Path) -> None:
    assert attention(base, root, only=["global"]).variants == ("hybrid", "global")
    with pytest.raises(BadInput, match="--only globe: no such variant; there are: window; hybrid"):
        attention(base, root, only=["globe"])


def test_what_an_axis_cannot_do_on_a_base_is_blocked_with_the_reason(base: str, root: Path) -> None:
    study = plan(
        AXES["scale"],
        Request(base=base, settings=["model.backbone.depth=6", "model.pyramid.type=simple"]),
        Workspace(root),
    )
    blocked = {run.variant: run.blocked for run in study.runs if run.blocked}
    assert list(blocked) == ["multi-scale FPN"]
    assert "depth 6 is not divisible by 4" in str(blocked["multi-scale FPN"])
    assert study.baseline == "simple pyramid"


def test_data_that_is_varied_enters_each_identity(root: Path) -> None:
    axis = axis_from_keys(["data.train.images=10,20"])
    study = plan(axis, Request(), Workspace(root))
    assert len({run.training for run in study.runs}) == 2
    assert all(run.confounders == () for run in study.runs)


def test_two_folders_of_images_behind_one_annotation_file_are_two_runs(base: str, root: Path, tmp_path: Path) -> None:
    images, other = tmp_path / "data" / "images", tmp_path / "other"
    shutil.copytree(images, other)
    Image.open(images / "0.png").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other / "0.png")
    axis = axis_from_keys([f"data.train.images={images},{other}"])
    study = plan(axis, Request(base=base), Workspace(root))
    assert len({run.training for run in study.runs}) == 2
    assert len({run.run_id for run in study.runs}) == 2
    validation = axis_from_keys([f"data.validation.images={images},{other}"])
    study = plan(validation, Request(base=base), Workspace(root))
    assert len({run.training for run in study.runs}) == 1
    assert len({run.run_id for run in study.runs}) == 2


def test_variants_that_are_one_run_are_refused_with_what_they_share(base: str, root: Path, tmp_path: Path) -> None:
    images, copy = tmp_path / "data" / "images", tmp_path / "copy"
    shutil.copytree(images, copy)
    axis = axis_from_keys([f"data.train.images={images},{copy}"])
    sentence = (
        r"variants 'images=.*images' and 'images=.*copy' are the same run [0-9a-f]{12}: .*"
        r"the files in which they differ \(data.train.images\) have the same content; leave one of them out"
    )
    with pytest.raises(BadInput, match=sentence):
        plan(axis, Request(base=base, seeds=(0, 1)), Workspace(root))
    twice = axis_from_keys(["train.lr=1e-3,2e-3", "train.weight_decay=0.05,0.1"])  # the base's is 0.05
    planned = plan(twice, Request(base=base), Workspace(root))
    assert [run.variant for run in planned.runs] == ["base", "lr=0.002", "weight_decay=0.1"]


def test_images_that_cannot_be_used_are_refused_before_anything_is_written(
    base: str, root: Path, tmp_path: Path
) -> None:
    Image.fromarray(np.full((32, 40), 9600, dtype=np.uint16)).save(tmp_path / "data" / "images" / "3.png")
    before = sorted(root.rglob("*"))
    with pytest.raises(BadInput, match=r"1 of 6 images .* \(1 not supported\); first 3.png: has more than 8 bits"):
        plan(AXES["head"], Request(base=base), Workspace(root), write=False)
    assert sorted(root.rglob("*")) == before


def _swap_names(document: dict[str, Any]) -> None:
    first, second = document["categories"]
    first["name"], second["name"] = second["name"], first["name"]


def _spoil_a_mask(document: dict[str, Any]) -> None:
    document["annotations"][0]["segmentation"] = [[1, 1, 9, 1]]


def _remove_a_mask(document: dict[str, Any]) -> None:
    del document["annotations"][0]["segmentation"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_swap_names, "category names differ from those of .*3 red, 7 blue.*3 blue, 7 red"),
        (_spoil_a_mask, r"annotations\[0\] is not a polygon: it needs at least 3 points"),
        (_remove_a_mask, "1 of 9 annotations have no segmentation"),
    ],
)
def test_annotations_on_which_the_runs_would_be_refused_refuse_the_study(
    change: Callable[[dict[str, Any]], None], words: str, root: Path, tmp_path: Path
) -> None:
    train, bad = write_data(tmp_path / "train"), write_data(tmp_path / "bad")
    document = json.loads(Path(bad.annotations).read_text())
    change(document)
    Path(bad.annotations).write_text(json.dumps(document))
    base = tmp_path / "base.yaml"
    base.write_text(dump_config(tiny_config(train)))
    before = sorted(root.rglob("*"))
    paths = [train.annotations, train.images, bad.annotations, bad.images]
    with pytest.raises(BadInput, match=words):
        plan(AXES["attention"], Request(base=str(base), data=paths), Workspace(root), write=False)
    assert sorted(root.rglob("*")) == before


def test_the_data_of_a_study_is_named_on_the_command_line(base: str, root: Path, tmp_path: Path) -> None:
    other = write_data(tmp_path / "other", images=4)
    paths = [other.annotations, other.images] * 2
    study = plan(AXES["head"], Request(base="tiny-shapes", data=paths), Workspace(root))
    assert not study.synthetic
    assert study.training_data == study.validation_data
    write_study(Workspace(root), study)
    for run in study.runs:
        assert load_config(root / run.config_path) == run.config


def test_a_folder_that_cannot_be_written_is_refused(base: str, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadInput, match=r"cannot be written.*another --root"):
        write_study(Workspace(blocked), attention(base, blocked))
