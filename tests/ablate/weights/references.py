"""Checkpoints in the official layouts, small, each with the block outputs of the model that it was taken from."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torchvision.models import VisionTransformer as TorchvisionViT

WIDTH, DEPTH, HEADS, PATCH, SIDE = 48, 4, 4, 8, 32
GRID = SIDE // PATCH
State = dict[str, Tensor]


@dataclass(frozen=True)
class Reference:
    """What its authors would have saved, and what its blocks give on the patches alone: [B, C, grid, grid] each."""

    saved: dict[str, object]
    blocks: Callable[[Tensor], list[Tensor]]


def sine_cosine(first: str) -> Tensor:
    """The fixed embedding [1, 1 + grid^2, C], a number at a time, with zeros for the class token."""
    table = np.zeros((1 + GRID * GRID, WIDTH))
    quarter = WIDTH // 4
    for row in range(GRID):
        for column in range(GRID):
            for half, place in enumerate((column, row) if first == "columns" else (row, column)):
                for i in range(quarter):
                    angle = place / 10000 ** (i / quarter)
                    start = half * 2 * quarter
                    table[1 + row * GRID + column, start + i] = np.sin(angle)
                    table[1 + row * GRID + column, start + quarter + i] = np.cos(angle)
    return torch.tensor(table, dtype=torch.float32)[None]


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """All parameters random, those that start as zeros or ones too, so that none can be left out unnoticed."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.15)
    return model.eval()


def as_map(tokens: Tensor) -> Tensor:
    """[B, grid^2, C] -> [B, C, grid, grid]."""
    side = int(tokens.shape[1] ** 0.5)
    return tokens.transpose(1, 2).unflatten(2, (side, side))


def vit(**changes: object) -> VisionTransformer:
    settings = {"img_size": SIDE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return stirred(VisionTransformer(**{**settings, "num_classes": 10, **changes}))  # type: ignore[return-value]


def blocks_of_vit(model: VisionTransformer, prefix: int = 1) -> Callable[[Tensor], list[Tensor]]:
    @torch.no_grad()
    def blocks(images: Tensor) -> list[Tensor]:
        x = model.patch_embed(images) + model.pos_embed[:, prefix:]
        found = []
        for block in model.blocks:
            x = block(x)
            found.append(as_map(x))
        return found

    return blocks


def without(state: State, *starts: str) -> State:
    return {name: value for name, value in state.items() if not name.startswith(starts)}


def mae(full: bool = False) -> Reference:
    model = vit()
    with torch.no_grad():
        model.pos_embed.copy_(sine_cosine("columns"))
    state = without(dict(model.state_dict()), "head.")
    if full:
        state |= {"mask_token": torch.zeros(1, 1, 32), "decoder_pos_embed": torch.zeros(1, 1 + GRID**2, 32)}
        for name, shape in (("embed", (32, WIDTH)), ("pred", (PATCH**2 * 3, 32)), ("norm", (32,))):
            state |= {f"decoder_{name}.weight": torch.zeros(shape), f"decoder_{name}.bias": torch.zeros(shape[0])}
        state |= {f"decoder_blocks.0.{name}": value for name, value in decoder_block().items()}
    beside = {"epoch": 800, "args": argparse.Namespace(lr=1.0)} if full else {}
    return Reference({"model": state, **beside}, blocks_of_vit(model))


def decoder_block() -> State:
    shapes = {"norm1": (32,), "attn.qkv": (96, 32), "attn.proj": (32, 32), "norm2": (32,), "mlp.fc1": (128, 32)}
    shapes["mlp.fc2"] = (32, 128)
    return {
        f"{name}.{leaf}": torch.zeros(shape if leaf == "weight" else shape[0])
        for name, shape in shapes.items()
        for leaf in ("weight", "bias")
    }


def timm_mae() -> Reference:
    """Flat, as timm offers MAE's encoder."""
    reference = mae()
    return Reference(reference.saved["model"], reference.blocks)  # type: ignore[arg-type]


def mae_fine_tuned() -> Reference:
    model = vit(global_pool="avg")
    with torch.no_grad():
        model.pos_embed.copy_(sine_cosine("columns") + 0.01 * torch.randn_like(model.pos_embed))
    return Reference({"model": dict(model.state_dict())}, blocks_of_vit(model))


def mocov3() -> Reference:
    model = vit()
    with torch.no_grad():
        model.pos_embed.copy_(sine_cosine("rows"))
    state = without(dict(model.state_dict()), "head.")
    wrapped = {f"module.base_encoder.{name}": value for name, value in state.items()}
    wrapped |= {f"module.momentum_encoder.{name}": torch.zeros_like(value) for name, value in state.items()}
    for place in ("base_encoder.head", "momentum_encoder.head", "predictor"):
        wrapped |= {f"module.{place}.0.weight": torch.zeros(8, WIDTH), f"module.{place}.1.running_mean": torch.zeros(8)}
    return Reference({"epoch": 300, "arch": "vit_base", "state_dict": wrapped, "optimizer": {}}, blocks_of_vit(model))


def mocov3_probe() -> Reference:
    model = vit()
    with torch.no_grad():
        model.pos_embed.copy_(sine_cosine("rows"))
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    return Reference({"epoch": 90, "state_dict": wrapped, "best_acc1": torch.tensor(76.7)}, blocks_of_vit(model))


def deit() -> Reference:
    model = vit()
    return Reference({"model": dict(model.state_dict())}, blocks_of_vit(model))


def deit_distilled() -> Reference:
    model = vit()
    state = dict(model.state_dict())
    two = torch.cat([torch.randn(1, 1, WIDTH), state["pos_embed"]], dim=1)
    heads = {"head_dist.weight": torch.zeros(10, WIDTH), "head_dist.bias": torch.zeros(10)}
    return Reference(
        {"model": {**state, **heads, "pos_embed": two, "dist_token": torch.zeros(1, 1, WIDTH)}}, blocks_of_vit(model)
    )


def supervised_of_mae() -> Reference:
    """The classifiers of MAE's code pool the patches, so their last norm is called fc_norm."""
    model = vit(global_pool="avg")
    return Reference({"model": dict(model.state_dict())}, blocks_of_vit(model))


def timm_vit() -> Reference:
    model = vit()
    return Reference(dict(model.state_dict()), blocks_of_vit(model))


def timm_layer_scale() -> Reference:
    """As DeiT III: layer scale, and an embedding of the patches alone."""
    model = vit(init_values=0.1, no_embed_class=True)
    return Reference(dict(model.state_dict()), blocks_of_vit(model, prefix=0))


def dino() -> Reference:
    model = vit()
    return Reference(without(dict(model.state_dict()), "head."), blocks_of_vit(model))


def torchvision_vit() -> Reference:
    model = stirred(TorchvisionViT(SIDE, PATCH, DEPTH, HEADS, WIDTH, 4 * WIDTH, num_classes=10))

    @torch.no_grad()
    def blocks(images: Tensor) -> list[Tensor]:
        x = model.conv_proj(images).flatten(2).transpose(1, 2) + model.encoder.pos_embedding[:, 1:]  # type: ignore
        found = []
        for layer in model.encoder.layers:  # type: ignore[union-attr]
            x = layer(x)
            found.append(as_map(x))
        return found

    return Reference(dict(model.state_dict()), blocks)


def beit_model(shared: bool, absolute: bool = False, layer_scale: float | None = 0.1) -> Beit:
    return stirred(  # type: ignore[return-value]
        Beit(
            img_size=SIDE,
            patch_size=PATCH,
            embed_dim=WIDTH,
            depth=DEPTH,
            num_heads=HEADS,
            num_classes=10,
            init_values=layer_scale,
            use_abs_pos_emb=absolute,
            use_rel_pos_bias=not shared,
            use_shared_rel_pos_bias=shared,
        )
    )


def blocks_of_beit(model: Beit, mean_of: Callable[[list[Tensor]], list[Tensor]] | None = None) -> Callable:  # type: ignore[type-arg]
    """Its blocks without the class token: every bias is the model's own for the patches alone, or made of them."""
    biases = [
        (model.rel_pos_bias() if model.rel_pos_bias is not None else block.attn._get_rel_pos_bias()).detach()
        for block in model.blocks
    ]
    biases = [bias[..., 1:, 1:] for bias in biases]
    for block in model.blocks:
        block.attn.relative_position_bias_table = None
    chosen = mean_of(biases) if mean_of else biases

    @torch.no_grad()
    def blocks(images: Tensor) -> list[Tensor]:
        x = model.patch_embed(images)
        if model.pos_embed is not None:
            x = x + model.pos_embed[:, 1:]
        found = []
        for block, bias in zip(model.blocks, chosen, strict=True):
            x = block(x, shared_rel_pos_bias=bias)
            found.append(as_map(x))
        return found

    return blocks


def index() -> Tensor:
    return torch.zeros(1 + GRID**2, 1 + GRID**2, dtype=torch.int64)


def beit_pretrained(absolute: bool = False, layer_scale: float | None = 0.1) -> Reference:
    """As its authors save it: the shared table and its index, the mask token, the head of visual tokens."""
    model = beit_model(shared=True, absolute=absolute, layer_scale=layer_scale)
    state = without(dict(model.state_dict()), "head.", "fc_norm.")
    state |= {"rel_pos_bias.relative_position_index": index(), "mask_token": torch.zeros(1, 1, WIDTH)}
    state |= {"norm.weight": torch.zeros(WIDTH), "norm.bias": torch.zeros(WIDTH)}
    state |= {"lm_head.weight": torch.zeros(20, WIDTH), "lm_head.bias": torch.zeros(20)}
    return Reference({"model": state}, blocks_of_beit(model))


def beit_fine_tuned(key: str = "module") -> Reference:
    """A table and its index in every block, a classifier."""
    model = beit_model(shared=False)
    state = dict(model.state_dict())
    state |= {f"blocks.{block}.attn.relative_position_index": index() for block in range(DEPTH)}
    return Reference({key: state}, blocks_of_beit(model))


def timm_beit() -> Reference:
    model = beit_model(shared=False)
    return Reference(dict(model.state_dict()), blocks_of_beit(model))
