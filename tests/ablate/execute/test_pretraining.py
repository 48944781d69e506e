"""Pre-training in the house: named by its config, needed by runs, carried out once, and what they start from."""

from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from ablate.axes import AXES, AxisOptions
from ablate.config.identity import pretraining_identity, training_identity
from ablate.config.schema import Coco, Folder, Init, Pretrain, Pretraining, RunConfig, Shapes, pretraining_of
from ablate.config.yaml import dump_config, load_config, parse, parse_yaml, with_changes
from ablate.detector.init_weights import initial_digest
from ablate.execute.pretraining import execute_from_the_start, pretrain, pretrain_first
from ablate.execute.run import execute
from ablate.runs.folder import Workspace, read_json
from ablate.runs.manifest import Manifest
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study, StudyRun, plan_text, read_study, write_study
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.tiny import tiny_config, write_data

RUNTIME = RuntimeOptions(device="cpu", workers=0)


@pytest.fixture
def data(tmp_path: Path) -> Coco:
    return write_data(tmp_path / "data")


def recipe(data: Coco, **changes: object) -> dict[str, object]:
    """2 epochs of 6 images in batches of 3: 4 iterations."""
    return {
        "images": {"type": "folder", "path": data.images},
        "image_size": 16,
        "decoder_width": 8,
        "decoder_depth": 1,
        "decoder_heads": 2,
        "epochs": 2,
        "warmup_epochs": 0.5,
        "batch_size": 3,
        **changes,
    }


def pretrained_config(data: Coco, **changes: object) -> RunConfig:
    return with_changes(
        tiny_config(data),
        {
            "model.backbone.position.absolute": "pt",
            "init.pretraining": recipe(data, **changes),
            "train.iterations": 1,
        },
    )


def study_of(data: Coco, root: Path, axis: str = "pretrain", name: str = "", **changes: object) -> Study:
    base = root / f"base {name}.yaml"
    base.write_text(dump_config(pretrained_config(data, **changes)))
    study = plan(AXES[axis], Request(base=str(base), name=name or axis), Workspace(root))
    write_study(Workspace(root), study)
    return study


def test_the_recipe_survives_yaml_and_every_field_counts(data: Coco) -> None:
    config = pretrained_config(data)
    assert parse(parse_yaml(dump_config(config), "x"), RunConfig, "x") == config
    pretraining = pretraining_of(config)
    assert parse(parse_yaml(dump_config(pretraining), "x"), Pretraining, "x") == pretraining
    names = {pretraining_identity(pretraining, "digest")}
    other = {
        "image_size": 24, "mask_ratio": 0.5, "normalised_target": False, "decoder_width": 16, "decoder_depth": 2,
        "decoder_heads": 4, "epochs": 3.0, "warmup_epochs": 1.0, "batch_size": 2, "base_lr": 1e-3, "weight_decay": 0.1,
        "betas": (0.9, 0.99), "crop_scale": (0.5, 1.0), "flip": 0.0, "precision": "bf16", "seed": 1,
    }  # fmt: skip
    assert {"images", *other} == {field.name for field in msgspec.structs.fields(Pretrain)}
    for key, value in other.items():
        changed = pretraining_of(with_changes(config, {f"init.pretraining.{key}": value}))
        names.add(pretraining_identity(changed, "digest"))
    for key, factor in (("width", 2), ("depth", 2), ("heads", 2), ("patch_size", 0.5), ("mlp_ratio", 2)):
        value = getattr(pretraining.encoder, key)
        encoder = msgspec.structs.replace(pretraining.encoder, **{key: type(value)(value * factor)})
        names.add(pretraining_identity(msgspec.structs.replace(pretraining, encoder=encoder), "digest"))
    names.add(pretraining_identity(pretraining, "other images"))
    assert len(names) == 1 + len(other) + 5 + 1
    moved = with_changes(config, {"init.pretraining.images.path": "/elsewhere"})
    assert pretraining_identity(pretraining_of(moved), "digest") == pretraining_identity(pretraining, "digest")


def test_a_run_is_named_after_the_pretraining_and_the_epoch(data: Coco, tmp_path: Path) -> None:
    config = pretrained_config(data)
    digest = initial_digest(config, Workspace(tmp_path))
    name = training_identity(config, "t", digest)
    assert training_identity(with_changes(config, {"init.pretraining.images.path": "/moved"}), "t", digest) == name
    assert training_identity(config, "t", "other") != name
    assert training_identity(with_changes(config, {"init.pretraining_epoch": 1}), "t", digest) != name
    with pytest.raises(ValueError, match="an identity takes the digest of the weights"):
        training_identity(config, "t")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"init.pretraining.image_size": 20}, r"pretraining.image_size 20 is not a multiple of patch_size 8"),
        ({"init.pretraining.mask_ratio": 0.99}, "masks none or all of the 4 patches"),
        ({"init.pretraining.mask_ratio": 0.0}, "masks none or all"),
        ({"init.pretraining.warmup_epochs": 2}, "warmup_epochs 2.0 is not shorter than epochs 2.0"),
        ({"init.pretraining.decoder_heads": 3}, "decoder_width 8 must be a multiple of decoder_heads 3"),
        ({"init.pretraining.crop_scale": [0.5, 1.5]}, "crop_scale"),
        ({"init.pretraining_epoch": 3}, "pretraining_epoch 3 is beyond the 2 epochs"),
        ({"init.pretraining": "none", "init.pretraining_epoch": 1}, "pretraining_epoch 1 needs a pretraining"),
        ({"init.weights": "x.pth"}, "weights and pretraining both set"),
        ({"init.pretraining": "maybe"}, "init.pretraining"),
        ({"init.pretraining.epoch": 3}, "unknown key; did you mean epochs"),
        ({"model.backbone.position.relative": "pt"}, "position.relative=pt needs weights with bias tables"),
        ({"model.backbone.layer_scale": 0.1}, "layer_scale=none"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(data: Coco, changes: dict[str, object], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence) as caught:
        with_changes(pretrained_config(data), changes)
    assert "\n" not in str(caught.value)


def test_a_recipe_in_a_file_finds_its_images_from_there(data: Coco, tmp_path: Path) -> None:
    text = dump_config(pretrained_config(data)).replace(f'path: "{data.images}"', "path: pictures")
    (tmp_path / "x.yaml").write_text(text)
    recipe = load_config(tmp_path / "x.yaml").init.pretraining
    assert isinstance(recipe, Pretrain)
    assert recipe.images == Folder(path=str(tmp_path / "pictures"))


def test_a_study_names_what_it_needs_and_two_studies_share_it(data: Coco, tmp_path: Path) -> None:
    study = study_of(data, tmp_path, epochs=4)
    assert study.baseline == "0 epochs"
    assert [job.variant for job in study.pretrainings] == [f"pre-training of {n} epochs" for n in (1, 2, 4)]
    needs = {run.variant: run.needs for run in study.runs}
    assert needs == {
        "0 epochs": (),
        **{f"{n} epochs": (job.run_id,) for n, job in zip((1, 2, 4), study.pretrainings, strict=True)},
    }
    assert study.jobs == (*study.pretrainings, *study.runs)
    assert [job.epochs for job in study.pretrainings] == [(1,), (2,), (4,)]
    assert msgspec.to_builtins(read_study(Workspace(tmp_path), "pretrain")) == msgspec.to_builtins(study)
    text = plan_text(study)
    assert all(f"results: results/{job.run_id}" in text for job in study.pretrainings)
    for run in study.runs:
        assert load_config(tmp_path / run.config_path) == run.config
    other = study_of(data, tmp_path, axis="init", epochs=4)
    assert other.pretrainings[0].run_id == study.pretrainings[2].run_id
    (mae,) = (run for run in other.runs if run.variant == "MAE")
    assert mae.run_id == study.runs[3].run_id, "the same run, which is carried out once"
    assert mae.blocked is None


def test_other_seeds_share_the_weights_and_a_middle_epoch_is_kept(data: Coco, tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text(dump_config(pretrained_config(data)))
    made = plan(AXES["schedule"], Request(base=str(base), seeds=(0, 1, 2)), Workspace(tmp_path))
    assert len(made.pretrainings) == 1
    assert {run.needs for run in made.runs} == {(made.pretrainings[0].run_id,)}
    from ablate.axes.custom import axis_from_keys

    axis = axis_from_keys(["init.pretraining_epoch=1,last"])
    made = plan(axis, Request(base=str(base)), Workspace(tmp_path))
    assert [job.epochs for job in made.pretrainings] == [(1, 2)]


def test_without_a_recipe_nothing_is_begun_unasked() -> None:
    large = load_config("vit-b-coco")
    assert all(variant.blocked for variant in AXES["pretrain"].variants(large, AxisOptions())[1:])
    own = with_changes(
        large,
        {"init.pretraining": {"images": {"type": "folder", "path": "x"}}, "model.backbone.position.absolute": "pt"},
    )
    made = AXES["pretrain"].variants(own, AxisOptions())
    assert [variant.name for variant in made] == ["0 epochs", "200 epochs", "400 epochs", "800 epochs"]
    settings = {name: made[index].changes["train.lr"] for index, name in ((0, "random"), (1, "mae"))}
    assert settings["random"] == 2 * settings["mae"]
    tiny = AXES["pretrain"].variants(load_config("tiny-shapes"), AxisOptions())
    assert all(variant.blocked is None for variant in tiny)


def test_a_dry_run_makes_nothing(tmp_path: Path) -> None:
    study = plan(AXES["pretrain"], Request(), Workspace(tmp_path), write=False)
    assert list(tmp_path.iterdir()) == []
    assert study.pretrainings == ()
    assert {run.run_id for run in study.runs} == {""}


def test_a_study_from_its_first_pretraining_to_its_last_run(data: Coco, tmp_path: Path) -> None:
    """As a launcher carries it out, job by job; a second time there is nothing to do."""
    study = study_of(data, tmp_path, epochs=1, warmup_epochs=0.25)
    for _ in range(2):
        for job in study.jobs:
            if isinstance(job, StudyRun):
                assert job.config is not None
                execute(job.config, Workspace(tmp_path), RUNTIME, run_id=job.run_id)
            else:
                pretrain(job.pretraining, Workspace(tmp_path), RUNTIME, keep=job.epochs, name=job.run_id)
    (job,) = study.pretrainings
    folder = pretrain(job.pretraining, Workspace(tmp_path), RUNTIME, keep=job.epochs, name=job.run_id).folder
    assert folder.path == tmp_path / "results" / job.run_id
    status = folder.read_status()
    assert status is not None
    assert (status.state, status.iteration) == ("finished", status.iterations)
    assert status.iterations > 0
    assert [event["event"] for event in folder.read_events()] == ["started", "weights kept", "trained", "finished"]
    run = execute(study.runs[1].config, Workspace(tmp_path), RUNTIME, run_id=study.runs[1].run_id).folder  # type: ignore[arg-type]
    (loaded,) = (event for event in run.read_events() if event["event"] == "weights loaded")
    assert loaded["family"] == "MAE"
    assert loaded["file"] == str(folder.weights_after(1))
    manifest = read_json(run.manifest, Manifest)
    assert (manifest.weights, manifest.initialisation) == (job.training, "")


def test_a_run_does_not_begin_without_its_weights(data: Coco, tmp_path: Path) -> None:
    config = pretrained_config(data, epochs=2)
    with pytest.raises(
        BadInput, match=r"0002.pth: a run starts from these weights, but the file is missing; pre-train"
    ):
        execute(config, Workspace(tmp_path), RUNTIME)
    folder = pretrain(pretraining_of(config), Workspace(tmp_path), RUNTIME).folder
    middle = with_changes(config, {"init.pretraining_epoch": 1})
    with pytest.raises(BadInput, match=r"epoch 1 was not kept: move .* away"):
        execute(middle, Workspace(tmp_path), RUNTIME)
    with pytest.raises(BadInput, match=r"is finished, and epoch 1 was not kept"):
        pretrain_first(middle, Workspace(tmp_path), RUNTIME)
    Image.fromarray(np.zeros((16, 16, 3), np.uint8)).save(Path(data.images) / "new.png")
    with pytest.raises(BadInput, match=r"its images or this program changed since it was planned"):
        pretrain(pretraining_of(config), Workspace(tmp_path), RUNTIME, name=f"pretraining/{folder.path.name}")


def test_precision_is_resolved_before_anything_is_named(
    data: Coco, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run and its pre-training, as a single command carries them out; with processes of torchrun they meet once."""
    config = pretrained_config(data, precision="auto", epochs=1, warmup_epochs=0.25)
    folder = execute_from_the_start(
        with_changes(config, {"train.precision": "auto"}), Workspace(tmp_path), RUNTIME
    ).folder
    stored = folder.read_config()
    assert stored == execute(stored, Workspace(tmp_path), RUNTIME).folder.read_config()
    assert isinstance(stored.init.pretraining, Pretrain)
    Path(data.images).rename(tmp_path / "moved")
    moved = {"init.pretraining.images.path": "moved", "data.train.images": "moved", "data.validation.images": "moved"}
    monkeypatch.chdir(tmp_path)
    again = execute_from_the_start(with_changes(stored, moved), Workspace(tmp_path), RUNTIME).folder
    assert again.path == folder.path, "moved images are the same run"
    assert (stored.train.precision, stored.init.pretraining.precision) == ("fp32", "fp32")
    with pytest.raises(BadInput, match=r"precision=auto: a variant needs one precision"):
        initial_digest(with_changes(config, moved), Workspace(tmp_path))


def test_the_detector_starts_from_the_encoder(data: Coco, tmp_path: Path) -> None:
    from ablate.detector.init_weights import load_initial
    from ablate.detector.mask_rcnn import build_detector

    config = pretrained_config(data)
    folder = pretrain(pretraining_of(config), Workspace(tmp_path), RUNTIME).folder
    detector = build_detector(config.model, 2)
    load_initial(detector.backbone, config, initial_digest(config, Workspace(tmp_path)), Workspace(tmp_path))
    state = torch.load(folder.weights_after(2), weights_only=True)["model"]
    own = detector.backbone.state_dict()
    for name in ("blocks.0.attn.qkv.weight", "blocks.3.mlp.fc2.bias"):
        torch.testing.assert_close(own[name], state[name], rtol=0, atol=0)
    torch.testing.assert_close(own["patch_embed.weight"], state["patch_embed.proj.weight"], rtol=0, atol=0)
    assert config.init != Init()
    assert isinstance(load_config("tiny-shapes-mae").init.pretraining.images, Shapes)  # type: ignore[union-attr]
