"""What detectron2 reads in an exported config is what the run's config says: every key, every axis, every preset."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ablate.axes import AXES, AxisOptions
from ablate.config.schema import ResNet, RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.engines.lazyconfig import Facts, facts_of, lazyconfig_text
from ablate.engines.lazyconfig_native import reasons_against
from ablate.runs.folder import Workspace
from ablate.studies.study import leaves
from ablate.train.optim import lr_factor
from analysis.exceptions import BadInput
from tests.detectron2 import needs_detectron2

pytestmark = needs_detectron2

PRESETS = ("tiny-shapes", "vit-b-coco", "vit-l-coco")
RESNET = {"model.backbone": {"type": "resnet", "depth": 101, "image_size": 128}, "model.pyramid.type": "fpn"}
# Beyond the axes: every kind of value that no axis and no preset sets.
OTHERS: dict[str, dict[str, Any]] = {
    "boxes only": {"model.detector.masks": False, "model.detector.head": "paper"},
    "listed blocks": {"model.backbone.attention.global_blocks": [0, 3], "model.backbone.attention.checkpoint": [1]},
    "layer scale": {
        "model.backbone.layer_scale": 0.1,
        "model.backbone.qkv_bias": False,
        "model.backbone.drop_path": 0.2,
    },
    "a table a block": {"model.backbone.position.tables": "per_block"},
    "steps": {"train.schedule": "step", "train.iterations": 9_000, "train.step_milestones": [0.5, 0.75, 0.9]},
    "steps of a short run": {"train.schedule": "step", "train.iterations": 3, "train.warmup_epochs": 0},
    "no warm-up": {"train.warmup_epochs": 0},
    "clipped": {"train.clip_norm": 1.5, "train.betas": [0.8, 0.95], "train.precision": "fp16"},
    "least padding": {"evaluate.padding": "least", "evaluate.max_detections": 50, "evaluate.nms_threshold": 0.6},
    "kept images": {"data.images_without_boxes": "keep", "train.flip": 0.0, "seed": 7},
    "straight down": {"train.schedule": "linear"},
    "layer decay, a table a block": {
        "train.layer_decay": 0.7,
        "model.backbone.position.tables": "per_block",
        "train.freeze.blocks": 2,
    },
    "resnet, vitdet heads": {**RESNET, "model.pyramid.channels": 32, "model.detector.head": "vitdet"},
    "norms apart": {"train.images_per_norm": 2, "model.detector.head": "paper"},
    "norms together": {"model.detector.head": "paper"},
    "single scale, many anchors": {
        "model.pyramid.type": "single_scale",
        "model.pyramid.channels": 32,
        "model.detector.anchors.sizes": [16, 48],
        "model.detector.anchors.aspect_ratios": [0.5, 1, 2, 3],
    },
    "resnet, least padding": {**RESNET, "model.pyramid.channels": 32, "evaluate.padding": "least"},
    "resnet, paper heads": {**RESNET, "model.pyramid.channels": 32, "model.detector.head": "paper"},
}


def every_config() -> Iterator[tuple[str, RunConfig]]:
    for preset in PRESETS:
        base = load_config(preset)
        base = with_changes(base, {"train.images_per_norm": base.train.batch_size})  # auto is exported so
        yield preset, base
        for axis in AXES.values():
            for variant in axis.variants(base, AxisOptions()):
                try:
                    yield f"{preset}: {axis.name} {variant.name}", with_changes(base, dict(variant.changes))
                except BadInput:
                    assert variant.blocked or preset == "tiny-shapes", variant.name  # cannot be on this base
    for name, changes in OTHERS.items():
        yield name, with_changes(load_config("tiny-shapes"), changes)


@pytest.fixture(scope="module")
def root(shapes_data: Path) -> Path:
    return shapes_data.parents[1]


def loaded(config: RunConfig, facts: Facts, folder: Path, *, native: bool = False) -> Any:
    from detectron2.config import LazyConfig

    path = folder / "config.py"
    path.write_text(lazyconfig_text(config, facts, "test", native=native), encoding="utf-8")
    return LazyConfig.load(str(path))


def test_every_value_of_every_axis_and_preset(root: Path, tmp_path: Path) -> None:
    facts_by_data: dict[bytes, Facts] = {}
    seen = 0
    for name, config in every_config():
        key = msgspec.json.encode(config.data)
        facts = facts_by_data.setdefault(key, facts_of(config, Workspace(root)))
        cfg = loaded(config, facts, tmp_path)
        wanted = leaves(msgspec.to_builtins(config))
        found = values_in(cfg, config, facts)
        missing = set(wanted) - set(found)
        assert not missing, f"{name}: nobody looks at {missing}"
        for key_, value in wanted.items():
            if found[key_] is not ELSEWHERE:
                assert _plain(found[key_]) == pytest.approx(_plain(value)), f"{name}: {key_}"
        seen += 1
    assert seen > 100


ELSEWHERE = object()  # what the file does not say, and why not stands beside it


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) or type(value).__name__ == "ListConfig" else value


def values_in(cfg: Any, config: RunConfig, facts: Facts) -> dict[str, Any]:
    """The value of each key of a run's config, read from the LazyConfig."""
    from detectron2.data import DatasetCatalog

    model, train, data = cfg.model, cfg.train, cfg.dataloader
    rpn, heads = model.proposal_generator, model.roi_heads
    flip, resize, crop = data.train.mapper.augmentations
    test = data.test.mapper.augmentations[0]
    side = resize.target_height
    assert side == resize.target_width == test.short_edge_length == test.max_size
    assert list(crop.crop_size) == [side, side]
    assert crop.pad is False
    assert model.input_format == data.train.mapper.image_format == data.test.mapper.image_format == "RGB"
    assert heads.num_classes == heads.box_predictor.num_classes == facts.classes
    assert data.train.dataset.names in DatasetCatalog.list()
    assert data.test.dataset.names in DatasetCatalog.list()
    sizes = [size for level in rpn.anchor_generator.sizes for size in level]
    paper, masks = len(rpn.head.conv_dims) == 2, "mask_head" in heads
    box_fc = heads.box_head.fc_dims
    assert heads.box_predictor.input_shape.channels == box_fc[-1]
    assert (len(box_fc), len(heads.box_head.conv_dims)) == ((1, 4) if paper else (2, 0))
    assert rpn.head.num_anchors == len(rpn.anchor_generator.sizes[0]) * len(rpn.anchor_generator.aspect_ratios)
    assert list(rpn.anchor_generator.strides[: len(heads.box_pooler.scales)]) == [
        round(1 / scale) for scale in heads.box_pooler.scales
    ]
    channels = {rpn.head.in_channels, heads.box_head.input_shape.channels}
    detector = config.model.detector
    if masks:
        assert heads.mask_in_features == heads.box_in_features
        assert heads.mask_pooler.scales == heads.box_pooler.scales
        assert len(heads.mask_head.conv_dims) == 5
        assert heads.mask_head.num_classes == facts.classes
        assert bool(heads.mask_head.conv_norm) == paper
        channels.add(heads.mask_head.input_shape.channels)
    assert bool(heads.box_head.conv_norm) == paper
    head = {"": "plain", "LN": "vitdet"}.get(heads.box_head.conv_norm, "paper")
    assert not masks or heads.mask_head.conv_norm in (heads.box_head.conv_norm, "BN")
    assert masks == data.train.mapper.use_instance_mask == data.train.mapper.recompute_boxes
    norm = {"SyncBN": train_batch(cfg), "BN": config.train.images_per_norm}
    found = {
        "engine": ELSEWHERE,  # the file is for detectron2
        "model.detector.head": head,
        "model.detector.masks": masks,
        "model.detector.box_conv_channels": heads.box_head.conv_dims[0] if paper else ELSEWHERE,  # it has none
        "model.detector.box_fc": box_fc[0],
        "model.detector.mask_conv_channels": heads.mask_head.conv_dims[0] if masks else ELSEWHERE,
        "model.detector.anchors.sizes": sizes,
        "model.detector.anchors.aspect_ratios": list(rpn.anchor_generator.aspect_ratios),
        "model.detector.proposals.train_before_nms": rpn.pre_nms_topk[0],
        "model.detector.proposals.train_after_nms": rpn.post_nms_topk[0],
        "model.detector.proposals.nms_threshold": rpn.nms_thresh,
        "model.detector.rpn_anchors_per_image": rpn.batch_size_per_image,
        "model.detector.rois_per_image": heads.batch_size_per_image,
        "model.pixel_mean": [value / 255 for value in model.pixel_mean],
        "model.pixel_std": [value / 255 for value in model.pixel_std],
        # The ViT's constructor draws them by the scheme; a pre-training gives a file of weights.
        **{key: ELSEWHERE for key in leaves(msgspec.to_builtins(config)) if key.startswith("init.")},
        "init.weights": train.init_checkpoint or "none",
        **{key: ELSEWHERE for key in leaves(msgspec.to_builtins(config)) if key.startswith("data.")},  # above
        "data.images_without_boxes": "drop" if data.train.dataset.filter_empty else "keep",
        "train.epochs": config.train.epochs,
        "train.iterations": config.train.iterations,
        "train.batch_size": train_batch(cfg),
        "train.images_per_norm": ELSEWHERE,  # where there is a BatchNorm, see below
        "train.lr": cfg.optimizer.lr,
        "train.weight_decay": cfg.optimizer.weight_decay,
        "train.betas": list(cfg.optimizer.betas),
        **dict.fromkeys(("train.warmup_epochs", "train.schedule", "train.step_milestones"), ELSEWHERE),  # below
        "train.jitter_scale": [resize.min_scale, resize.max_scale],
        "train.flip": flip.prob,
        "train.clip_norm": cfg.optimizer.get("clip_norm", "none"),
        "train.precision": train.amp.precision,
        "train.memory_cap_gib": ELSEWHERE,  # of the engine, not of what is trained
        "train.layer_decay": layer_decay(cfg),
        "train.ema": ELSEWHERE,  # detectron2's tool has none: `ablate export` refuses it
        **dict.fromkeys(("train.compile", "train.channels_last"), ELSEWHERE),  # likewise
        **{f"train.freeze.{key}": value for key, value in frozen(cfg).items()},
        "evaluate.score_threshold": heads.box_predictor.test_score_thresh,
        "evaluate.proposals_before_nms": rpn.pre_nms_topk[1],
        "evaluate.proposals_after_nms": rpn.post_nms_topk[1],
        "evaluate.nms_threshold": heads.box_predictor.test_nms_thresh,
        "evaluate.max_detections": heads.box_predictor.test_topk_per_image,
        "seed": train.seed,
    }
    assert train.amp.enabled == (train.amp.precision != "fp32")
    assert train.max_iter == config.train.total_iterations(facts.images)
    assert rpn.loss_weight == 1.0 if "loss_weight" in rpn else True
    _same_schedule(cfg, config, facts)
    if isinstance(config.model.backbone, ResNet):
        bottom = model.backbone.bottom_up
        channels.add(model.backbone.out_channels)
        found |= {
            "model.backbone.type": "resnet",
            "model.backbone.depth": bottom.stages.depth,
            "model.backbone.image_size": side,
            "model.pyramid.type": "fpn",
            "evaluate.padding": "full" if model.backbone.square_pad == side else "least",
        }
        assert norm[bottom.stem.norm] == norm[bottom.stages.norm] == config.train.images_per_norm
        if head == "paper":
            assert norm[model.backbone.norm] == config.train.images_per_norm
        else:
            assert model.backbone.norm == {"vitdet": "LN", "plain": ""}[head]
        assert bottom.freeze_at == 0
    else:
        net, pyramid = model.backbone.net, model.backbone.pyramid
        channels.add(pyramid.channels)
        assert (pyramid.width, pyramid.patch_size) == (net.width, net.patch_size)
        place = {"MultiScale": "multi_scale", "SingleScale": "single_scale", "SimplePyramid": "simple"}
        kind = place.get(_target(pyramid), "last_map")
        assert net.taps == ("quarters" if kind == "multi_scale" else "last")
        assert model.backbone.square_pad == side
        found |= {
            "model.backbone.type": "vit",
            **{f"model.backbone.{key}": net[key] for key in ("width", "depth", "heads", "image_size", "patch_size")},
            **{f"model.backbone.{key}": net[key] for key in ("mlp_ratio", "drop_path", "qkv_bias")},
            "model.backbone.layer_scale": "none" if net.layer_scale is None else net.layer_scale,
            **{
                f"model.backbone.attention.{key}": net[key]
                for key in (
                    "pattern",
                    "window_size",
                    "global_blocks",
                    "global_count",
                    "propagation",
                    "kernel",
                    "checkpoint",
                )
            },
            **{
                f"model.backbone.position.{key}": net[key]
                for key in ("relative", "tables", "absolute", "absolute_grid")
            },
            "model.pyramid.type": kind,
            "evaluate.padding": "full" if model.backbone.square_pad_at_test == side else "least",
        }
        if kind != "simple":
            assert pyramid.norm == {"paper": "batch", "vitdet": "layer", "plain": "none"}[head]
        assert norm[model.backbone.norm] == config.train.images_per_norm
    together = config.train.images_per_norm == config.train.batch_size
    if head == "paper":
        assert heads.box_head.conv_norm == ("naiveSyncBN_N" if together else "BN")
    assert len(channels) == 1
    found["model.pyramid.channels"] = channels.pop()
    assert detector.masks == masks
    return found


def train_batch(cfg: Any) -> int:
    return int(cfg.dataloader.train.total_batch_size)


def _target(node: Any) -> str:
    return str(node._target_ if isinstance(node._target_, str) else node._target_.__name__).rpartition(".")[2]


def _same_schedule(cfg: Any, config: RunConfig, facts: Facts) -> None:
    """The learning rate of the file against our own formula, in the warm-up up to the fall of the schedule in it."""
    from detectron2.config import instantiate

    multiplier = instantiate(cfg.lr_multiplier)
    train, last = config.train, int(cfg.train.max_iter)
    warmup = train.warmup_iterations(facts.images)
    falls = train.schedule != "step"
    fall = 1 - lr_factor(warmup, iterations=last, warmup=0, schedule=train.schedule) if falls else 0.0
    edges = [*range(min(last, warmup + 3)), *(round(last * share / 40) + d for share in range(40) for d in (-1, 0, 1))]
    for iteration in {edge for edge in edges if 0 <= edge < last}:
        ours = lr_factor(
            iteration, iterations=last, warmup=warmup, schedule=train.schedule, milestones=train.step_milestones
        )
        room = fall if iteration < warmup else 0.0
        assert multiplier(iteration / last) == pytest.approx(ours, rel=1e-6, abs=room + 1e-9), iteration


def parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def layer_decay(cfg: Any) -> object:
    function = cfg.optimizer.params.get("lr_factor_func")
    return "none" if function is None else function.keywords.get("lr_decay_rate", function.keywords.get("decay"))


def frozen(cfg: Any) -> dict[str, Any]:
    nothing = {"patch_embedding": False, "blocks": 0, "norms": False}
    return {**nothing, **dict(cfg.model.backbone.get("frozen") or {})}


@pytest.mark.parametrize("tables", ["shared", "per_block"])
def test_layer_decay_and_frozen_parts_reach_the_optimizer_of_detectron2(
    tables: str, root: Path, tmp_path: Path
) -> None:
    """Against `get_vit_lr_decay_rate` itself, and our rule for every parameter."""
    from detectron2.config import instantiate
    from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate

    from ablate.engines.detectron2 import build_optimizer
    from ablate.models.finetuning import layer_lr_factor

    changes = {
        "train.layer_decay": 0.7,
        "train.freeze.blocks": 1,
        "train.freeze.patch_embedding": True,
        "model.backbone.position.tables": tables,
    }
    config = with_changes(load_config("tiny-shapes"), changes)
    cfg = loaded(config, facts_of(config, Workspace(root)), tmp_path)
    model = instantiate(cfg.model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = build_optimizer(cfg, model).param_groups
    rates = {names[parameter]: group["lr"] for group in groups for parameter in group["params"]}
    left_out = ("backbone.net.blocks.0.", "backbone.net.patch_embed.", "backbone.net.block_bias.0.")
    assert set(rates) == {name for name in names.values() if not name.startswith(left_out)}
    for name, rate in rates.items():
        factor = layer_lr_factor(name, decay=0.7, depth=4)
        assert rate == pytest.approx(config.train.lr * factor), name
        if "block_bias" not in name:
            assert factor == get_vit_lr_decay_rate(name, lr_decay_rate=0.7, num_layers=4), name


def test_models_have_as_many_parameters_as_ours(root: Path, tmp_path: Path) -> None:
    import torch
    from detectron2.config import instantiate

    from ablate.detector.mask_rcnn import build_detector

    counted: set[bytes] = set()
    for name, config in every_config():
        key = msgspec.json.encode(config.model)
        if key in counted or name.startswith(("vit-b-coco: ", "vit-l-coco: ")):
            continue
        counted.add(key)
        facts = facts_of(config, Workspace(root))
        with torch.device("meta"):
            theirs = instantiate(loaded(config, facts, tmp_path).model)
            ours = build_detector(config.model, facts.classes)
        assert parameters(theirs) == parameters(ours), name
    assert len(counted) > 25


def test_native_models_have_as_many_parameters_too(root: Path, tmp_path: Path) -> None:
    from detectron2.config import instantiate

    from ablate.detector.mask_rcnn import build_detector

    changes = {
        "model.pyramid": {"type": "simple", "channels": 32},
        "model.backbone.position.relative": "none",
        "model.backbone.patch_size": 16,
        "model.backbone.attention.window_size": 4,
    }
    base = with_changes(load_config("tiny-shapes"), changes)
    facts, seen = facts_of(base, Workspace(root)), set()
    for axis in ("attention", "placement", "propagation", "position", "head"):
        for variant in AXES[axis].variants(base, AxisOptions()):
            if variant.blocked:
                continue
            config = with_changes(base, dict(variant.changes))
            if reasons_against(config):
                continue
            seen.add(msgspec.json.encode(config.model))
            theirs = instantiate(loaded(config, facts, tmp_path, native=True).model)
            assert parameters(theirs) == parameters(build_detector(config.model, facts.classes)), variant.name
    assert len(seen) >= 10
