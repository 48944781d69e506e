"""Positions on other grids against independent arithmetic, all else accounted for, and what does not fit refused."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.config.schema import RunConfig
from ablate.config.yaml import with_changes
from ablate.models.position import fit_table, rel_pos_interp
from ablate.weights.build import build_vit
from ablate.weights.convert import ConversionReport, check_weights, load_weights
from ablate.weights.inspect import report_fields
from analysis.exceptions import BadInput
from tests.ablate.weights import references as r
from tests.ablate.weights.test_families import config_for, loaded

Save = Callable[..., Path]
POSITION = "model.backbone.position"
HYBRID = {"model.backbone.attention.pattern": "hybrid"}  # blocks 1 and 3 are global, 0 and 2 in windows of 2


def state(config: RunConfig) -> tuple[dict[str, Tensor], ConversionReport]:
    backbone, report = loaded(config)
    return backbone.state_dict(), report


def tables(saved: dict[str, object], key: str = "module") -> list[Tensor]:
    weights: dict[str, Tensor] = saved[key]  # type: ignore[assignment]
    return [weights[f"blocks.{n}.attn.relative_position_bias_table"][:-3] for n in range(r.DEPTH)]


def test_the_embedding_is_resized_to_the_grid_that_stores_it(save: Save, data: object) -> None:
    reference = r.deit()
    config = with_changes(config_for(save(reference.saved), data), {f"{POSITION}.absolute_grid": 6})
    found, report = state(config)
    whole = reference.saved["model"]["pos_embed"]  # type: ignore[index]
    square = whole[:, 1:].reshape(1, 4, 4, r.WIDTH).permute(0, 3, 1, 2)
    expected = F.interpolate(square, size=(6, 6), mode="bicubic", align_corners=False)
    torch.testing.assert_close(found["pos_embed"], expected.flatten(2).transpose(1, 2))
    assert [msgspec.structs.astuple(one) for one in report.resized] == [("pos_embed", (4, 4), (6, 6), "bicubic")]


def test_a_shared_table_goes_to_windows_and_to_the_whole(save: Save, data: object) -> None:
    """Cut to the windows of 2 tokens; stretched over a grid of 8, where the image is twice that of pre-training."""
    reference = r.beit_pretrained()
    config = with_changes(config_for(save(reference.saved), data), {**HYBRID, "model.backbone.image_size": 64})
    found, report = state(config)
    table = reference.saved["model"]["rel_pos_bias.relative_position_bias_table"][:-3].view(7, 7, r.HEADS)  # type: ignore
    torch.testing.assert_close(found["window_bias.table"].view(3, 3, -1), table[2:5, 2:5])
    grown = rel_pos_interp(4, 8).float()  # checked against SciPy and BEiT in tests/ablate/models
    expected = torch.einsum("yj,xi,jih->yxh", grown, grown, table)
    torch.testing.assert_close(found["global_bias.table"].view(15, 15, -1), expected, rtol=1e-4, atol=1e-5)
    assert [(one.target, one.before, one.after, one.how[:3]) for one in report.resized] == [
        ("window_bias.table", (4, 4), (2, 2), "cut"),
        ("global_bias.table", (4, 4), (8, 8), "geo"),
    ]
    folded = {line["source"]: line["target"] for line in report_fields(report)["mapped"]}  # type: ignore[attr-defined]
    assert folded["rel_pos_bias.relative_position_bias_table"] == "window_bias.table, global_bias.table"


# BEiT's bisection and SciPy 1.17's ``RectBivariateSpline(x, x, z, kx=3, ky=3, s=0)`` in place of the ``interp2d`` that
# is gone, for z(i, j) = cos(i / 3) + sin(i j / 50), from windows of 14 tokens to a grid of 64: row, column, value.
STRETCHED = (
    (0, 0, 0.9999998641132849),
    (3, 120, 1.1010263814501189),
    (40, 63, 1.0484149823020275),
    (63, 63, -0.606198637659435),
    (70, 55, 1.2332770115771863),
    (100, 20, 0.6607357975721427),
    (126, 64, 0.11361107767056233),
)


def test_a_table_is_stretched_as_beits_own_code_does() -> None:
    i = torch.arange(27, dtype=torch.float64)
    z = (i[:, None] / 3).cos() + (i[:, None] * i[None] / 50).sin()
    found = fit_table(z.reshape(-1, 1), (14, 14), (64, 64)).view(127, 127)
    for row, column, value in STRETCHED:
        assert found[row, column].item() == pytest.approx(value, abs=1e-4)  # BEiT's last offset is 63.0003, ours 63


def test_tables_of_blocks_are_averaged_over_those_that_share(save: Save, data: object) -> None:
    reference = r.beit_fine_tuned()
    own = tables(reference.saved)  # before the reference gives its tables away
    config = config_for(save(reference.saved), data, pattern="hybrid", tables="shared")
    found, report = state(config)
    windowed = (own[0] + own[2]).view(7, 7, -1) / 2
    torch.testing.assert_close(found["window_bias.table"].view(3, 3, -1), windowed[2:5, 2:5])
    torch.testing.assert_close(found["global_bias.table"], (own[1] + own[3]) / 2)
    assert [one.how for one in report.resized if one.target == "global_bias.table"] == ["mean of 2 blocks"]


def test_averaged_tables_give_the_blocks_of_the_reference_with_the_mean_bias(save: Save, data: object) -> None:
    model = r.beit_model(shared=False)
    path = save({"model": {name: value.clone() for name, value in model.state_dict().items()}})
    blocks = r.blocks_of_beit(model, lambda biases: [torch.stack(biases).mean(0)] * r.DEPTH)
    backbone, _ = loaded(config_for(path, data, tables="shared"))
    images = torch.randn(2, 3, r.SIDE, r.SIDE)
    with torch.no_grad():
        found = backbone(images)
    for ours, theirs in zip(found, blocks(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_shared_table_is_copied_into_every_block(save: Save, data: object) -> None:
    reference = r.beit_pretrained()
    found, report = state(config_for(save(reference.saved), data, tables="per_block"))
    table = reference.saved["model"]["rel_pos_bias.relative_position_bias_table"][:-3]  # type: ignore[index]
    for block in range(r.DEPTH):
        assert torch.equal(found[f"block_bias.{block}.table"], table)
    assert report.resized == ()


@pytest.mark.parametrize("treatment", ["rand", "zero", "none"])
def test_positions_that_are_not_taken_are_named(treatment: str, save: Save, data: object) -> None:
    path = save(r.beit_pretrained(absolute=True).saved)
    found, report = state(config_for(path, data, relative=treatment, absolute=treatment))
    left = {one.source: one.reason for one in report.dropped}
    assert left["pos_embed"] == f"position.absolute is {treatment}"
    assert left["rel_pos_bias.relative_position_bias_table"] == f"position.relative is {treatment}"
    new = {one.target: one.how for one in report.new}
    if treatment == "none":
        assert new == {}
        assert "pos_embed" not in found
    else:
        how = {"rand": "random, std 0.02", "zero": "zero"}[treatment]
        assert new == {"pos_embed": how, "global_bias.table": how}
        assert bool(found["pos_embed"].any()) == (treatment == "rand")


def test_every_tensor_of_a_file_is_mapped_or_dropped_for_a_reason(save: Save, data: object) -> None:
    reference = r.mae(full=True)
    report = check_weights(config_for(save(reference.saved), data))
    assert report is not None
    sources = [one.source for one in (*report.mapped, *report.dropped)]
    assert sorted(sources) == sorted(reference.saved["model"])  # type: ignore[call-overload]
    assert all(one.reason for one in report.dropped)


def test_keys_have_a_zero_bias_where_the_file_has_none(save: Save, data: object) -> None:
    reference = r.beit_pretrained()
    found, _ = state(config_for(save(reference.saved), data))
    weights = reference.saved["model"]
    q, k, v = found["blocks.2.attn.qkv.bias"].chunk(3)
    assert torch.equal(q, weights["blocks.2.attn.q_bias"])  # type: ignore[index]
    assert torch.equal(v, weights["blocks.2.attn.v_bias"])  # type: ignore[index]
    assert not k.any()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model.backbone.width": 96}, "they belong to a ViT with width 48, but the config has width 96"),
        ({"model.backbone.depth": 8}, "with depth 4, but the config has depth 8; choose another --base"),
        ({"model.backbone.heads": 2}, "with heads 4, but the config has heads 2"),
        ({"model.backbone.mlp_ratio": 2}, r"need model.backbone.mlp_ratio=4, not 2"),
        ({"model.pixel_mean": [0.4, 0.4, 0.4]}, r"need model.pixel_mean=\[0.5,0.5,0.5\] and model.pixel_std=\[0.5,"),
        ({"model.backbone.layer_scale": "none"}, "have layer scale, so set model.backbone.layer_scale=0.1"),
        ({"model.backbone.qkv_bias": False}, "need model.backbone.qkv_bias=true"),
        ({f"{POSITION}.absolute": "pt"}, "have no absolute embedding, so .*absolute cannot be pt"),
    ],
)
def test_a_config_that_does_not_fit_is_told_what_to_set(
    changes: dict[str, object], sentence: str, save: Save, data: object
) -> None:
    config = with_changes(config_for(save(r.beit_pretrained().saved), data), changes)
    with pytest.raises(BadInput, match=sentence) as refusal:
        check_weights(config)
    assert "\n" not in str(refusal.value)


def test_layer_scale_and_tables_that_a_file_lacks_are_refused(save: Save, data: object) -> None:
    config = config_for(save(r.deit().saved), data)
    with pytest.raises(BadInput, match=r"no layer scale, so set model.backbone.layer_scale=none"):
        check_weights(with_changes(config, {"model.backbone.layer_scale": 0.1}))
    with pytest.raises(BadInput, match=r"no relative bias, so .*relative cannot be pt"):
        check_weights(with_changes(config, {f"{POSITION}.relative": "pt"}))


def test_a_misshapen_tensor_is_listed_and_the_backbone_stays_as_it_was(save: Save, data: object) -> None:
    saved = r.deit().saved
    saved["model"]["blocks.1.mlp.fc2.weight"] = torch.zeros(r.WIDTH, 7)  # type: ignore[index]
    config = config_for(save(saved), data)
    backbone = build_vit(config.model.backbone)  # type: ignore[arg-type]
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(BadInput, match=r"misshapen: blocks.1.mlp.fc2.weight is \[48, 7\] and must be \[48, 192\]"):
        load_weights(backbone, config)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_values_that_are_not_finite_are_refused(save: Save, data: object) -> None:
    saved = r.deit().saved
    saved["model"]["blocks.3.norm2.bias"] = torch.full((r.WIDTH,), float("nan"))  # type: ignore[index]
    config = config_for(save(saved), data)
    with pytest.raises(BadInput, match=r"blocks.3.norm2.bias holds values that are not finite"):
        load_weights(build_vit(config.model.backbone), config)  # type: ignore[arg-type]


def test_convolutions_between_windows_start_anew(save: Save, data: object) -> None:
    config = config_for(save(r.mae().saved), data, pattern="window", relative="zero")
    report = check_weights(with_changes(config, {"model.backbone.attention.propagation": "conv_basic"}))
    assert report is not None
    assert {one.target.partition(".")[0] for one in report.new} == {"window_bias", "propagation"}


def test_half_precision_files_are_loaded_in_full(save: Save, data: object) -> None:
    saved = r.deit().saved
    halves = {name: value.half() for name, value in saved["model"].items()}  # type: ignore[attr-defined]
    found, _ = state(config_for(save({"model": halves}), data))
    assert found["blocks.0.mlp.fc1.weight"].dtype == torch.float32
    assert torch.equal(found["blocks.0.mlp.fc1.weight"], halves["blocks.0.mlp.fc1.weight"].float())
