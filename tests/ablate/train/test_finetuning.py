"""Layer-wise decay against timm and BEiT's rule, frozen parts, and the average of the weights against torch's own."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ablate.config.schema import Coco, RunConfig
from ablate.config.yaml import load_config
from ablate.detector.mask_rcnn import Detector, build_detector
from ablate.models.finetuning import freeze, layer_lr_factor
from ablate.runs.folder import RunFolder
from ablate.train.checkpoint import load_checkpoint
from ablate.train.ema import WeightAverage, decay_at
from ablate.train.optim import build_optimizer, decayed, lr_factor, set_lr
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.engines.test_training import same, trainer_of, weights
from tests.ablate.tiny import prepared, tiny_config


def factors_of(model: nn.Module, config: RunConfig) -> dict[str, float]:
    """The learning rate of each parameter over the peak, as the optimizer has it."""
    optimizer = build_optimizer(model, config.train, 4)
    set_lr(optimizer, 0.5)
    found = {parameter: group["lr"] / 0.5 for group in optimizer.param_groups for parameter in group["params"]}
    assert len(found) == sum(len(group["params"]) for group in optimizer.param_groups)
    return {name: found[parameter] for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_layer_decay_is_that_of_timm(data: Coco) -> None:
    config = tiny_config(data, train__layer_decay=0.7)
    found = factors_of(build_detector(config.model, 2), config)
    peer = timm.models.vision_transformer.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=3
    )
    groups = param_groups_layer_decay(peer, layer_decay=0.7)
    scale = {parameter: group["lr_scale"] for group in groups for parameter in group["params"]}
    theirs = {name: scale[parameter] for name, parameter in peer.named_parameters()}
    compared = 0
    for name, factor in found.items():
        part = name.removeprefix("backbone.").replace("patch_embed.", "patch_embed.proj.")
        if name.startswith("backbone.") and part in theirs:
            assert factor == pytest.approx(theirs[part]), name
            compared += 1
        else:
            assert factor == pytest.approx(theirs["head.weight"]) == 1, name
    assert compared == 3 + 4 * 12
    assert found["backbone.window_bias.table"] == 1, "of a table that blocks share, as in BEiT's and detectron2's code"


def test_a_table_of_a_block_learns_as_fast_as_the_block(data: Coco) -> None:
    config = tiny_config(data, train__layer_decay=0.5, model__backbone__position__tables="per_block")
    found = factors_of(build_detector(config.model, 2), config)
    for block in range(4):
        assert found[f"backbone.block_bias.{block}.table"] == found[f"backbone.blocks.{block}.attn.qkv.weight"]
    assert [found[f"backbone.blocks.{block}.attn.qkv.weight"] for block in range(4)] == [1 / 16, 1 / 8, 1 / 4, 1 / 2]


def test_layer_decay_leaves_weight_decay_as_it_is(data: Coco) -> None:
    config = tiny_config(data, train__layer_decay=0.7)
    model = build_detector(config.model, 2)
    optimizer = build_optimizer(model, config.train, 4)
    found = {parameter: group["weight_decay"] for group in optimizer.param_groups for parameter in group["params"]}
    with_decay, without = decayed(model)
    assert {parameter for parameter, decay in found.items() if decay == 0.05} == set(with_decay)
    assert {parameter for parameter, decay in found.items() if decay == 0} == set(without)


def test_a_convolution_between_blocks_learns_as_fast_as_the_heads() -> None:
    assert layer_lr_factor("backbone.propagation.3.convs.0.weight", decay=0.5, depth=4) == 1
    assert layer_lr_factor("backbone.pyramid.0.weight", decay=0.5, depth=4) == 1
    assert layer_lr_factor("heads.box_head.score.weight", decay=0.5, depth=4) == 1


FROZEN: dict[str, dict[str, Any]] = {
    "patch embedding": {"patch_embedding": True},
    "blocks": {"blocks": 2},
    "norms": {"norms": True},
    "all": {"patch_embedding": True, "blocks": 3, "norms": True},
}


@pytest.mark.parametrize("what", FROZEN.values(), ids=list(FROZEN))
def test_what_is_frozen_has_no_gradient_and_no_step(what: dict[str, Any], tmp_path: Path, data: Coco) -> None:
    changes = {f"train__freeze__{key}": value for key, value in what.items()}
    config = tiny_config(data, train__iterations=2, train__weight_decay=0.5, **changes)
    trainer = trainer_of(prepared(tmp_path, config))
    before = {name: parameter.detach().clone() for name, parameter in trainer.module.named_parameters()}
    norms = tuple(f"norm{number}.{kind}" for number in (1, 2) for kind in ("weight", "bias"))
    blocks = tuple(f"backbone.blocks.{block}." for block in range(what.get("blocks", 0)))
    expected = {
        name
        for name in before
        if name.startswith(blocks)
        or (what.get("patch_embedding") and name.startswith("backbone.patch_embed."))
        or (what.get("norms") and name.startswith("backbone.") and name.endswith(norms))
    }
    assert expected
    stepped = {parameter for group in trainer.optimizer.param_groups for parameter in group["params"]}
    trainer.train()
    for name, parameter in trainer.module.named_parameters():
        assert (parameter in stepped) == (name not in expected)
        assert parameter.grad is None
        unchanged = torch.equal(parameter, before[name])
        if name in expected:
            assert unchanged, name
        elif name.startswith("backbone.blocks.") and name.endswith("weight"):
            assert not unchanged, name


def test_tables_of_frozen_blocks_are_frozen_and_shared_ones_are_not(data: Coco) -> None:
    model = build_detector(tiny_config(data, model__backbone__position__tables="per_block").model, 2)
    freeze(model.backbone, blocks=2)  # type: ignore[arg-type]
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert {name for name in frozen if "table" in name} == {f"backbone.block_bias.{block}.table" for block in (0, 1)}
    model = build_detector(tiny_config(data).model, 2)
    freeze(model.backbone, blocks=3, patch_embedding=True, norms=True)  # type: ignore[arg-type]
    assert all(p.requires_grad for name, p in model.named_parameters() if name.endswith((".table", "pos_embed")))


def test_the_average_is_that_of_torch_once_its_decay_is_reached() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours, first = WeightAverage(model, 0.5), 9  # from step 8 on the decay is 0.5: 9 / 18
    peer = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    peer.update_parameters(model)  # the first call copies
    assert decay_at(first - 1, 0.5) == 0.5
    for step in range(first, first + 5):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(6, 3))
        ours.update(model, step)
        peer.update_parameters(model)
    expected = {name: value for name, value in peer.module.state_dict().items() if value.is_floating_point()}
    torch.testing.assert_close({name: ours.values[name] for name in expected}, expected)
    assert ours.values["1.num_batches_tracked"] == model[1].num_batches_tracked == 5


def test_a_short_run_forgets_its_first_weights() -> None:
    """With a constant 0.9998 they would weigh 0.89 after 560 steps."""
    left = 1.0
    for step in range(560):
        left *= decay_at(step, 0.9998)
    assert left < 1e-8


EMA = {"train__ema": 0.9, "train__layer_decay": 0.8, "train__freeze__blocks": 1, "model__backbone__drop_path": 0.3}


def test_the_average_is_kept_resumed_bit_by_bit_and_predicted_with(tmp_path: Path, data: Coco) -> None:
    config = tiny_config(data, model__detector__head="paper", **EMA)
    whole = prepared(tmp_path, config, "whole")
    trainer = trainer_of(whole, RuntimeOptions(checkpoint_iterations=1, curve_iterations=2))
    trainer.train()
    states = {path.stem: load_checkpoint(path) for path in whole.checkpoints_newest_first()}
    assert list(states) == ["00000006", "00000005"]
    # By hand: the average after step 5 and the weights after step 6 make that after step 6.
    share, before, after = 1 - decay_at(5, 0.9), states["00000005"], states["00000006"]
    for name, value in after["ema"].items():
        if value.is_floating_point():
            expected = before["ema"][name].lerp(after["model"][name], share)
            torch.testing.assert_close(value, expected, rtol=0, atol=0)
    same(dict(trainer.module.state_dict()), after["ema"])  # which is predicted with
    assert not torch.equal(after["ema"]["rpn.head.cls_logits.weight"], after["model"]["rpn.head.cls_logits.weight"])

    stopped = prepared(tmp_path, config, "stopped")
    (stopped.checkpoints / "00000005.pt").write_bytes((whole.checkpoints / "00000005.pt").read_bytes())
    resumed = trainer_of(stopped)
    resumed.train()
    same(weights(stopped), after["model"])
    same(load_checkpoint(stopped.checkpoints / "00000006.pt")["ema"], after["ema"])
    again = trainer_of(stopped)  # nothing is left to train, as where only the evaluation has changed
    again.train()
    same(dict(again.module.state_dict()), after["ema"])


def test_curves_are_of_the_average_and_change_nothing(tmp_path: Path, data: Coco) -> None:
    config = tiny_config(data, **EMA)
    plain, curves = (prepared(tmp_path, config, name) for name in ("plain", "curves"))
    trainer_of(plain).train()
    trainer = trainer_of(curves, RuntimeOptions(curve_iterations=2))
    seen: list[bool] = []

    def validate() -> dict[str, float]:
        assert trainer.average is not None
        state = trainer.module.state_dict()
        seen.append(all(torch.equal(state[name], value) for name, value in trainer.average.values.items()))
        return {}

    trainer.validate = validate
    trainer.train()
    assert seen == [True, True]
    same(weights(curves), weights(plain))


def test_a_checkpoint_without_an_average_is_not_taken_for_one(tmp_path: Path, data: Coco) -> None:
    folder = prepared(tmp_path, tiny_config(data))
    trainer_of(folder).train()
    other = RunFolder(folder.path)
    (tmp_path / "other").mkdir()
    averaged = prepared(tmp_path, tiny_config(data, **EMA), "averaged")
    (averaged.checkpoints / "00000006.pt").write_bytes((other.checkpoints / "00000006.pt").read_bytes())
    with pytest.raises(BadInput, match="every checkpoint is damaged"):
        trainer_of(averaged).train()


def test_linear_falls_straight_to_nothing() -> None:
    factors = [lr_factor(i, iterations=8, warmup=1, schedule="linear") for i in range(8)]
    assert factors == pytest.approx([0.5, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


def test_heads_of_vitdet_have_layer_norms_and_no_batch_norm(data: Coco) -> None:
    plain, vitdet, paper = (
        build_detector(tiny_config(data, model__detector__head=head, model__pyramid__type="simple").model, 2)
        for head in ("plain", "vitdet", "paper")
    )

    def count(model: Detector, kind: type[nn.Module]) -> int:
        return sum(isinstance(module, kind) for module in model.modules())

    assert count(vitdet, nn.BatchNorm2d) == 0 < count(paper, nn.BatchNorm2d)
    assert count(vitdet, nn.LayerNorm) - count(plain, nn.LayerNorm) == count(paper, nn.BatchNorm2d) == 8
    assert len(vitdet.rpn.head.conv) == 2


RESNET = ["model.backbone={type: resnet, depth: 50, image_size: 64}", "model.pyramid.type=fpn"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["train.layer_decay=0.7", *RESNET], "counts the blocks of a ViT, but model.backbone is a resnet"),
        (["train.freeze.norms=true", *RESNET], "names parts of a ViT, but model.backbone is a resnet"),
        (["train.freeze.blocks=4"], "freeze.blocks 4 freezes all 4 blocks; choose at most 3"),
        (["train.layer_decay=0"], "above 0 and at most 1"),
        (["train.layer_decay=1.1"], "above 0 and at most 1"),
        (["train.ema=1"], "above 0 and below 1"),
        (["train.ema=0"], "above 0 and below 1"),
        (["train.ema=0.9", "train.iterations=0"], "iterations: must be a whole number at least 1"),
        (["train.freeze.block=1"], "unknown key; did you mean blocks"),
        (["train.freeze=all"], "freeze: must be a mapping"),
        (["train.schedule=polynomial"], "must be one of cosine, linear, step"),
    ],
)
def test_what_cannot_be_is_refused(changes: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        load_config("tiny-shapes", changes)
