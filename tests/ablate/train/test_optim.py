import torch
from torch import nn

from ablate.config.schema import Coco
from ablate.detector.mask_rcnn import build_detector
from ablate.train.optim import build_optimizer, decayed, set_lr
from tests.ablate.tiny import tiny_config


def test_norms_and_positions_have_no_weight_decay(data: Coco) -> None:
    config = tiny_config(data)
    model = build_detector(config.model, 2)
    with_decay, without = decayed(model)
    names = {parameter: name for name, parameter in model.named_parameters()}
    norms = {
        f"{name}.{kind}"
        for name, module in model.named_modules()
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    positions = {"backbone.pos_embed", "backbone.window_bias.table", "backbone.global_bias.table"}
    assert {names[p] for p in without} == norms | positions
    assert len(with_decay) + len(without) == len(names)
    assert "backbone.blocks.0.attn.qkv.bias" in {names[p] for p in with_decay}

    optimizer = build_optimizer(model, config.train)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0]
    set_lr(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_decay_acts_where_it_should(data: Coco) -> None:
    config = tiny_config(data, train__weight_decay=0.5, train__lr=0.1)
    model = build_detector(config.model, 2)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, config.train)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    after = dict(model.named_parameters())
    torch.testing.assert_close(after["rpn.head.cls_logits.weight"], before["rpn.head.cls_logits.weight"] * 0.95)
    assert torch.equal(after["backbone.pos_embed"], before["backbone.pos_embed"])
    assert torch.equal(after["backbone.blocks.1.norm1.weight"], before["backbone.blocks.1.norm1.weight"])
