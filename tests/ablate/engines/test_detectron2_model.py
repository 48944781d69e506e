"""detectron2's model with our weights against our own: features, losses and detections; its optimizer and its step."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config.schema import RunConfig
from ablate.config.yaml import with_changes
from ablate.data.sources import locate
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.engines.base import training_set
from ablate.engines.lazyconfig import facts_of, lazyconfig_text
from ablate.runs.folder import Workspace
from ablate.train.distributed import generator
from analysis import read_ground_truth
from tests.ablate.engines.detectron2_names import renamed
from tests.ablate.tiny import SIDE, tiny_config
from tests.detectron2 import needs_detectron2

pytestmark = needs_detectron2

ALL = 100_000  # a sample so large that everything is in it, and nothing is drawn
SPREAD = ("score.weight", "deltas.weight", "cls_logits.weight", "bbox_pred.weight", "logits.weight")
KINDS: dict[str, dict[str, Any]] = {
    "paper": {},
    "plain": {"model.detector.head": "plain"},
    "single scale": {
        "model.pyramid": {"type": "single_scale", "channels": 8},
        "model.detector.anchors.sizes": [6.3, 12.7],  # without ties, which rounding decides
    },
    "simple": {"model.pyramid": {"type": "simple", "channels": 8}},
    "last map": {
        "model.pyramid": {"type": "last_map", "channels": 8},
        "model.backbone.layer_scale": 0.1,
        "model.backbone.position.tables": "per_block",
    },
    "convolutions, boxes": {
        "model.backbone.attention.pattern": "window",
        "model.backbone.attention.propagation": "conv_basic",
        "model.detector.masks": False,
    },
    "resnet": {
        "model.backbone": {"type": "resnet", "depth": 50, "image_size": SIDE},
        "model.pyramid": {"type": "fpn", "channels": 8},
    },
}


def config_of(kind: str, data: Any, **changes: Any) -> RunConfig:
    everything = {
        "model.detector.rpn_anchors_per_image": ALL,
        "model.detector.rois_per_image": ALL,
        "evaluate.score_threshold": 0.02,
    }
    return with_changes(tiny_config(data), {**KINDS[kind], **everything, **changes})


def loaded(config: RunConfig, folder: Path) -> Any:
    from detectron2.config import LazyConfig

    path = folder / "config.py"
    path.write_text(lazyconfig_text(config, facts_of(config, Workspace(folder)), "test"), encoding="utf-8")
    return LazyConfig.load(str(path))


def both(config: RunConfig, folder: Path) -> tuple[Detector, Any]:
    """Our detector and detectron2's with the same weights, spread so far that no two scores are alike."""
    from detectron2.config import instantiate

    torch.manual_seed(3)
    ours = build_detector(config.model, 2)
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            if name.endswith(
                ("score.weight", "deltas.weight", "cls_logits.weight", "bbox_pred.weight", "logits.weight")
            ):
                parameter.normal_(std=0.2)
        for name, statistic in ours.named_buffers():
            if name.endswith("running_mean"):
                statistic.normal_(std=0.1)
    theirs = instantiate(loaded(config, folder).model)
    convs = 2 if config.model.detector.head == "paper" else 1
    theirs.load_state_dict(renamed(ours.state_dict(), convs))  # strictly
    return ours, theirs


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_give_the_same_features(kind: str, data: Any, tmp_path: Path) -> None:
    ours, theirs = both(config_of(kind, data), tmp_path)
    images = torch.randn(2, 3, SIDE, SIDE)
    for module in (ours.eval(), theirs.eval()), (ours.train(), theirs.train()):
        first = ours.pyramid(ours.backbone(images))
        second = module[1].backbone(images)
        assert list(first) == list(second)
        for name, feature in first.items():
            assert torch.equal(feature, second[name]), name  # bit for bit
        shapes = theirs.backbone.output_shape()
        assert {name: (shape.stride, shape.channels) for name, shape in shapes.items()} == {
            name: (stride, ours.pyramid.channels) for name, stride in ours.pyramid.strides.items()
        }


def sample_of(config: RunConfig, folder: Path, index: int) -> Any:
    files = locate(config.data.train, Workspace(folder))
    return training_set(config, read_ground_truth(files.annotations), files)[0, index]


def inputs_of(sample: Any) -> dict[str, Any]:
    """Our training sample as detectron2 takes it."""
    from detectron2.structures import BitMasks, Boxes, Instances

    height, width = sample.size
    instances = Instances((height, width))
    instances.gt_boxes = Boxes(sample.target.boxes)
    instances.gt_classes = sample.target.labels
    if sample.target.masks is not None:
        instances.gt_masks = BitMasks(sample.target.masks[:, :height, :width].bool())
    return {"image": sample.image[:, :height, :width], "instances": instances}


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_and_images_give_the_same_losses(kind: str, data: Any, tmp_path: Path) -> None:
    from ablate.engines.detectron2 import Detectron2Engine

    config = config_of(kind, data)
    ours, theirs = both(config, tmp_path)
    samples = [sample_of(config, tmp_path, index) for index in (0, 1)]
    images = torch.stack([sample.image for sample in samples])
    sizes = torch.tensor([sample.size for sample in samples])
    draw = [generator(torch.device("cpu"), 0)] * 2
    ours.train()
    theirs.train()
    if kind == "resnet":  # statistics of two positions would blow up the last digits, in which the inputs differ
        ours.backbone.eval()
        theirs.backbone.bottom_up.eval()
    first = ours(images, sizes, [sample.target for sample in samples], draw)
    second = Detectron2Engine.losses(theirs, [inputs_of(sample) for sample in samples], draw)
    assert first.keys() == second.keys()
    for name, loss in first.items():
        assert loss.item() > 0, name
        assert second[name].item() == pytest.approx(loss.item(), rel=1e-4), name


@pytest.mark.parametrize("padding", ["full", "least"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_weights_give_the_same_detections(kind: str, padding: str, data: Any, tmp_path: Path) -> None:
    config = config_of(kind, data, **{"evaluate.padding": padding})
    ours, theirs = both(config, tmp_path)
    sample = sample_of(config, tmp_path, 2)
    height, width = sample.size
    multiple = ours.heads.box_pooler.strides[-1]
    rows, columns = (SIDE, SIDE) if padding == "full" else (-(-side // multiple) * multiple for side in (height, width))
    image = sample.image[None, :, :rows, :columns]
    (first,) = ours.eval().predict(image, torch.tensor([[height, width]]), config.evaluate)
    with torch.no_grad():
        (second,) = theirs.eval().inference([{"image": sample.image[:, :height, :width]}], do_postprocess=False)
    assert len(first.boxes) == len(second) > 5
    torch.testing.assert_close(second.pred_boxes.tensor, first.boxes, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(second.scores, first.scores, rtol=1e-4, atol=1e-5)
    assert torch.equal(second.pred_classes, first.labels)
    if first.masks is not None:
        torch.testing.assert_close(second.pred_masks[:, 0], first.masks, rtol=1e-3, atol=1e-4)


def test_norms_and_positions_have_no_weight_decay(data: Any, tmp_path: Path) -> None:
    from ablate.engines.detectron2 import build_optimizer
    from ablate.train.optim import decayed

    config = config_of("paper", data, **{"model.backbone.position.tables": "per_block"})
    ours, theirs = both(config, tmp_path)
    optimizer = build_optimizer(loaded(config, tmp_path), theirs)
    place = {id(parameter): name for name, parameter in theirs.named_parameters()}
    found = {place[id(p)]: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    with_decay, without = decayed(ours)
    ids = {id(p): name for name, p in ours.named_parameters()}
    names = {name: renamed({name: torch.zeros(0)}, 2).popitem()[0] for name in ids.values()}
    wanted = {names[ids[id(p)]]: config.train.weight_decay for p in with_decay}
    assert found == wanted | {names[ids[id(p)]]: 0.0 for p in without}
    assert {group["lr"] for group in optimizer.param_groups} == {config.train.lr}
    assert {tuple(group["betas"]) for group in optimizer.param_groups} == {config.train.betas}


def test_gradients_are_clipped_together(data: Any, tmp_path: Path) -> None:
    from ablate.engines.detectron2 import build_optimizer

    config = config_of("paper", data, **{"train.clip_norm": 0.5})
    _, theirs = both(config, tmp_path)
    optimizer = build_optimizer(loaded(config, tmp_path), theirs)
    for parameter in theirs.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    norms = torch.stack([parameter.grad.norm() for parameter in theirs.parameters() if parameter.grad is not None])
    assert norms.norm().item() == pytest.approx(0.5, rel=1e-4)


NATIVE = (
    (r"patch_embed\.", "net.patch_embed.proj."),
    (r"propagation\.(\d+)\.(conv|norm)s\.(\d)\.", lambda m: f"net.blocks.{m[1]}.residual.{m[2]}{int(m[3]) + 1}."),
    (r"(pos_embed|blocks)", r"net.\1"),
)


def native_names(ours: Detector) -> dict[str, torch.Tensor]:
    """Our weights under the names of detectron2's `SimpleFeaturePyramid(ViT)`."""
    found = {}
    for name, value in ours.backbone.state_dict().items():
        for pattern, replacement in NATIVE:
            other, hits = re.subn("^" + pattern, replacement, name)
            if hits:
                break
        found[other] = value
    for level, stage in enumerate(ours.pyramid.stages):
        scale = len(stage) - 4  # then a convolution, its norm, and the same again
        for place, layer in enumerate(stage):
            number, norm = divmod(place - scale, 2) if place >= scale else (place - scale, 0)
            for name, value in layer.state_dict().items():
                found[f"simfp_{level + 2}.{scale + number}.{'norm.' * norm}{name}"] = value
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model.backbone.attention.pattern": "window"},
        {"model.backbone.attention.pattern": "global", "model.backbone.position.absolute": "none"},
        {
            "model.backbone.attention.pattern": "window",
            "model.backbone.attention.propagation": "conv_bottleneck",
            "model.backbone.qkv_bias": False,
        },
    ],
)
def test_detectron2s_own_backbone_gives_the_same_features(changes: dict[str, Any], data: Any, tmp_path: Path) -> None:
    from detectron2.config import LazyConfig, instantiate

    side = 96  # 6 x 6 tokens, which windows of 4 do not divide
    native = {
        "model.backbone.image_size": side,
        "model.backbone.patch_size": 16,
        "model.backbone.attention.window_size": 4,
        "model.backbone.position.relative": "none",
    }
    config = config_of("simple", data, **{**native, **changes})
    path = tmp_path / "config.py"
    path.write_text(
        lazyconfig_text(config, facts_of(config, Workspace(tmp_path)), "test", native=True), encoding="utf-8"
    )
    torch.manual_seed(3)
    ours = build_detector(config.model, 2).eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    theirs = instantiate(LazyConfig.load(str(path)).model).eval()
    theirs.backbone.load_state_dict(native_names(ours))
    images = torch.randn(2, 3, side, side)
    first, second = ours.pyramid(ours.backbone(images)), theirs.backbone(images)
    assert list(first) == list(second)
    for name, feature in first.items():
        torch.testing.assert_close(second[name], feature, rtol=1e-4, atol=1e-4, msg=name)
