"""A run that starts from weights: identity by content, loaded once, refused where the file changed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from ablate.axes import AXES, AxisOptions
from ablate.axes.custom import axis_from_file, axis_from_keys
from ablate.config.identity import training_identity
from ablate.config.schema import RunConfig
from ablate.config.yaml import dump_config, load_config, with_changes
from ablate.execute.run import execute, prepare, run_stages
from ablate.runs.folder import Workspace, read_json
from ablate.runs.manifest import Manifest
from ablate.studies.plan import Request, plan
from ablate.studies.study import write_study
from ablate.train.distributed import Processes
from ablate.train.outcome import RuntimeOptions
from ablate.weights.checkpoint import init_digest
from analysis.exceptions import BadInput
from tests.ablate.weights import references as r
from tests.ablate.weights.test_inspect import plain_base
from tests.command_line import run

Save = Callable[..., Path]
SET = {"model.backbone.position.absolute": "pt", "train.iterations": 2}


@pytest.fixture
def mae(save: Save) -> Path:
    return save(r.mae().saved)


def config(data: object, weights: Path, **changes: object) -> RunConfig:
    return with_changes(plain_base(data), {"init.weights": str(weights), **SET, **changes})


def test_the_identity_is_that_of_the_content(data: object, mae: Path, tmp_path: Path) -> None:
    shutil.copy(mae, tmp_path / "elsewhere.pth")
    one, two = (config(data, path) for path in (mae, tmp_path / "elsewhere.pth"))
    assert training_identity(one, "t", init_digest(one.init)) == training_identity(two, "t", init_digest(two.init))
    torch.save(r.deit().saved, tmp_path / "elsewhere.pth")
    assert init_digest(one.init) != init_digest(two.init)
    random = with_changes(one, {"init.weights": "none", "model.backbone.position.absolute": "rand"})
    assert init_digest(random.init) == ""
    for wrong, weights in ((one, ""), (random, "w")):
        with pytest.raises(ValueError, match="takes the digest of the weights"):
            training_identity(wrong, "t", weights)


def test_a_run_starts_from_its_weights_and_says_so(data: object, mae: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, what is saved in the end is what was loaded."""
    settings = config(data, mae, **{"train.lr": 1e-12, "train.weight_decay": 0})
    folder = execute(settings, Workspace(tmp_path), RuntimeOptions(workers=0)).folder
    manifest = read_json(folder.manifest, Manifest)
    assert (manifest.weights, manifest.initialisation) == (init_digest(settings.init), "MAE")
    state = torch.load(folder.checkpoint(2), weights_only=True)["model"]
    saved = torch.load(mae, weights_only=True)["model"]
    for ours, theirs in (("patch_embed.weight", "patch_embed.proj.weight"), ("blocks.3.attn.qkv.bias",) * 2):
        torch.testing.assert_close(state[f"backbone.{ours}"], saved[theirs], rtol=0, atol=1e-9)
    (event,) = [event for event in folder.read_events() if event["event"] == "weights loaded"]
    assert event["family"] == "MAE"
    assert sum(line["count"] for key in ("mapped", "dropped") for line in event[key]) == len(saved)
    assert event["resized"] == [{"target": "pos_embed", "before": [4, 4], "after": [6, 6], "how": "bicubic"}]
    assert {line["source"] for line in event["new"]} == {"window_bias.table", "global_bias.table"}
    # Continued or shown again without loading anew, and from wherever the file lies now.
    moved = tmp_path / "moved.pth"
    shutil.move(mae, moved)
    again = config(data, moved, **{"train.lr": 1e-12, "train.weight_decay": 0})
    assert execute(again, Workspace(tmp_path), RuntimeOptions()).folder.path == folder.path
    assert len([event for event in folder.read_events() if event["event"] == "weights loaded"]) == 1


def test_a_file_that_changed_after_planning_is_not_loaded(data: object, mae: Path, tmp_path: Path) -> None:
    settings = config(data, mae)
    folder = prepare(settings, Workspace(tmp_path), "cpu")
    torch.save(r.mae_fine_tuned().saved, mae)
    with pytest.raises(BadInput, match="has changed since this run was planned; restore the old file"):
        run_stages(folder, Processes(0, 1, torch.device("cpu")), RuntimeOptions(workers=0))
    with pytest.raises(BadInput, match="its data, weights or this program changed since it was planned"):
        prepare(settings, Workspace(tmp_path), "cpu", run_id=folder.path.name)


def test_what_does_not_fit_is_refused_before_a_folder_is_made(data: object, save: Save, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="have layer scale, so set"):
        prepare(config(data, save(r.timm_layer_scale().saved)), Workspace(tmp_path), "cpu")
    with pytest.raises(BadInput, match=r"gone\.pth: weights file not found"):
        prepare(config(data, tmp_path / "gone.pth"), Workspace(tmp_path), "cpu")
    assert not (tmp_path / "results").exists()


def test_a_relative_path_counts_from_its_file(
    data: object, mae: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "sub"
    folder.mkdir()
    (folder / "base.yaml").write_text(dump_config(plain_base(data)))
    (folder / "mine.yaml").write_text("base: base.yaml\ninit: {weights: ../weights.pth}\n")
    monkeypatch.chdir(folder)
    assert Path(load_config("mine.yaml").init.weights).resolve() == mae
    assert load_config("mine.yaml", ["init.weights=here.pth"]).init.weights == "here.pth"  # from the command line
    folder_of_run = prepare(
        with_changes(load_config("base.yaml"), {"init.weights": "../weights.pth"}), Workspace(tmp_path), "cpu"
    )
    assert Path(folder_of_run.read_config().init.weights).is_absolute()


def base_file(data: object, tmp_path: Path) -> str:
    path = tmp_path / "base.yaml"
    path.write_text(dump_config(plain_base(data)))
    return str(path)


def test_studies_are_planned_and_written_with_absolute_paths(
    data: object, mae: Path, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(r.beit_pretrained().saved, "beit.pth")
    monkeypatch.chdir(tmp_path)
    request = Request(base=base_file(data, tmp_path), weights={"mae": str(mae), "beit": str(tmp_path / "beit.pth")})
    study = plan(AXES["init"], request, Workspace(tmp_path))
    write_study(Workspace(tmp_path), study)
    runs = {run.variant: run for run in study.runs if run.blocked is None}
    assert list(runs) == ["random", "BEiT", "MAE"]
    assert len({run.training for run in runs.values()}) == 3
    for one in runs.values():
        assert load_config(tmp_path / one.config_path) == one.config
        assert one.confounders == ()
    # An axis of one's own, as a file and on the command line.
    (tmp_path / "axis.yaml").write_text(
        "name: starts\ntouches: [init.weights]\nvariants: {a: {init.weights: weights.pth}, b: {init.weights: none}}\n"
    )
    for axis in (axis_from_file(tmp_path / "axis.yaml"), axis_from_keys(["init.weights=none,weights.pth"])):
        study = plan(axis, Request(base=request.base, name=axis.name), Workspace(tmp_path))
        assert {run.config.init.weights for run in study.runs if run.config} == {"none", str(mae)}


def test_weights_for_the_wrong_model_are_refused_at_planning(data: object, save: Save, tmp_path: Path) -> None:
    wrong = save(r.deit().saved)
    base = base_file(data, tmp_path)
    with pytest.raises(BadInput, match=r"should be MAE weights, but is recognised as DeiT or another .*; pass it as"):
        plan(AXES["init"], Request(base=base, weights={"mae": str(wrong)}), Workspace(tmp_path))
    small = Request(base=base, weights={"supervised": str(wrong)}, settings=["model.backbone.depth=8"])
    with pytest.raises(BadInput, match="belong to a ViT with depth 4, but the config has depth 8"):
        plan(AXES["init"], small, Workspace(tmp_path))
    with pytest.raises(
        BadInput, match="axis attention uses one initialisation for all variants: give one --weights, not mae"
    ):
        plan(AXES["attention"], Request(base=base, weights={"mae": str(wrong), "beit": "x"}), Workspace(tmp_path))
    with pytest.raises(BadInput, match="the names of this axis are supervised, mocov3, beit, mae"):
        plan(AXES["init"], Request(base=base, weights={"mea": str(wrong)}), Workspace(tmp_path))
    held = Request(base=base, settings=[f"init.weights={wrong}", "model.pixel_mean=[0.1, 0.1, 0.1]"])
    with pytest.raises(BadInput, match=r"axis attention: no variant can run \(.*they need model.pixel_mean=.0.485"):
        plan(AXES["attention"], held, Workspace(tmp_path))


def test_treatments_of_positions_on_given_weights(data: object, mae: Path, save: Save, tmp_path: Path) -> None:
    base = base_file(data, tmp_path)
    beit = save(r.beit_pretrained(absolute=True).saved, "beit.pth")
    one = AXES["position"].variants(load_config(base), AxisOptions(weights={"mae": str(mae)}))
    assert one[0].name == "rel zero, abs pt"
    assert {variant.name: variant.blocked for variant in one if variant.blocked} == {
        "rel pt, abs rand": "its weights, of MAE, have no relative bias"
    }
    both = Request(base=base, weights={"beit": str(beit), "mae": str(mae)}, only=["MAE, rel none, abs pt"])
    study = plan(AXES["position"], both, Workspace(tmp_path))
    assert study.variants == ("BEiT, rel pt, abs rand", "MAE, rel none, abs pt")
    assert all(run.blocked is None and run.confounders == () for run in study.runs)
    rows = AXES["position"].variants(load_config(base), AxisOptions(weights=both.weights))
    assert [variant.name for variant in rows] == [
        "BEiT, rel pt, abs rand",
        "BEiT, rel zero, abs rand",
        "BEiT, rel zero, abs pt",
        "MAE, rel zero, abs pt",
        "MAE, rel none, abs pt",
    ]
    held = [f"init.weights={mae}", "model.backbone.position.absolute=pt"]
    by_setting = Request(base=base, settings=held, only=["rel pt, abs rand"])
    study = plan(AXES["position"], by_setting, Workspace(tmp_path))
    assert study.baseline == "rel zero, abs pt"
    assert "have no relative bias" in str({run.variant: run.blocked for run in study.runs}["rel pt, abs rand"])


def test_what_a_reader_must_not_miss_stands_in_the_plan(
    data: object, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, path = base_file(data, tmp_path), save(r.timm_vit().saved)
    arguments = ("ablate", "init", "--base", base, "--only", "supervised", "--root", tmp_path)
    assert run(monkeypatch, *arguments, "--weights", f"supervised={path}") == 0
    assert "note: the file does not contain its pixel statistics; this config has ImageNet's" in capsys.readouterr().out
    text = (tmp_path / "configs" / "studies" / "init-base" / "plan.yaml").read_text()
    assert "note: the file does not contain its pixel statistics" in text


def test_another_axis_holds_its_weights_for_all_variants(data: object, mae: Path, tmp_path: Path) -> None:
    settings = ["train.lr=0.25", "model.backbone.position.absolute=pt"]
    request = Request(base=base_file(data, tmp_path), weights={"mae": str(mae)}, settings=settings)
    study = plan(AXES["head"], request, Workspace(tmp_path))
    configs = [run.config for run in study.runs if run.config]
    assert len(configs) == 2
    assert {one.init.weights for one in configs} == {str(mae)}
    assert {one.model.backbone.position.absolute for one in configs} == {"pt"}  # type: ignore[union-attr]
    assert {one.train.lr for one in configs} == {0.25}  # what the person set
    assert {one.train.weight_decay for one in configs} == {plain_base(data).train.weight_decay / 2}
    write_study(Workspace(tmp_path), study)
    assert [load_config(tmp_path / run.config_path) for run in study.runs] == configs


def test_a_single_run_takes_weights_with_what_belongs_to_them(
    data: object, save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_file(data, tmp_path)
    beit, dino = save(r.beit_pretrained().saved, "beit.pth"), save(r.dino().saved, "dino.pth")
    arguments = ("ablate", "describe", base, "--root", tmp_path, "--json")
    assert run(monkeypatch, *arguments, "--weights", beit, "--set", "train.weight_decay=0.5") == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert config["init"]["weights"] == str(beit)
    assert config["model"]["pixel_mean"] == [0.5, 0.5, 0.5]
    assert config["model"]["backbone"]["layer_scale"] == 0.1
    assert config["train"]["lr"] == plain_base(data).train.lr / 2
    assert config["train"]["weight_decay"] == 0.5
    assert run(monkeypatch, *arguments, "--weights", dino) == 0
    config = json.loads(capsys.readouterr().out)["config"]
    assert config["model"]["backbone"]["position"]["absolute"] == "pt"
    assert run(monkeypatch, *arguments, "--weights", tmp_path / "gone.pth") == 4


def test_a_sweep_of_epochs(data: object, mae: Path, tmp_path: Path) -> None:
    base = base_file(data, tmp_path)
    longer = tmp_path / "longer.pth"
    saved = torch.load(mae, weights_only=True)
    saved["model"]["cls_token"] += 1
    torch.save(saved, longer)
    weights = {"4": str(mae), "mae@20": str(longer)}
    study = plan(AXES["pretrain"], Request(base=base, weights=weights), Workspace(tmp_path))
    assert study.variants == ("0 epochs", "4 epochs", "20 epochs")
    assert [run.number for run in study.runs] == [0, 4, 20]
    shutil.copy(mae, longer)
    with pytest.raises(
        BadInput, match=r"'4 epochs' and '20 epochs' are the same .*\(init.weights\) have the same content"
    ):
        plan(AXES["pretrain"], Request(base=base, weights=weights), Workspace(tmp_path))
    with pytest.raises(BadInput, match="--weights beit=x: write the number of epochs of pre-training"):
        plan(AXES["pretrain"], Request(base=base, weights={"beit": "x"}), Workspace(tmp_path))


def test_a_base_that_starts_from_weights_can_be_compared_with_random(data: object, mae: Path) -> None:
    """Ratios of learning rates count from what the base starts with."""
    base = config(data, mae)
    changes = {variant.name: variant.changes for variant in AXES["init"].variants(base, AxisOptions())}
    assert changes["random"]["init.weights"] == "none"
    assert changes["random"]["train.lr"] == 2 * base.train.lr == changes["MoCo v3"]["train.lr"]
    assert changes["MAE"]["train.lr"] == base.train.lr
    assert changes["random"]["train.weight_decay"] == 2 * base.train.weight_decay


def test_weights_for_all_propose_the_papers_length_and_best_takes_it(
    tmp_path: Path, data: object, mae: Path, caplog: pytest.LogCaptureFixture
) -> None:
    base = base_file(data, tmp_path)
    long = ["train.iterations=none", "train.epochs=200"]
    (tmp_path / "long.yaml").write_text(dump_config(load_config(base, long)))

    def epochs(schedule: Literal["same", "best"]) -> set[object]:
        caplog.clear()
        request = Request(base=str(tmp_path / "long.yaml"), weights={"mae": str(mae)}, schedule=schedule)
        return {
            run.config.train.epochs for run in plan(AXES["attention"], request, Workspace(tmp_path)).runs if run.config
        }

    assert epochs("same") == {200.0}
    assert "for these weights it was 100: --schedule best uses that" in caplog.text
    assert epochs("best") == {100.0}
    assert not caplog.messages
    with pytest.raises(BadInput, match="--schedule best: applies to axis init"):
        plan(AXES["attention"], Request(base=base, schedule="best"), Workspace(tmp_path))
    marked = plan(
        AXES["init"],
        Request(base=str(tmp_path / "long.yaml"), weights={"mae": str(mae)}, schedule="best"),
        Workspace(tmp_path),
    )
    confounders = {run.variant: run.confounders for run in marked.runs if run.config}
    assert confounders == {"random": (), "MAE": ("train.epochs",)}
