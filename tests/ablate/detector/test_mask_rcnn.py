import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ablate.config.schema import Coco, RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.data.coco import TrainingSet
from ablate.data.loader import Batch, collate
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.train.optim import build_optimizer
from analysis import read_ground_truth
from tests.ablate.tiny import tiny_config

CLASSES = 80


def parameters(preset: str, *changes: str) -> dict[str, int]:
    with torch.device("meta"):
        detector = build_detector(load_config(preset, changes).model, CLASSES)
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in detector.named_children()}
    return parts | {"all": sum(parts.values())}


def relative_bias(heads: int) -> int:
    """Two tables, of windows of 14 and of the grid of 64, a column a head."""
    return heads * (27**2 + 127**2)


def test_vit_b_has_the_papers_parameters() -> None:
    """paper.md: 115.53 M + 0.15 M for a 14x14 embedding; MIMDet's 118.67 M with a 64x64 one and no bias tables."""
    small = parameters("vit-b-coco")["all"]
    large = parameters("vit-b-coco", "model.backbone.position.absolute_grid=64")["all"]
    assert large - small == (64**2 - 14**2) * 768
    assert round((small - 14**2 * 768) / 1e6, 2) == 115.53
    assert round(small / 1e6, 2) == 115.68
    assert round(large / 1e6, 2) == 118.67
    without = parameters("vit-b-coco", "model.backbone.position.relative=none")["all"]
    assert small - without == relative_bias(12) == 202_296


def test_vit_l_has_the_papers_parameters() -> None:
    """paper.md: 338.81 M + 0.2 M for the absolute embedding."""
    count = parameters("vit-l-coco")["all"]
    assert round((count - 14**2 * 1024) / 1e6, 2) == 338.81
    assert 14**2 * 1024 == 200_704


def test_resnet_101_has_the_papers_parameters() -> None:
    changes = ["model.backbone={type: resnet, depth: 101, image_size: 1024}", "model.pyramid.type=fpn"]
    assert round(parameters("vit-b-coco", *changes)["all"] / 1e6, 1) == 65.3


def test_every_part_of_vit_b_is_accounted_for() -> None:
    found = parameters("vit-b-coco")
    width, channels, batch_norm = 768, 256, 2 * 256

    def conv(inputs: int, outputs: int, side: int, *, bias: bool = True) -> int:
        return inputs * outputs * side**2 + (outputs if bias else 0)

    block = 12 * width**2 + 13 * width  # qkv, proj, fc1, fc2 with biases, two LayerNorms
    embeddings = conv(3, width, 16) + 14**2 * width + relative_bias(12)
    assert found["backbone"] == 12 * block + embeddings
    scales = 3 * conv(width, width, 2) + 2 * width  # three transposed convolutions, one GroupNorm
    fpn = 4 * (conv(width, channels, 1, bias=False) + conv(channels, channels, 3, bias=False) + 2 * batch_norm)
    assert found["pyramid"] == scales + fpn
    assert found["rpn"] == 2 * conv(channels, channels, 3) + conv(channels, 3, 1) + conv(channels, 12, 1)
    box = 4 * (conv(channels, channels, 3, bias=False) + batch_norm) + (channels * 49 + 1) * 1024 + 1025 * (81 + 320)
    mask = (
        4 * (conv(channels, channels, 3, bias=False) + batch_norm) + conv(channels, channels, 2) + conv(channels, 80, 1)
    )
    assert found["heads"] == box + mask


def test_plain_heads_lack_what_the_paper_added() -> None:
    """The RPN loses a convolution; no BatchNorm but its biases; the box head is two linear layers."""
    paper, plain = parameters("vit-b-coco"), parameters("vit-b-coco", "model.detector.head=plain")
    assert paper["backbone"] == plain["backbone"]
    assert paper["rpn"] - plain["rpn"] == 256 * 256 * 9 + 256
    assert paper["pyramid"] - plain["pyramid"] == 8 * (2 * 256 - 256)
    assert plain["heads"] - 4 * (256 * 256 * 9 + 256) - (256 * 256 * 4 + 256) - 257 * 80 == (
        (256 * 49 + 1) * 1024 + 1025 * 1024 + 1025 * 401
    )


@pytest.mark.parametrize(
    ("kind", "strides"),
    [
        ("multi_scale", [4, 8, 16, 32, 64]),
        ("last_map", [4, 8, 16, 32, 64]),
        ("simple", [4, 8, 16, 32, 64]),
        ("single_scale", [16]),
    ],
)
def test_levels_and_what_is_pooled_from(kind: str, strides: list[int]) -> None:
    with torch.device("meta"):
        detector = build_detector(load_config("vit-b-coco", [f"model.pyramid.type={kind}"]).model, CLASSES)
    assert list(detector.pyramid.strides.values()) == strides == list(detector.rpn.strides)
    assert list(detector.heads.box_pooler.strides) == strides[:4]
    anchors = detector.rpn.head.cls_logits.out_channels
    assert anchors == (15 if kind == "single_scale" else 3)


def batch_of(config: RunConfig, data: Coco, count: int = 2) -> Batch:
    training = TrainingSet(
        truth=read_ground_truth(data.annotations),
        folder=Path(data.images),
        side=32,
        scale=config.train.jitter_scale,
        flip=0.5,
        masks=config.model.detector.masks,
        seed=0,
    )
    return collate([training[0, index] for index in range(count)]).to(torch.device("cpu"))


def losses_of(detector: Detector, batch: Batch) -> dict[str, Tensor]:
    generators = [torch.Generator().manual_seed(row) for row in range(len(batch.targets))]
    found: dict[str, Tensor] = detector(batch.images, batch.sizes, batch.targets, generators)
    return found


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__detector__head": "plain"},
        {"model__detector__masks": False},
        {"model__pyramid__type": "simple"},
        {"model__pyramid__type": "last_map"},
        {"model__pyramid__type": "single_scale"},
        {
            "model__backbone": {"type": "resnet", "depth": 50, "image_size": 32},
            "model__pyramid__type": "fpn",
        },
    ],
    ids=lambda changes: ",".join(map(str, changes.values()))[:20] or "paper",
)
def test_steps_lower_the_loss(data: Coco, changes: dict[str, object]) -> None:
    config = tiny_config(data, train__lr=5e-3, **changes)
    torch.manual_seed(0)
    detector = build_detector(config.model, 2).train()
    optimizer = build_optimizer(detector, config.train)
    batch = batch_of(config, data)
    decided = []  # the box losses first rise, with the number of RoIs that have a box to learn
    for _ in range(16):
        losses = losses_of(detector, batch)
        decided.append(float((losses["rpn_objectness"] + losses["box_class"]).detach()))
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is not None for p in detector.parameters()), "every parameter takes part"
        optimizer.step()
    assert ("mask" in losses) == config.model.detector.masks
    assert min(decided[-4:]) < 0.8 * decided[0]


def test_a_batch_of_empty_images_gives_finite_losses_and_gradients(data: Coco) -> None:
    config = tiny_config(data)
    detector = build_detector(config.model, 2).train()
    batch = batch_of(config, data)
    bare = [
        dataclasses.replace(t, boxes=t.boxes[:0], labels=t.labels[:0], masks=None if t.masks is None else t.masks[:0])
        for t in batch.targets
    ]
    losses = losses_of(detector, dataclasses.replace(batch, targets=bare))
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    assert all(value.isfinite() for value in losses.values())
    assert losses["mask"] == losses["box_delta"] == losses["rpn_box"] == 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in detector.parameters())


def test_what_lies_in_the_padding_changes_no_loss_and_no_prediction(data: Coco) -> None:
    config = tiny_config(data)
    detector = build_detector(config.model, 2).eval()
    batch = batch_of(config, data)
    height, width = batch.sizes[0].tolist()
    assert (height, width) != (32, 32)
    dirty = batch.images.clone()
    dirty[0, :, height:] = 255
    dirty[0, :, :, width:] = 255
    found, again = (detector.predict(images, batch.sizes, config.evaluate) for images in (batch.images, dirty))
    assert torch.equal(found[0].boxes, again[0].boxes)
    assert torch.equal(found[0].scores, again[0].scores)
    assert found[0].boxes[:, [1, 3]].max() <= height


def test_predictions_keep_the_proposals_that_evaluation_asks_for(data: Coco) -> None:
    config = tiny_config(data, evaluate__score_threshold=0.0, evaluate__proposals_after_nms=1)
    detector = build_detector(config.model, 2).eval()
    batch = batch_of(config, data)
    more = with_changes(config, {"evaluate.proposals_after_nms": 10}).evaluate
    few, many = (detector.predict(batch.images, batch.sizes, evaluate) for evaluate in (config.evaluate, more))
    assert max(len(found.boxes) for found in few) <= 2  # one proposal, two classes
    assert max(len(found.boxes) for found in many) > 2


def test_weights_follow_the_seed(data: Coco) -> None:
    def weights(seed: int) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return build_detector(tiny_config(data).model, 2).state_dict()

    torch.testing.assert_close(weights(1), weights(1), rtol=0, atol=0)
    assert not torch.equal(weights(1)["rpn.head.cls_logits.weight"], weights(2)["rpn.head.cls_logits.weight"])
