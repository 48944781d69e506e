"""Every axis changes what it says it studies, and nothing else; baselines meet."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import torch

from ablate.axes import AXES, Axis, AxisOptions, Variant
from ablate.axes.base import is_within
from ablate.config.backbone import model_size, vit_of
from ablate.config.identity import training_identity
from ablate.config.schema import Init, ResNet, RunConfig, ViT
from ablate.config.yaml import load_config, with_changes
from ablate.studies.plan import changed_outside_axis
from ablate.studies.study import leaves
from analysis.exceptions import BadInput
from tests.ablate.weights import references as r

BASES = ("tiny-shapes", "vit-b-coco", "vit-l-coco")
TINY, VIT_B = load_config("tiny-shapes"), load_config("vit-b-coco")


def variants(axis: str, base: RunConfig = TINY, **weights: str) -> dict[str, Variant]:
    made = AXES[axis].variants(base, AxisOptions(weights=weights))
    assert len({variant.name for variant in made}) == len(made)
    return {variant.name: variant for variant in made}


def configs(axis: str, base: RunConfig) -> dict[str, RunConfig]:
    return {
        name: with_changes(base, dict(variant.changes))
        for name, variant in variants(axis, base).items()
        if variant.blocked is None
    }


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("axis", AXES.values(), ids=list(AXES))
def test_only_what_the_axis_touches_differs(axis: Axis, base: str) -> None:
    config = resolved(load_config(base))
    made = configs(axis.name, config)
    reference = made[axis.baseline] if axis.baseline else config
    assert made
    for name, variant in made.items():
        assert changed_outside_axis(reference, variant, axis.allowed_keys) == (), name
    # The same with the identity as the witness: undo what may differ, and the same run is left.
    for name, variant in made.items():
        undone = undo(variant, reference, axis.allowed_keys)
        assert identity(undone) == identity(reference), name
        if variant != reference:
            assert identity(variant) != identity(reference), name


def resolved(config: RunConfig) -> RunConfig:
    """Without `auto`, as an identity needs it."""
    return with_changes(config, {"train.images_per_norm": config.train.batch_size})


def identity(config: RunConfig) -> str:
    return training_identity(config, "data", "" if config.init == Init() else "weights")


def undo(config: RunConfig, reference: RunConfig, allowed_keys: frozenset[str]) -> RunConfig:
    tree, source = msgspec.to_builtins(config), msgspec.to_builtins(reference)
    for key in allowed_keys:
        *path, last = key.split(".")
        here, there = tree, source
        for part in path:
            here, there = here[part], there[part]
        here[last] = there[last]
    return msgspec.convert(tree, RunConfig)


def test_a_key_that_is_not_touched_is_found() -> None:
    faster = with_changes(TINY, {"train.lr": 0.5, "seed": 9, "model.backbone.attention.pattern": "window"})
    assert changed_outside_axis(TINY, faster, AXES["attention"].allowed_keys) == ("train.lr",)
    assert changed_outside_axis(TINY, faster, frozenset({"train", "model"})) == ()
    assert not is_within("model.backbone.attention.patterns", AXES["attention"].allowed_keys)


def test_the_baselines_of_all_axes_are_one_run() -> None:
    baselines = set()
    for name, axis in AXES.items():
        made = configs(name, TINY)
        own = made[axis.baseline] if axis.baseline else next(config for config in made.values() if config == TINY)
        baselines.add(training_identity(own, "data"))
    assert baselines == {training_identity(TINY, "data")}


def test_attention_has_the_rows_of_the_paper() -> None:
    made = configs("attention", VIT_B)
    assert [
        (c.model.backbone.attention.pattern, c.model.backbone.attention.checkpoint, c.model.backbone.attention.kernel)  # type: ignore[union-attr]
        for c in made.values()
    ] == [
        ("window", "none", "fused"),
        ("hybrid", "none", "fused"),
        ("global", "all", "fused"),
        ("global", "none", "fused"),
        ("global", "none", "naive"),
    ]
    naive = with_changes(VIT_B, {"model.backbone.attention.kernel": "naive"})
    assert len(configs("attention", naive)) == 4  # all of them naive, none of them twice


def test_initialisations_take_the_papers_settings(tmp_path: Path) -> None:
    """Of the paper's sizes; what the files hold of no size is seen when the study is planned."""
    files = {}
    for kind, make in {"supervised": r.deit, "mocov3": r.mocov3, "beit": r.beit_pretrained, "mae": r.mae}.items():
        files[kind] = str(tmp_path / f"{kind}.pth")
        torch.save(make().saved, files[kind])
    made = {name: dict(variant.changes) for name, variant in variants("init", VIT_B, **files).items()}
    settings = {name: (changes["train.lr"], changes["train.weight_decay"]) for name, changes in made.items()}
    assert settings == {
        "random": (1.6e-4, 0.2),
        "supervised": (8e-5, 0.1),
        "MoCo v3": (1.6e-4, 0.1),
        "BEiT": (8e-5, 0.1),
        "MAE": (8e-5, 0.1),
    }
    place = {
        name: (changes["model.backbone.position.relative"], changes["model.backbone.position.absolute"])
        for name, changes in made.items()
    }
    assert place["BEiT"] == ("pt", "rand")
    assert place["MAE"] == place["supervised"] == ("zero", "pt")
    assert made["BEiT"]["model.pixel_mean"] == (0.5, 0.5, 0.5)
    assert made["BEiT"]["model.backbone.layer_scale"] == 0.1
    assert "model.backbone.layer_scale" not in made["MAE"]
    assert "model.backbone.position.tables" not in made["BEiT"]
    assert made["MAE"]["init.weights"] == files["mae"]
    large = variants("init", load_config("vit-l-coco"), beit=files["beit"])["BEiT"].changes
    assert large["model.backbone.layer_scale"] == 1e-5
    torch.save(r.beit_pretrained(layer_scale=None).saved, files["beit"])
    assert "model.backbone.layer_scale" not in variants("init", VIT_B, beit=files["beit"])["BEiT"].changes
    torch.save(r.beit_fine_tuned().saved, files["beit"])
    tuned = variants("init", VIT_B, beit=files["beit"])["BEiT"].changes
    assert tuned["model.backbone.position.tables"] == "per_block"


def test_each_initialisation_trains_for_the_papers_best_length_where_that_is_asked_for() -> None:
    best = AxisOptions(schedule="best")
    for base, lengths in (
        (VIT_B, {"random": 200, "supervised": 100, "MoCo v3": 100, "BEiT": 100, "MAE": 100}),
        (load_config("vit-l-coco"), {"random": 200, "supervised": 50, "MoCo v3": 50, "BEiT": 50, "MAE": 50}),
    ):
        made = {variant.name: variant for variant in AXES["init"].variants(base, best)}
        assert {name: variant.changes["train.epochs"] for name, variant in made.items()} == lengths
        assert "the paper's best length for it, 200 epochs" in made["random"].note
        same = AXES["init"].variants(base, AxisOptions())
        assert not any("train.epochs" in variant.changes for variant in same), "the controlled comparison"
    counted = {variant.name: variant.changes for variant in AXES["init"].variants(TINY, best)}
    assert counted["random"]["train.iterations"] == TINY.train.iterations
    assert counted["MAE"]["train.iterations"] == round(TINY.train.iterations / 2)  # type: ignore[operator]


def test_drop_path_is_the_papers_for_the_size_and_alike_for_all_initialisations() -> None:
    rates = {base: vit_of(load_config(base), "init").drop_path for base in ("vit-b-coco", "vit-l-coco")}
    assert rates == {"vit-b-coco": 0.1, "vit-l-coco": 0.3}
    assert not is_within("model.backbone.drop_path", AXES["init"].allowed_keys)


@pytest.mark.parametrize(
    ("axis", "base", "variant", "advice"),
    [
        ("init", "vit-b-coco", "MAE", "pass --weights mae=FILE"),
        (
            "init",
            "vit-l-coco",
            "MoCo v3",
            "no public weights (no such weights were released); pass --weights mocov3=FILE",
        ),
        ("init", "vit-l-coco", "supervised", "no public weights (the paper's weights were never released)"),
        ("init", "tiny-shapes", "BEiT", "no public weights (there are none for size vit-96x4)"),
        ("pretrain", "vit-l-coco", "400 epochs", "no public weights; pass --weights 400=FILE"),
        ("pretrain", "vit-l-coco", "1600 epochs", "pass --weights 1600=FILE"),
        ("position", "vit-b-coco", "rel zero, abs pt", "needs pre-trained weights"),
    ],
)
def test_what_needs_weights_says_what_to_pass(axis: str, base: str, variant: str, advice: str) -> None:
    blocked = variants(axis, load_config(base))[variant].blocked
    assert blocked is not None
    assert blocked.startswith(advice)


def test_every_length_of_training_is_its_own_schedule() -> None:
    made = configs("schedule", VIT_B)
    assert [config.train.epochs for config in made.values()] == [25, 50, 100, 200, 400]
    assert {config.train.schedule for config in made.values()} == {"cosine"}
    tiny = with_changes(TINY, {"train.iterations": 400})
    assert [config.train.iterations for config in configs("schedule", tiny).values()] == [50, 100, 200, 400, 800]
    odd = with_changes(VIT_B, {"train.epochs": 36})
    assert list(configs("schedule", odd)) == [f"{n} epochs" for n in (25, 36, 50, 100, 200, 400)]
    numbers = [variant.number for variant in variants("schedule", VIT_B).values()]
    assert numbers == [25, 50, 100, 200, 400]


def test_values_of_the_axes_of_fine_tuning() -> None:
    """The paper's and ViTDet's values are among them, and whatever the base has."""
    assert list(variants("drop-path", VIT_B)) == ["0", "0.1", "0.2", "0.3", "0.4"]
    assert list(variants("layer-decay", VIT_B)) == ["none", "0.9", "0.8", "0.7"]
    assert list(variants("layer-decay", with_changes(VIT_B, {"train.layer_decay": 0.85})))[-1] == "0.85"
    assert list(variants("window-size", VIT_B)) == ["7", "14", "28", "64"]
    assert list(variants("input-size", VIT_B)) == ["512 px", "768 px", "1024 px", "1280 px"]
    scales = {name: (c.train.jitter_scale, c.train.flip) for name, c in configs("augmentation", VIT_B).items()}
    assert scales["large-scale jitter, flip"] == ((0.1, 2.0), 0.5)
    assert scales["standard jitter, flip"] == ((0.8, 1.25), 0.5)
    assert scales["none"] == ((1.0, 1.0), 0.0)
    assert "the base's: 0.9 to 1.1, flip 0.5" in configs("augmentation", TINY)
    frozen = {name: config.train.freeze for name, config in configs("freeze", VIT_B).items()}
    assert [freeze.blocks for freeze in frozen.values()] == [0, 0, 3, 6, 9, 0]
    assert frozen["norms"].norms
    assert "random weights" in variants("freeze", VIT_B)["norms"].note
    assert list(variants("head", load_config("vitdet-b-coco"))) == ["paper", "plain", "vitdet"]
    with pytest.raises(BadInput, match="varies windows, but the base has none"):
        variants("window-size", with_changes(VIT_B, {"model.backbone.attention.pattern": "global"}))


def test_a_base_without_relative_positions_keeps_none() -> None:
    bare = with_changes(VIT_B, {"model.backbone.position.relative": "none"})
    made = variants("init", bare)
    assert made["MAE"].changes["model.backbone.position.relative"] == "none"
    assert made["BEiT"].changes["model.backbone.position.relative"] == "pt"


def test_random_weights_are_trained_without_layer_decay() -> None:
    made = variants("init", with_changes(VIT_B, {"train.layer_decay": 0.7}))
    assert made["random"].changes["train.layer_decay"] == "none"
    assert all("train.layer_decay" not in variant.changes for name, variant in made.items() if name != "random")


def test_a_residual_backbone_replaces_the_whole_vit() -> None:
    made = configs("backbone", VIT_B)
    resnet = made["ResNet-101"].model
    assert resnet.backbone == ResNet(depth=101, image_size=1024)
    assert (resnet.pyramid.type, resnet.pyramid.channels) == ("fpn", 256)
    assert [model_size(config.model) for config in made.values()] == ["vit-b", "vit-l", "resnet-50", "resnet-101"]
    back = configs("backbone", made["ResNet-50"])["ViT-L"].model
    assert isinstance(back.backbone, ViT)
    assert (back.backbone.width, back.backbone.depth, back.pyramid.type) == (1024, 24, "multi_scale")
    for axis in ("attention", "scale", "position", "init", "propagation", "placement"):
        with pytest.raises(BadInput, match="has a ResNet; choose another --base"):
            variants(axis, made["ResNet-50"])


def test_pyramids_keep_the_channels_of_the_base() -> None:
    assert {config.model.pyramid.channels for config in configs("scale", TINY).values()} == {
        TINY.model.pyramid.channels
    }


def test_no_axis_bears_the_name_of_a_verb() -> None:
    verbs = {"axes", "list", "launch", "run", "describe", "status", "logs", "cancel", "table", "compare", "report"}
    assert not verbs & set(AXES)
    assert all(axis.name == name for name, axis in AXES.items())
    assert leaves({"a": {"b": 1}}) == {"a.b": 1}


def test_what_the_command_line_imports_at_start_is_light() -> None:
    code = (
        "import sys, ablate.axes.custom, ablate.config.identity, ablate.config.yaml, analysis.shell, "
        "ablate.weights.settings\n"
        "print([name for name in ('torch', 'safetensors', 'PIL', 'ruamel', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
