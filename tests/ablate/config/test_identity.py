"""Identities: what changes them, what does not, and that they stay what they were."""

from pathlib import Path

import msgspec
import pytest

from ablate.config.identity import evaluation_identity, short_id, training_identity
from ablate.config.schema import Part, RunConfig, ViT
from ablate.config.yaml import load_config, parse, parse_yaml, with_changes

# Pinned: a change here orphans every stored run, and must be meant (then raise TRAINING_REVISION).
WHOLE_BATCH = ["train.images_per_norm=64"]  # what auto is where no GPU is known
GOLDEN = {"vit-b-coco": ("65a4c7124648", "96a85ff02bfc"), "vit-l-coco": ("cfacded9774b", "a5731531b699")}


# Fixed here, because presets are tuned.
BASE = """
model:
  backbone: {type: vit, width: 64, depth: 4, heads: 4, image_size: 128, patch_size: 8,
             attention: {window_size: 8, global_count: 2}, position: {absolute_grid: 16}}
  pyramid: {type: multi_scale, channels: 64}
data: {train: {type: shapes, split: train}, validation: {type: shapes, split: validation}}
train: {iterations: 400, batch_size: 8, images_per_norm: 8, lr: 1e-3, weight_decay: 0.05}
"""


def base() -> RunConfig:
    return parse(parse_yaml(BASE, "BASE"), RunConfig, "BASE")


def identities(config: RunConfig) -> tuple[str, str]:
    return short_id(training_identity(config, "t" * 64)), short_id(evaluation_identity(config, "t" * 64, "v" * 64))


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    assert identities(load_config(name, WHOLE_BATCH)) == GOLDEN[name]


def reversed_keys(tree: object) -> object:
    if isinstance(tree, dict):
        return {key: reversed_keys(value) for key, value in reversed(tree.items())}
    return tree


def test_order_spelling_and_paths_do_not_matter(tmp_path: Path) -> None:
    config = load_config("vit-b-coco", WHOLE_BATCH)
    expected = identities(config)
    assert identities(parse(reversed_keys(msgspec.to_builtins(config)), RunConfig, "x")) == expected
    (tmp_path / "x.yaml").write_text("base: vit-b-coco\ntrain: {lr: 0.00016, epochs: 200.0}  # spelled anew\n")
    assert identities(load_config(tmp_path / "x.yaml", WHOLE_BATCH)) == expected
    moved = with_changes(config, {"data.train.annotations": "/elsewhere.json", "data.validation.images": "/there"})
    assert identities(moved) == expected


def test_defaults_do_not_matter() -> None:
    """A config that spells out its defaults is the one that leaves them out, so that new fields change no identity."""
    config = base()
    bare = msgspec.to_builtins(config)
    full = msgspec.to_builtins(config)
    del bare["model"]["backbone"]["qkv_bias"], bare["evaluate"], bare["init"]
    assert parse(bare, RunConfig, "bare") == parse(full, RunConfig, "full")
    assert identities(parse(bare, RunConfig, "bare")) == identities(config)


# Another valid value for every field of a ViT run; the test below fails when a field is missing here.
OTHER: dict[str, object] = {
    "init.scheme": "truncated",
    "model.backbone.width": 96,
    "model.backbone.depth": 8,
    "model.backbone.heads": 2,
    "model.backbone.image_size": 256,
    "model.backbone.patch_size": 16,
    "model.backbone.mlp_ratio": 2.0,
    "model.backbone.attention.pattern": "global",
    "model.backbone.attention.window_size": 4,
    "model.backbone.attention.global_blocks": "last",
    "model.backbone.attention.global_count": 1,
    "model.backbone.attention.propagation": "shift",
    "model.backbone.attention.kernel": "naive",
    "model.backbone.attention.checkpoint": "all",
    "model.backbone.position.relative": "none",
    "model.backbone.position.tables": "per_block",
    "model.backbone.position.absolute": "zero",
    "model.backbone.position.absolute_grid": 9,
    "model.backbone.layer_scale": 0.1,
    "model.backbone.drop_path": 0.45,
    "model.backbone.qkv_bias": False,
    "model.pyramid.type": "simple",
    "model.pyramid.channels": 48,
    "model.detector.head": "plain",
    "model.detector.masks": False,
    "model.detector.box_conv_channels": 17,
    "model.detector.box_fc": 99,
    "model.detector.mask_conv_channels": 17,
    "model.detector.anchors.sizes": [1, 2, 3, 4, 5],
    "model.detector.anchors.aspect_ratios": [1],
    "model.detector.proposals.train_before_nms": 7,
    "model.detector.proposals.train_after_nms": 7,
    "model.detector.proposals.nms_threshold": 0.61,
    "model.detector.rpn_anchors_per_image": 7,
    "model.detector.rois_per_image": 7,
    "model.pixel_mean": [0.5, 0.5, 0.5],
    "model.pixel_std": [0.5, 0.5, 0.5],
    "data.images_without_boxes": "keep",
    "train.iterations": 17,
    "train.batch_size": 240,
    "train.images_per_norm": 1,
    "train.lr": 0.7,
    "train.weight_decay": 0.7,
    "train.betas": [0.1, 0.2],
    "train.warmup_epochs": 0.01,
    "train.schedule": "step",
    "train.step_milestones": [0.3],
    "train.jitter_scale": [0.9, 0.95],
    "train.flip": 0.25,
    "train.clip_norm": 3.5,
    "train.precision": "bf16",
    "train.memory_cap_gib": 32,
    "train.layer_decay": 0.75,
    "train.freeze.patch_embedding": True,
    "train.freeze.blocks": 1,
    "train.freeze.norms": True,
    "train.ema": 0.99,
    "train.compile": True,
    "train.channels_last": True,
    "seed": 12,
    "evaluate.score_threshold": 0.11,
    "evaluate.proposals_before_nms": 7,
    "evaluate.proposals_after_nms": 7,
    "evaluate.nms_threshold": 0.61,
    "evaluate.max_detections": 77,
    "evaluate.padding": "least",
}
TOGETHER: dict[str, dict[str, object]] = {
    "model.backbone.attention.propagation": {"model.backbone.attention.pattern": "window"}
}
NOT_HERE = {
    "engine",  # one engine so far
    "init.weights",  # these enter by a digest, tested below
    "init.pretraining",
    "init.pretraining_epoch",
    "train.epochs",  # excluded by iterations, tested below
    "data.train.split",  # data enters by its digest
    "data.validation.split",
    *(
        f"data.{name}.{key}"
        for name in ("train", "validation")
        for key in ("limit", "limit_seed", "limit_list", "images")
    ),
}


def leaves(part: Part, prefix: str = "") -> list[str]:
    found = []
    for name in part.__struct_fields__:
        value = getattr(part, name)
        found += leaves(value, f"{prefix}{name}.") if isinstance(value, Part) else [prefix + name]
    return found


def test_every_field_is_covered() -> None:
    assert set(leaves(base())) == set(OTHER) | NOT_HERE


@pytest.mark.parametrize("key", OTHER)
def test_every_field_changes_what_it_should(key: str) -> None:
    together = TOGETHER.get(key, {})
    before = identities(with_changes(base(), together))
    after = identities(with_changes(base(), {**together, key: OTHER[key]}))
    assert after[1] != before[1]
    assert (after[0] != before[0]) == (not key.startswith("evaluate."))


def test_data_enters_by_its_digest() -> None:
    config = load_config("vit-b-coco", WHOLE_BATCH)
    assert training_identity(config, "a") != training_identity(config, "b")
    assert evaluation_identity(config, "a", "a") != evaluation_identity(config, "a", "b")
    assert evaluation_identity(config, "a", "b") != evaluation_identity(config, "b", "b")


def test_epochs_and_iterations_are_told_apart() -> None:
    config = load_config("vit-b-coco", WHOLE_BATCH)
    by_iterations = with_changes(config, {"train.epochs": "none", "train.iterations": 200})
    assert identities(config)[0] != identities(by_iterations)[0]


def test_an_unresolved_precision_has_no_identity() -> None:
    with pytest.raises(ValueError, match=r"resolve train\.precision=auto"):
        training_identity(load_config("vit-b-coco", [*WHOLE_BATCH, "train.precision=auto"]), "t")


def test_short_has_twelve_digits() -> None:
    config = load_config("vit-b-coco", WHOLE_BATCH)
    assert isinstance(config.model.backbone, ViT)
    assert len(identities(config)[0]) == 12
