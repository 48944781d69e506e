"""A run's config as a LazyConfig file of detectron2: readable, self-contained, every number with its arithmetic.

The file needs detectron2 and ``ablate.models`` alone, builds on ``model_zoo``'s ``common/`` configs, and runs under
detectron2's own ``tools/lazyconfig_train_net.py``. The detectron2 engine trains from the very same file. Where the two
frameworks mean different things by a number, the text says what detectron2 does with it. What the file must know of the
data beside the config are its `Facts`.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ablate.config.schema import Coco, Freeze, PluginBackbone, ResNet, RunConfig, ViT
from ablate.config.yaml import UNPRINTABLE, with_changes
from ablate.data.coco import usable
from ablate.data.sources import Files, locate
from ablate.data.subset import is_whole
from ablate.detector.mask_rcnn import BOX_CONVS, MASK_CONVS, NORM_OF_HEAD, PYRAMIDS, RPN_CONVS
from ablate.detector.mask_rcnn import ResNet as ResNetModule
from ablate.engines.lazyconfig_native import NATIVE_MODULES, native_backbone
from ablate.runs.folder import Workspace
from analysis import GroundTruth, read_ground_truth
from analysis.exceptions import BadInput

COCO_TRAIN = "instances_train2017.json"
COCO_IMAGES = {"drop": 117_266, "keep": 118_287}  # of train2017, by `data.images_without_boxes`
COCO_CLASSES = 80
SCHEDULERS = {
    "cosine": "CosineParamScheduler",
    "linear": "LinearParamScheduler",
    "step": "MultiStepParamScheduler",
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about the data of a run.

    Attributes:
        train: files of the training set.
        validation: files of the validation set.
        images: that are trained on.
        classes: foreground categories.
        masks_as: polygons, or bitmasks where an object that is no crowd is given as run lengths.
        read: whether the annotations were read; else these are COCO's known numbers.
    """

    train: Files
    validation: Files
    images: int
    classes: int
    masks_as: Literal["polygon", "bitmask"] = "polygon"
    read: bool = True


def facts_of(config: RunConfig, workspace: Workspace) -> Facts:
    """Read the training annotations of a config; COCO's need not be on this machine.

    Raises:
        BadInput: other data is not here.
    """
    train, validation = (
        # COCO's files are named whether they are here or not; the embedded data set is made.
        Files(Path(source.annotations), Path(source.images))
        if isinstance(source, Coco) and is_whole(source)
        else locate(source, workspace)
        for source in (config.data.train, config.data.validation)
    )
    if train.annotations.is_file():
        return facts_from(config, read_ground_truth(train.annotations), train, validation)
    if train.annotations.name != COCO_TRAIN:
        raise BadInput(
            f"{train.annotations}: annotation file not found, and the export depends on its images and categories; "
            "give the data with --data"
        )
    return Facts(
        train=train,
        validation=validation,
        images=COCO_IMAGES[config.data.images_without_boxes],
        classes=COCO_CLASSES,
        read=False,
    )


def facts_from(config: RunConfig, truth: GroundTruth, train: Files, validation: Files) -> Facts:
    """The facts of a training set that is read already."""
    rows = usable(truth)
    images = truth.image_id if config.data.images_without_boxes == "keep" else np.unique(truth.image[rows])
    return Facts(
        train=train,
        validation=validation,
        images=len(images),
        classes=len(truth.category_id),
        masks_as="bitmask" if truth.masks.in_run_lengths[rows].any() else "polygon",
    )


def lazyconfig_text(config: RunConfig, facts: Facts, name: str, *, native: bool = False, weights: str = "") -> str:
    """The file.

    Args:
        config: of the run; precision is resolved. ``images_per_norm: auto`` becomes the whole batch, for any machine.
        facts: of its data.
        name: what a reader knows the config by.
        native: build the backbone of detectron2's own `SimpleFeaturePyramid(ViT)`.
        weights: file with the initial weights of the backbone under the model's names; empty where they are random, or
            where whoever loads the file puts them in.

    Raises:
        BadInput: detectron2's own backbone cannot be that of the config.
    """
    if config.train.images_per_norm == "auto":
        config = with_changes(config, {"train.images_per_norm": config.train.batch_size})
    backbone = config.model.backbone
    assert not isinstance(backbone, PluginBackbone)  # which cannot be exported
    foreign = _vit(config, backbone) if isinstance(backbone, ViT) else _resnet(config, backbone)
    return "\n".join(
        [
            _head(config, name, native),
            _imports(config, facts, native),
            _data(config, facts),
            native_backbone(config) if native else foreign,
            _detector(config, facts),
            _loaders(config, facts),
            _training(config, facts, native, weights),
        ]
    )


def level_strides(config: RunConfig) -> dict[str, int]:
    """Names of the pyramid's levels, fine to coarse, and their strides in pixels."""
    backbone = config.model.backbone
    if not isinstance(backbone, ViT):
        strides: Sequence[int] = (*ResNetModule.strides, 2 * ResNetModule.strides[-1])
    elif config.model.pyramid.type == "single_scale":
        return {"p4": backbone.patch_size}
    else:
        patch = backbone.patch_size
        strides = (patch // 4, patch // 2, patch, 2 * patch, 4 * patch)
    return {f"p{number}": stride for number, stride in enumerate(strides, start=2)}


def data_set_name(facts: Facts, split: str) -> str:
    """The name under which a data set is registered; other files give another name."""
    files = facts.train if split == "train" else facts.validation
    digest = hashlib.sha256(f"{files.annotations}\0{files.images}".encode()).hexdigest()
    return f"detablate_{split}_{digest[:8]}"


def normalised_together(config: RunConfig) -> bool:
    """Whether every BatchNorm statistic is one of the whole batch."""
    return config.train.norm_images == config.train.batch_size


def has_batch_norm(config: RunConfig) -> bool:
    """Whether the model has a BatchNorm anywhere."""
    return config.model.detector.head == "paper" or isinstance(config.model.backbone, ResNet)


def _head(config: RunConfig, name: str, native: bool) -> str:
    backbone, train = config.model.backbone, config.train
    assert not isinstance(backbone, PluginBackbone)
    what = (
        f"a plain ViT, {backbone.width} wide and {backbone.depth} deep"
        if isinstance(backbone, ViT)
        else f"ResNet-{backbone.depth}"
    )
    kind = "Mask R-CNN" if config.model.detector.masks else "Faster R-CNN"
    lines = [
        f'"""{kind} with {what}: the run {_py(name)[1:-1]} of detablate for detectron2.',
        "",
        f"Needs {_needs(config, native)}, nothing else. With detectron2's own tool:",
        "",
        "    tools/lazyconfig_train_net.py --config-file THIS_FILE --num-gpus 8",
        "    ... --resume                                                            continues from the last "
        "checkpoint",
        "    ... --eval-only train.init_checkpoint=output/model_final.pth            measures",
        "    ... optimizer.lr=8e-5 train.output_dir=elsewhere                        changes any key",
        "    ... train.device=cpu train.amp.enabled=False                            without a GPU",
        "",
        "Numbers that follow from others (iterations, warm-up, milestones) are worked out in the comments and do not",
        "move when a key is changed on the command line.",
    ]
    if has_batch_norm(config) and not normalised_together(config):
        processes = train.batch_size // train.norm_images
        lines += [
            "",
            f"A BatchNorm statistic covers {train.norm_images} of the {train.batch_size} images of a step: start "
            f"{processes} processes (--num-gpus {processes}).",
        ]
    if train.ema != "none":
        lines += ["", f"The average of the weights (train.ema {train.ema:g}) is kept by detablate's engine alone."]
    return "\n".join([*lines, '"""', ""])


def check_exportable(config: RunConfig) -> None:
    """Refuse a config of which detectron2's own tool would train something else.

    Raises:
        BadInput: it would.
    """
    if isinstance(config.model.backbone, PluginBackbone):
        raise BadInput(
            f"model.backbone {config.model.backbone.name}: comes from another package, which an exported file cannot "
            "build; train it with ablate run"
        )
    if config.train.ema != "none":
        raise BadInput(
            f"train.ema {config.train.ema:g}: detectron2's own tool keeps no average of the weights; "
            "export with --set train.ema=none, or train with ablate run --set engine=detectron2"
        )
    for name in ("compile", "channels_last"):
        if getattr(config.train, name):
            raise BadInput(
                f"train.{name}: detectron2's own tool has no such option; export with --set train.{name}=false"
            )


def _needs(config: RunConfig, native: bool) -> str:
    alone = (native or isinstance(config.model.backbone, ResNet)) and config.train.clip_norm == "none"
    return "detectron2" if alone else "detectron2 and `ablate.models` of detablate (torch alone)"


def _imports(config: RunConfig, facts: Facts, native: bool) -> str:
    vit = isinstance(config.model.backbone, ViT) and not native
    warm = config.train.warmup_iterations(facts.images) > 0
    scheduler = SCHEDULERS[config.train.schedule]
    ours_of_rate = _rate_of_layers(config, native) == "layer_lr_factor"
    theirs_of_rate = _rate_of_layers(config, native) == "get_vit_lr_decay_rate"
    ours = ["ClippedAdamW"] * (config.train.clip_norm != "none") + ["PlainBackbone"] * vit
    models = sorted([PYRAMIDS[config.model.pyramid.type].__name__, "ViT"]) if vit else []
    return "\n".join(
        [
            *(["from functools import partial", ""] if native or ours_of_rate or theirs_of_rate else []),
            *(["from torch import nn"] if native else []),
            f"from fvcore.common.param_scheduler import {scheduler}",
            "",
            "import detectron2.data.transforms as T",
            "from detectron2 import model_zoo",
            "from detectron2.config import LazyCall as L",
            "from detectron2.data import DatasetCatalog",
            "from detectron2.data.datasets import register_coco_instances",
            *(NATIVE_MODULES if native else ()),
            *(["from detectron2.modeling.backbone.vit import get_vit_lr_decay_rate"] if theirs_of_rate else []),
            *(["from detectron2.solver import WarmupParamScheduler"] if warm else []),
            "",
            *([f"from ablate.models import {', '.join(models)}"] if models else []),
            *([f"from ablate.models.detectron2 import {', '.join(ours)}"] if ours else []),
            *(["from ablate.models.finetuning import layer_lr_factor"] if ours_of_rate else []),
            *([""] if models or ours else []),
        ]
    )


def _data(config: RunConfig, facts: Facts) -> str:
    side = config.model.backbone.image_size
    train, test = data_set_name(facts, "train"), data_set_name(facts, "validation")
    return f"""# Data

sets = [
    ({_py(train)}, {_py(str(facts.train.annotations))}, {_py(str(facts.train.images))}),
    ({_py(test)}, {_py(str(facts.validation.annotations))}, {_py(str(facts.validation.images))}),
]
for name, annotations, images in sets:
    if name not in DatasetCatalog.list():  # a file may be loaded twice
        register_coco_instances(name, {{}}, annotations, images)

side = {side}  # pixels of the square input
"""


def _vit(config: RunConfig, vit: ViT) -> str:
    attention, position, pyramid = vit.attention, vit.position, config.model.pyramid
    grid = vit.image_size // vit.patch_size
    kind = PYRAMIDS[pyramid.type]
    norm = "" if pyramid.type == "simple" else f", norm={_py(NORM_OF_HEAD[config.model.detector.head])}"
    at_test = "side" if config.evaluate.padding == "full" else "0"
    scheme = "" if config.init.scheme == "random" else f"\n        scheme={_py(config.init.scheme)},"
    return f"""# Model: the backbone

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone = L(PlainBackbone)(
    net=L(ViT)(
        width={vit.width},
        depth={vit.depth},
        heads={vit.heads},
        image_size=side,
        patch_size={vit.patch_size},  # {vit.image_size} / {vit.patch_size} = {grid}, a grid of {grid} x {grid} tokens
        mlp_ratio={_py(vit.mlp_ratio)},
        pattern={_py(attention.pattern)},
        window_size={attention.window_size},
        global_blocks={_py(attention.global_blocks)},
        global_count={attention.global_count},
        propagation={_py(attention.propagation)},
        kernel={_py(attention.kernel)},
        checkpoint={_py(attention.checkpoint)},  # blocks recomputed in the backward pass
        relative={_py(position.relative)},
        tables={_py(position.tables)},
        absolute={_py(position.absolute)},
        absolute_grid={position.absolute_grid},
        layer_scale={_py(None if vit.layer_scale == "none" else vit.layer_scale)},
        drop_path={_py(vit.drop_path)},
        qkv_bias={_py(vit.qkv_bias)},
        taps={_py(kind.taps)},{scheme}
    ),
    pyramid=L({kind.__name__})(
        width="${{..net.width}}", patch_size="${{..net.patch_size}}", channels={pyramid.channels}{norm}
    ),
    norm={_py(_norm(config, "SyncBN"))},  # in the place of the pyramid's BatchNorm, where it has any
    square_pad=side,  # with zeros after normalisation, below and on the right
    square_pad_at_test={at_test},{"" if config.evaluate.padding == "full" else "  # to a multiple of the stride"}
{_frozen(config)})
"""


def _frozen(config: RunConfig) -> str:
    """The line that keeps parts of a ViT from being trained, where there are any."""
    values = msgspec.structs.asdict(config.train.freeze)
    if config.train.freeze == Freeze():
        return ""
    return f"    frozen={{{', '.join(f'{_py(key)}: {value!r}' for key, value in values.items())}}},\n"


def _resnet(config: RunConfig, resnet: ResNet) -> str:
    norm = _norm(config, "SyncBN")
    return f"""# Model: the backbone, detectron2's own

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone.bottom_up.freeze_at = 0  # trained from random weights
model.backbone.bottom_up.stages.depth = {resnet.depth}
model.backbone.bottom_up.stages.stride_in_1x1 = False  # as torchvision's
model.backbone.bottom_up.stem.norm = model.backbone.bottom_up.stages.norm = {_py(norm)}
model.backbone.norm = {_py({"paper": norm, "vitdet": "LN", "plain": ""}[config.model.detector.head])}
model.backbone.out_channels = {config.model.pyramid.channels}
model.backbone.square_pad = {"side" if config.evaluate.padding == "full" else "0  # pad to a multiple of the stride"}
"""


def _norm(config: RunConfig, together: str) -> str:
    return together if normalised_together(config) else "BN"


def _py(value: object) -> str:
    """A value as a Python literal, strings in double quotes."""
    if isinstance(value, str):
        quoted = json.dumps(value, ensure_ascii=False)
        return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_py(item) for item in value) + "]"
    return repr(value)


def _detector(config: RunConfig, facts: Facts) -> str:
    model, detector, evaluate = config.model, config.model.detector, config.evaluate
    levels = level_strides(config)
    single = len(levels) == 1
    pooled = list(levels) if single else list(levels)[:-1]
    sizes = [list(detector.anchors.sizes)] if single else [[size] for size in detector.anchors.sizes]
    ratios = list(detector.anchors.aspect_ratios)
    channels, proposals = model.pyramid.channels, detector.proposals
    before = (proposals.train_before_nms, evaluate.proposals_before_nms)
    after = (proposals.train_after_nms, evaluate.proposals_after_nms)
    convolved = detector.head != "plain"
    norm = {"paper": _norm(config, "naiveSyncBN_N"), "vitdet": "LN", "plain": ""}[detector.head]
    why = "  # torch's SyncBatchNorm takes no batch without RoIs" if "naive" in norm else ""
    rpn_convs = [-1] * (RPN_CONVS if convolved else 1)
    convs = [detector.box_conv_channels] * BOX_CONVS if convolved else []
    mask_convs = [detector.mask_conv_channels] * (MASK_CONVS + 1)
    masks = (
        f"""model.roi_heads.mask_in_features = {_py(pooled)}
model.roi_heads.mask_pooler.scales = model.roi_heads.box_pooler.scales
model.roi_heads.mask_head.input_shape.channels = {channels}
model.roi_heads.mask_head.conv_dims = {mask_convs}  # {MASK_CONVS} and the upsampling
model.roi_heads.mask_head.conv_norm = {_py(norm)}
"""
        if detector.masks
        else """for part in ("mask_in_features", "mask_pooler", "mask_head"):  # boxes only
    del model.roi_heads[part]
"""
    )
    return f"""# Model: proposals and heads

model.input_format = "RGB"
model.pixel_mean = [255 * value for value in {list(model.pixel_mean)}]
model.pixel_std = [255 * value for value in {list(model.pixel_std)}]

model.proposal_generator.in_features = {_py(list(levels))}
model.proposal_generator.head.in_channels = {channels}
model.proposal_generator.head.num_anchors = {len(sizes[0])} * {len(ratios)}  # sizes and aspect ratios of a level
model.proposal_generator.head.conv_dims = {rpn_convs}  # hidden convolutions, as wide as their input
model.proposal_generator.anchor_generator.sizes = {sizes}
model.proposal_generator.anchor_generator.aspect_ratios = {ratios}
model.proposal_generator.anchor_generator.strides = {list(levels.values())}
model.proposal_generator.batch_size_per_image = {detector.rpn_anchors_per_image}
model.proposal_generator.pre_nms_topk = {before}  # training, test
model.proposal_generator.post_nms_topk = {after}
model.proposal_generator.nms_thresh = {proposals.nms_threshold}

model.roi_heads.num_classes = {facts.classes}
model.roi_heads.batch_size_per_image = {detector.rois_per_image}
model.roi_heads.box_in_features = {_py(pooled)}
model.roi_heads.box_pooler.scales = [1 / stride for stride in {[levels[name] for name in pooled]}]
model.roi_heads.box_head.input_shape.channels = {channels}
model.roi_heads.box_head.conv_dims = {convs}
model.roi_heads.box_head.conv_norm = {_py(norm)}{why}
model.roi_heads.box_head.fc_dims = {[detector.box_fc] if convolved else [detector.box_fc] * 2}
model.roi_heads.box_predictor.input_shape.channels = {detector.box_fc}  # the last of fc_dims
model.roi_heads.box_predictor.test_score_thresh = {evaluate.score_threshold}
model.roi_heads.box_predictor.test_nms_thresh = {evaluate.nms_threshold}
model.roi_heads.box_predictor.test_topk_per_image = {evaluate.max_detections}
{masks}"""


def _loaders(config: RunConfig, facts: Facts) -> str:
    train, masks = config.train, config.model.detector.masks
    low, high = train.jitter_scale
    return f"""# Images: large-scale jitter

dataloader = model_zoo.get_config("common/data/coco.py").dataloader
dataloader.train.dataset.names = {_py(data_set_name(facts, "train"))}
dataloader.train.dataset.filter_empty = {config.data.images_without_boxes == "drop"}
dataloader.train.mapper.image_format = "RGB"
dataloader.train.mapper.augmentations = [
    L(T.RandomFlip)(horizontal=True, prob={_py(train.flip)}),
    L(T.ResizeScale)(min_scale={_py(low)}, max_scale={_py(high)}, target_height=side, target_width=side),
    L(T.FixedSizeCrop)(crop_size=(side, side), pad=False),  # the backbone pads
]
dataloader.train.mapper.use_instance_mask = {masks}
dataloader.train.mapper.instance_mask_format = {_py(facts.masks_as)}
dataloader.train.mapper.recompute_boxes = {masks}  # boxes of what a crop leaves of the masks
dataloader.train.total_batch_size = {train.batch_size}
dataloader.test.dataset.names = {_py(data_set_name(facts, "validation"))}
dataloader.test.mapper.augmentations = [L(T.ResizeShortestEdge)(short_edge_length=side, max_size=side)]
dataloader.evaluator.output_dir = "${{train.output_dir}}/inference"
"""


def _training(config: RunConfig, facts: Facts, native: bool, weights: str) -> str:
    train = config.train
    iterations, warmup = train.total_iterations(facts.images), train.warmup_iterations(facts.images)
    epoch = max(1, facts.images // train.batch_size)
    length = (
        f"  # {train.epochs:g} epochs x {facts.images:,} images / {train.batch_size} a batch"
        if isinstance(train.epochs, float)
        else f"  # {iterations * train.batch_size / facts.images:.4g} epochs of {facts.images:,} images"
    )
    tables = "" if native else ', "table": {"weight_decay": 0.0}'
    clipping = (
        ""
        if train.clip_norm == "none"
        else f"\noptimizer._target_ = ClippedAdamW\noptimizer.clip_norm = {_py(train.clip_norm)}"
    )
    about_precision = {
        "fp32": "for `enabled` alone",
        "fp16": "with loss scaling",
        "bf16": "read by detablate's engine; detectron2's tool always takes fp16 with loss scaling",
    }[train.precision]
    return f"""# Training

train = model_zoo.get_config("common/train.py").train
train.max_iter = {iterations}{length}
train.init_checkpoint = {_py(_without_interpolation(weights))}{_about_weights(config, weights)}
train.seed = {config.seed}
train.amp.enabled = {train.precision != "fp32"}
train.amp.precision = {_py(train.precision)}  # {about_precision}
train.checkpointer.period = {epoch}  # an epoch: {facts.images:,} / {train.batch_size}
train.checkpointer.max_to_keep = 2
train.eval_period = train.max_iter  # once, at the end

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer.lr = {_py(train.lr)}
optimizer.betas = {_py(train.betas)}
optimizer.weight_decay = {_py(train.weight_decay)}
optimizer.params.weight_decay_norm = 0.0  # nor on positions:
optimizer.params.overrides = {{"pos_embed": {{"weight_decay": 0.0}}{tables}}}{_layer_decay(config, native)}{clipping}

{_schedule(config, iterations, warmup, facts.images)}"""


def _rate_of_layers(config: RunConfig, native: bool) -> str:
    """The function that gives each parameter its factor of the learning rate; empty where all have the same rate."""
    backbone = config.model.backbone
    if config.train.layer_decay == "none" or not isinstance(backbone, ViT):
        return ""
    # detectron2's would not see that a table of relative positions belongs to a block.
    own_tables = not native and backbone.position.tables == "per_block" and backbone.position.relative != "none"
    return "layer_lr_factor" if own_tables else "get_vit_lr_decay_rate"


def _layer_decay(config: RunConfig, native: bool) -> str:
    """The line that lets the learning rate fall with the depth."""
    function, backbone = _rate_of_layers(config, native), config.model.backbone
    if not function or not isinstance(backbone, ViT):
        return ""
    names = ("decay", "depth") if function == "layer_lr_factor" else ("lr_decay_rate", "num_layers")
    arguments = f"{names[0]}={_py(config.train.layer_decay)}, {names[1]}={backbone.depth}"
    return f"\noptimizer.params.lr_factor_func = partial({function}, {arguments})"


def _without_interpolation(text: str) -> str:
    r"""Text that OmegaConf takes as it is: ``${`` would refer to another key.

    >>> _without_interpolation("/a/${b}.pth")
    '/a/\\${b}.pth'
    """
    return re.sub(r"(\\*)\$\{", lambda found: found[1] * 2 + r"\${", text)


def _about_weights(config: RunConfig, weights: str) -> str:
    if config.init.is_random:
        return "  # random weights"
    return "  # the backbone's; the rest is random" if weights else "  # detablate's engine loads the backbone's"


def _schedule(config: RunConfig, iterations: int, warmup: int, images: int) -> str:
    train = config.train
    if train.schedule == "linear":
        falling = "L(LinearParamScheduler)(start_value=1.0, end_value=0.0)"
    elif train.schedule == "cosine":
        falling = "L(CosineParamScheduler)(start_value=1.0, end_value=0.0)"
    else:
        # Milestones that a short run does not reach before its end change nothing.
        found = [milestone_iteration(milestone, iterations) for milestone in train.step_milestones]
        milestones = sorted({milestone for milestone in found if milestone < iterations})
        drops = [sum(other <= milestone for other in found) for milestone in milestones]
        values = [1.0, *(float(f"1e-{drop}") for drop in drops)]
        shares = ", ".join(f"{share:.6g}" for share in train.step_milestones)
        falling = f"""L(MultiStepParamScheduler)(
        values={values},
        milestones={milestones},  # {shares} of the run
        num_updates={iterations},
    )"""
    if not warmup:
        return f"lr_multiplier = {falling}\n"
    length = f"{train.warmup_epochs:g} epochs x {images:,} / {train.batch_size} = {warmup} iterations"
    return f"""lr_multiplier = L(WarmupParamScheduler)(
    scheduler={falling},
    warmup_length={warmup} / {iterations},  # {length}
    warmup_factor=1 / {warmup + 1},  # the first of {warmup} equal steps up
)
"""


def milestone_iteration(milestone: float, iterations: int) -> int:
    """The first iteration that a milestone of the step schedule has passed.

    >>> milestone_iteration(8 / 9, 90_000), milestone_iteration(0.5, 3)
    (80000, 2)
    """
    return next(i for i in range(int(milestone * iterations), iterations + 1) if i / iterations >= milestone)
