"""From the weights of a file to those of a backbone: positions brought to its grids, and all of it accounted for.

Bias tables. A file has one table for all blocks, or one a block; a backbone one for its windowed and one for its global
blocks, or one a block (``position.tables``). A shared table goes everywhere. Tables of single blocks go to their
blocks; into two shared ones they are averaged, over the windowed blocks for the one and over the global blocks for the
other: what blocks disagree in is lost, and the report says so. On a larger grid a table is stretched as BEiT does
(``ablate.models.position``), on a smaller one cut, so that offsets keep their bias.

The absolute embedding is resized bicubically to the grid on which the backbone stores it.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import isqrt
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from ablate.config import schema as cfg
from ablate.models.position import fit_table, resize_embedding
from ablate.models.vit import global_block_indexes
from ablate.weights.build import build_vit
from ablate.weights.checkpoint import forget
from ablate.weights.settings import usual_layer_scale
from ablate.weights.source import CheckpointFacts, Dropped, Mapped, Source, listed, read_source
from analysis.exceptions import BadInput


class Resized(msgspec.Struct, frozen=True):
    """A position that was brought to another grid, or several that became one."""

    target: str
    before: tuple[int, ...]
    after: tuple[int, ...]
    how: str


class New(msgspec.Struct, frozen=True):
    """A parameter of the backbone that the file does not give."""

    target: str
    how: str


class ConversionReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of each tensor of the file and each parameter of the backbone."""

    facts: CheckpointFacts
    mapped: tuple[Mapped, ...]
    dropped: tuple[Dropped, ...]
    resized: tuple[Resized, ...]
    new: tuple[New, ...]
    notes: tuple[str, ...]


Converted = tuple[dict[str, Tensor], ConversionReport]  # weights of a backbone, by name, and where they came from


def check_weights(config: cfg.RunConfig) -> ConversionReport | None:
    """The report on loading the weights of a config, without loading them; None if it starts from random weights.

    Raises:
        BadInput: they do not fit.
    """
    if config.init.weights == "none":
        return None
    assert isinstance(config.model.backbone, cfg.ViT)
    if not Path(config.init.weights).exists():
        raise BadInput(
            f"{config.init.weights}: weights file not found (the config starts from it); put it there, or give your "
            "file with --weights"
        )
    with torch.device("meta"):
        state = build_vit(config.model.backbone).state_dict()
    return _converted(config, state)[1]


def load_weights(backbone: nn.Module, config: cfg.RunConfig) -> ConversionReport:
    """Load the weights of a config into its backbone.

    Raises:
        BadInput: they do not fit, or are not finite; the backbone is as it was.
    """
    own = backbone.state_dict()
    weights, report = _converted(config, own)
    infinite = next((name for name, value in weights.items() if not bool(value.isfinite().all())), None)
    if infinite is not None:
        raise BadInput(f"{config.init.weights}: {infinite} holds values that are not finite; download it again")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
    forget()  # a training process keeps no second copy
    return report


def _converted(config: cfg.RunConfig, state: Mapping[str, Tensor]) -> Converted:
    """The weights of a config for the parameters in a state dict."""
    return convert(
        read_source(Path(config.init.weights)),
        config.model,
        shapes={name: value.shape for name, value in state.items()},
    )


def convert(source: Source, model: cfg.Model, shapes: Mapping[str, torch.Size]) -> Converted:
    """The weights of a file for a backbone.

    Args:
        source: the file.
        model: the settings of the backbone and its pixels.
        shapes: of every parameter of the backbone.

    Raises:
        BadInput: another model, other settings than the file needs, tensors missing, left over or misshapen.
    """
    vit, facts = model.backbone, source.facts
    assert isinstance(vit, cfg.ViT)
    troubles = [*_other_model(facts, vit)] or [*_other_settings(facts, model)]
    if troubles:
        raise BadInput(f"{facts.file}: {facts.family} weights do not fit this config: {'; '.join(troubles)}")
    weights = dict(source.weights)
    resized: list[Resized] = []
    if vit.position.absolute == "pt":
        weights["pos_embed"] = _embedding(source, vit, resized)
    if vit.position.relative == "pt":
        weights |= _tables(source, vit, shapes, resized)
    mapped, dropped = _accounted(source, vit, shapes)
    new = tuple(New(name, _how(name, vit)) for name in shapes if name not in weights)
    _check_shapes(facts, weights, shapes, [one.target for one in new if not one.how])
    return weights, ConversionReport(
        facts=facts, mapped=mapped, dropped=dropped, resized=tuple(resized), new=new, notes=cautions(facts, model)
    )


def _accounted(
    source: Source, vit: cfg.ViT, shapes: Mapping[str, torch.Size]
) -> tuple[tuple[Mapped, ...], tuple[Dropped, ...]]:
    """How each tensor of the file is used in this backbone; its positions, as far as their treatment allows."""
    users, mapped, dropped = _users(vit, shapes), [], list(source.dropped)
    for one in source.mapped:
        kind, _, block = one.target.partition(".")
        treatment = {"pos_embed": "absolute", "table": "relative"}.get(kind)
        if treatment is not None and getattr(vit.position, treatment) != "pt":
            dropped.append(Dropped(one.source, f"position.{treatment} is {getattr(vit.position, treatment)}"))
        elif treatment == "relative":
            names = [name for name, blocks in users.items() if not block or int(block) in blocks]
            mapped.append(Mapped(one.source, ", ".join(names)))
        else:
            mapped.append(Mapped(one.source, one.target.partition("#")[0]))
    return tuple(mapped), tuple(dropped)


def _other_model(facts: CheckpointFacts, vit: cfg.ViT) -> Iterator[str]:
    """The difference, if the file holds a model of another size."""
    have = {"width": facts.width, "depth": facts.depth, "patch_size": facts.patch_size}
    if facts.heads is not None:
        have["heads"] = facts.heads
    other = {name: value for name, value in have.items() if getattr(vit, name) != value}
    if other:
        theirs = ", ".join(f"{name} {value}" for name, value in other.items())
        ours = ", ".join(f"{name} {getattr(vit, name)}" for name in other)
        yield f"they belong to a ViT with {theirs}, but the config has {ours}; choose another --base or other weights"
    elif facts.hidden != int(vit.width * vit.mlp_ratio):
        yield f"they need model.backbone.mlp_ratio={facts.hidden / vit.width:g}, not {vit.mlp_ratio:g}"


def _other_settings(facts: CheckpointFacts, model: cfg.Model) -> Iterator[str]:
    """The settings that the file needs and the config does not have, with the values to set."""
    vit = model.backbone
    assert isinstance(vit, cfg.ViT)
    if (model.pixel_mean, model.pixel_std) not in facts.pixels:
        mean, std = (",".join(f"{value:g}" for value in values) for values in facts.pixels[0])
        yield f"they need model.pixel_mean=[{mean}] and model.pixel_std=[{std}]"
    if facts.layer_scale and vit.layer_scale == "none":
        yield f"they have layer scale, so set model.backbone.layer_scale={usual_layer_scale(facts.width):g}"
    if not facts.layer_scale and vit.layer_scale != "none":
        yield "they have no layer scale, so set model.backbone.layer_scale=none"
    if facts.qkv_bias != vit.qkv_bias:
        yield f"they need model.backbone.qkv_bias={str(facts.qkv_bias).lower()}"
    for name, what, there in (
        ("absolute", "absolute embedding", facts.absolute),
        ("relative", "relative bias", facts.relative != "none"),
    ):
        if getattr(vit.position, name) == "pt" and not there:
            yield f"they have no {what}, so model.backbone.position.{name} cannot be pt (rand, zero or none)"


def _embedding(source: Source, vit: cfg.ViT, resized: list[Resized]) -> Tensor:
    assert source.embedding is not None
    have, want = isqrt(source.embedding.shape[1]), vit.position.absolute_grid
    if have != want:
        resized.append(Resized("pos_embed", (have, have), (want, want), "bicubic"))
    return resize_embedding(source.embedding, (want, want)).reshape(1, want * want, -1)


def _tables(
    source: Source, vit: cfg.ViT, shapes: Mapping[str, torch.Size], resized: list[Resized]
) -> dict[str, Tensor]:
    """The tables that the backbone has, each from the file's for the blocks that use it."""
    found = {}
    for name, blocks in _users(vit, shapes).items():
        own = [_table_of(source, block) for block in blocks]
        alike = all(table is own[0] for table in own)  # the shared one
        table = own[0] if alike else torch.stack(own).mean(dim=0)
        if not alike:
            resized.append(Resized(name, (len(own), *table.shape), tuple(table.shape), f"mean of {len(own)} blocks"))
        side, wanted = ((isqrt(rows) + 1) // 2 for rows in (table.shape[0], shapes[name][0]))
        if side != wanted:
            how = "geometric interpolation, as in BEiT" if wanted > side else "cut to the offsets that are used"
            resized.append(Resized(name, (side, side), (wanted, wanted), how))
        found[name] = fit_table(table, (side, side), (wanted, wanted))
    return found


def _users(vit: cfg.ViT, shapes: Mapping[str, torch.Size]) -> dict[str, list[int]]:
    """The bias tables of a backbone, and the blocks that use each."""
    if vit.position.tables == "per_block":
        return {f"block_bias.{block}.table": [block] for block in range(vit.depth)}
    attention, every = vit.attention, range(vit.depth)
    everywhere: Sequence[int] = every if attention.pattern == "global" else ()
    if attention.pattern == "hybrid":
        everywhere = global_block_indexes(vit.depth, attention.global_blocks, attention.global_count)
    windowed = [block for block in every if block not in everywhere]
    users = {"window_bias.table": windowed, "global_bias.table": list(everywhere)}
    return {name: blocks for name, blocks in users.items() if name in shapes}


def _table_of(source: Source, block: int) -> Tensor:
    """What a block adds: its own table, the shared one, or both."""
    tables = [source.tables[key] for key in (-1, block) if key in source.tables]
    return tables[0] if len(tables) == 1 else tables[0] + tables[1]  # BEiT adds both, where it has both


def _how(name: str, vit: cfg.ViT) -> str:
    """How a parameter is initialised that the file lacks; empty if the file should have it."""
    words = {"rand": "random, std 0.02", "zero": "zero"}
    if name == "pos_embed":
        return words.get(vit.position.absolute, "")
    if name.endswith(".table"):
        return words.get(vit.position.relative, "")
    return "random" if name.startswith("propagation.") else ""


def _check_shapes(
    facts: CheckpointFacts, weights: Mapping[str, Tensor], shapes: Mapping[str, torch.Size], missing: list[str]
) -> None:
    left_over = [name for name in weights if name not in shapes]
    misshapen = [
        f"{name} is {list(value.shape)} and must be {list(shapes[name])}"
        for name, value in weights.items()
        if name in shapes and value.shape != shapes[name]
    ]
    kinds = {"missing": missing, "left over": left_over, "misshapen": misshapen}
    troubles = [f"{kind}: {listed(names)}" for kind, names in kinds.items() if names]
    if troubles:
        raise BadInput(f"{facts.file}: {facts.family} weights do not fit this config; {'; '.join(troubles)}")


def cautions(facts: CheckpointFacts, model: cfg.Model) -> tuple[str, ...]:
    """What a reader of results from these weights should know, a sentence each."""
    found = []
    if len(facts.pixels) > 1:
        own = "0.5" if model.pixel_mean[0] == 0.5 else "ImageNet's"
        found.append(
            f"the file does not contain its pixel statistics; this config has {own}; DeiT, DINO and similar models "
            "need ImageNet's, timm's AugReg models 0.5"
        )
    if facts.fine_tuned:
        found.append("fine-tuned on labels after its pre-training, unlike the paper's weights")
    return tuple(found)
