"""Every family gives, through our backbone, the block outputs of the model that its checkpoint was taken from."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec import structs

from ablate.config.schema import Attention, Init, Model, Position, Pyramid, RunConfig, ViT
from ablate.weights.build import build_vit
from ablate.weights.convert import ConversionReport, load_weights
from ablate.weights.source import read_source
from tests.ablate.tiny import tiny_config
from tests.ablate.weights import references as r

Save = Callable[..., Path]
REFERENCES = {
    "MAE": (r.mae, "MAE"),
    "MAE with decoder": (lambda: r.mae(full=True), "MAE"),
    "timm's MAE": (r.timm_mae, "MAE"),
    "MAE fine-tuned": (r.mae_fine_tuned, "MAE"),
    "MoCo v3": (r.mocov3, "MoCo v3"),
    "MoCo v3 probe": (r.mocov3_probe, "MoCo v3"),
    "BEiT": (r.beit_pretrained, "BEiT"),
    "BEiT with absolute": (lambda: r.beit_pretrained(absolute=True), "BEiT"),
    "BEiT without layer scale": (lambda: r.beit_pretrained(layer_scale=None), "BEiT"),
    "BEiT fine-tuned": (r.beit_fine_tuned, "BEiT"),
    "DeiT": (r.deit, "DeiT or another supervised ViT"),
    "DeiT distilled": (r.deit_distilled, "DeiT, distilled"),
    "MAE's supervised": (r.supervised_of_mae, "DeiT or another supervised ViT"),
    "timm": (r.timm_vit, "timm ViT, supervised"),
    "timm with layer scale": (r.timm_layer_scale, "timm ViT, supervised"),
    "timm's BEiT": (r.timm_beit, "BEiT"),
    "DINO": (r.dino, "plain ViT of unknown training"),
    "torchvision": (r.torchvision_vit, "torchvision"),
}


def config_for(path: Path, data: object, pattern: str = "global", **position: object) -> RunConfig:
    """A config that takes all of a file: at the size of its pre-training, all blocks global."""
    facts = read_source(path).facts
    mean, std = facts.pixels[0]
    settings = {
        "relative": "pt" if facts.relative != "none" else "none",
        "absolute": "pt" if facts.absolute else "none",
        "absolute_grid": r.GRID,
        "tables": "per_block" if facts.relative == "per block" else "shared",
        **position,
    }
    backbone = ViT(
        width=r.WIDTH,
        depth=r.DEPTH,
        heads=r.HEADS,
        image_size=r.SIDE,
        patch_size=r.PATCH,
        attention=Attention(pattern=pattern, window_size=2, global_count=2),  # type: ignore[arg-type]
        position=Position(**settings),  # type: ignore[arg-type]
        layer_scale=0.5 if facts.layer_scale else "none",
    )
    tiny = tiny_config(data)  # type: ignore[arg-type]
    return RunConfig(
        model=Model(backbone=backbone, pyramid=Pyramid(type="multi_scale"), pixel_mean=mean, pixel_std=std),
        init=Init(weights=str(path)),
        data=tiny.data,
        train=tiny.train,
    )


def loaded(config: RunConfig) -> tuple[torch.nn.Module, ConversionReport]:
    torch.manual_seed(1)
    backbone = build_vit(config.model.backbone, "quarters").eval()  # type: ignore[arg-type]
    return backbone, load_weights(backbone, config)


@pytest.mark.parametrize("name", REFERENCES)
def test_blocks_equal_those_of_the_reference(name: str, save: Save, data: object) -> None:
    make, family = REFERENCES[name]
    reference = make()
    path = save(reference.saved)
    backbone, report = loaded(config_for(path, data))
    assert report.facts.family == family
    assert (report.resized, report.new) == ((), ())
    torch.manual_seed(2)
    images = torch.randn(2, 3, r.SIDE, r.SIDE)
    with torch.no_grad():
        found = backbone(images)
    expected = reference.blocks(images)
    assert len(found) == len(expected) == r.DEPTH
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["vit_base_patch16_224", "beit_base_patch16_224", "vit_large_patch16_224"])
def test_blocks_of_the_papers_sizes_equal_those_of_timm(name: str, save: Save, data: object) -> None:
    """At 224 pixels, with timm's own random weights; BEiT's tables made random, since they start at zero."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(name, pretrained=False).eval()
    if "beit" in name:
        for block in model.blocks:
            torch.nn.init.normal_(block.attn.relative_position_bias_table, std=0.5)
    path = save(dict(model.state_dict()))
    blocks = r.blocks_of_beit(model) if "beit" in name else r.blocks_of_vit(model)
    size = {"width": model.embed_dim, "depth": len(model.blocks), "heads": model.blocks[0].attn.num_heads}
    small = config_for(path, data, absolute_grid=14)
    backbone = structs.replace(
        small.model.backbone,
        **size,
        image_size=224,
        patch_size=16,
        attention=Attention(pattern="global"),
    )
    config = structs.replace(small, model=structs.replace(small.model, backbone=backbone))
    ours, _ = loaded(config)
    out_indices = ours.out_indices
    images = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        found = ours(images)
    expected = blocks(images)
    for index, block in enumerate(out_indices):  # type: ignore[arg-type]
        torch.testing.assert_close(found[index], expected[block], rtol=1e-5, atol=1e-5)
