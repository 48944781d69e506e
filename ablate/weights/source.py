"""A checkpoint in our names: every tensor mapped or left out for a reason, and facts about the file."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from math import isqrt
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from ablate.weights.checkpoint import Checkpoint, file_digest, read_checkpoint
from ablate.weights.families import recognise
from ablate.weights.families.base import Family
from ablate.weights.settings import PixelStatistics
from analysis.exceptions import BadInput

CLASS_ROWS = 3  # of BEiT's tables: to, from and at the class token
LISTED = 8
NEEDED = {f"{name}.weight" for name in ("attn.proj", "attn.qkv", "mlp.fc1", "mlp.fc2", "norm1", "norm2")}


class Mapped(msgspec.Struct, frozen=True):
    """A tensor of the file and where it went."""

    source: str
    target: str


class Dropped(msgspec.Struct, frozen=True):
    """A tensor of the file that is left behind."""

    source: str
    reason: str


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Facts about a file, independent of any config."""

    file: str
    digest: str  # SHA-256 of the file
    family: str
    initialisation: str  # as published tables call it; empty where the file does not tell
    fine_tuned: bool  # on labels, after the pre-training that gives the family its name
    width: int
    depth: int
    patch_size: int
    hidden: int  # units of an MLP
    grid: int | None  # side in tokens at which positions were learned; none where there are none
    heads: int | None  # known from bias tables only
    absolute: bool
    relative: str  # none, shared, per block
    layer_scale: bool
    qkv_bias: bool
    pixels: tuple[PixelStatistics, ...]

    @property
    def published_as(self) -> str:
        """What published tables call a run that starts here; empty where they have none like it."""
        return "" if self.fine_tuned else self.initialisation


@dataclass(frozen=True)
class Source:
    """The weights of a checkpoint, by the names of ``ablate.models.ViT``.

    Attributes:
        weights: what needs no more than copying.
        embedding: [1, g*g, C], its prefix tokens cut off; none without.
        tables: of each block, or of all under ``-1``: [(2g-1)(2g-1), heads], the class token's rows cut off.
    """

    checkpoint: Checkpoint
    facts: CheckpointFacts
    mapped: tuple[Mapped, ...]
    dropped: tuple[Dropped, ...]
    weights: dict[str, Tensor] = field(repr=False)
    embedding: Tensor | None = field(repr=False)
    tables: dict[int, Tensor] = field(repr=False)


def read_source(path: Path) -> Source:
    """The weights in a file of any family.

    Raises:
        BadInput: it cannot be read, its family is unknown, or it holds what its family does not explain.
    """
    path = path.expanduser()
    checkpoint = read_checkpoint(path)
    family = recognise(checkpoint)
    mapped, dropped, unknown = _sorted_out(checkpoint, family)
    named = {one.target: checkpoint.tensors[one.source] for one in mapped}
    embedding = _patches(path, named.pop("pos_embed", None))
    tables = {
        int(name.partition(".")[2] or -1): _without_class_token(path, named.pop(name))
        for name in [name for name in named if name.partition(".")[0] == "table"]
    }
    weights = _joined(named)
    missing = _missing(weights, tables)
    if unknown or missing:
        has = f"has {len(unknown):,} tensors that this family does not have ({listed(unknown)})" if unknown else ""
        lacks = f"lacks {listed(missing)}" if missing else ""
        raise BadInput(
            f"{path}: looks like {family.name}, but {' and '.join(part for part in (has, lacks) if part)}; it is "
            "another model, or was not saved completely"
        )
    facts = _facts(path, checkpoint, family, weights, embedding, tables)
    return Source(checkpoint, facts, mapped, dropped, weights, embedding, tables)


def read_facts(path: str) -> CheckpointFacts:
    """The facts about a file of weights; a file that does not change is read once per process.

    Raises:
        BadInput: as ``read_source``.
    """
    place = Path(path).expanduser()
    return _known(place, file_digest(place))


@lru_cache(maxsize=64)
def _known(path: Path, digest: str) -> CheckpointFacts:
    return read_source(path).facts


def listed(names: Sequence[str]) -> str:
    """Some of many names, in words.

    >>> listed(["a", "b"])
    'a, b'
    """
    return ", ".join(names[:LISTED]) + (f" and {len(names) - LISTED:,} more" if len(names) > LISTED else "")


def _sorted_out(
    checkpoint: Checkpoint, family: Family
) -> tuple[tuple[Mapped, ...], tuple[Dropped, ...], tuple[str, ...]]:
    """What is mapped, what is left behind, and what the family does not explain."""
    rules = {name: family.rule(name) for name in checkpoint.tensors}
    known = [(name, rule) for name, rule in rules.items() if rule is not None]
    mapped = tuple(Mapped(name, rule.pattern.sub(rule.to, name)) for name, rule in known if rule.to is not None)
    dropped = tuple(Dropped(name, rule.reason) for name, rule in known if rule.to is None)
    return mapped, dropped, tuple(name for name, rule in rules.items() if rule is None)


def _patches(path: Path, embedding: Tensor | None) -> Tensor | None:
    """The embedding of the patches alone; the tokens before them are what a square leaves over."""
    if embedding is None:
        return None
    if embedding.dim() != 3 or embedding.shape[0] != 1:
        raise BadInput(f"{path}: its position embedding has shape {list(embedding.shape)}, not [1, tokens, channels]")
    tokens = embedding.shape[1]
    side = isqrt(tokens)
    if not 0 <= tokens - side * side <= 2:  # none, a class token, and one of distillation
        raise BadInput(
            f"{path}: its position embedding of {tokens} tokens is not a square grid plus at most two tokens"
        )
    return embedding[:, tokens - side * side :].float()


def _without_class_token(path: Path, table: Tensor) -> Tensor:
    rows = table.shape[0] - CLASS_ROWS if table.dim() == 2 else -1
    side = isqrt(max(rows, 0))
    if side * side != rows or side % 2 == 0:
        raise BadInput(
            f"{path}: its bias table has shape {list(table.shape)}, not [(2g-1)(2g-1) + {CLASS_ROWS}, heads] of a grid"
        )
    return table[:rows].float()


def _joined(named: dict[str, Tensor]) -> dict[str, Tensor]:
    """The biases of queries and values joined around zeros, which BEiT's keys have."""
    weights = {name: tensor for name, tensor in named.items() if "#" not in name}
    for name, query in named.items():
        bias, _, part = name.partition("#")
        if part == "q" and f"{bias}#v" in named:
            weights[bias] = torch.cat([query, torch.zeros_like(query), named[f"{bias}#v"]])
    return weights


def _missing(weights: dict[str, Tensor], tables: dict[int, Tensor]) -> list[str]:
    """What every ViT has and this one lacks, and what some of its blocks have and others lack."""
    own = [name for name in weights if name.startswith("blocks.")]
    depth = 1 + max((int(name.split(".")[1]) for name in own), default=0)
    kinds = {name.split(".", 2)[2] for name in own} | NEEDED
    wanted = ["patch_embed.weight", "patch_embed.bias"]
    wanted += [f"blocks.{block}.{kind}" for block in range(depth) for kind in sorted(kinds)]
    missing = [name for name in wanted if name not in weights]
    if tables and set(tables) != {-1}:
        missing += [f"the bias table of block {block}" for block in range(depth) if block not in tables]
    return missing


def _facts(
    path: Path,
    checkpoint: Checkpoint,
    family: Family,
    weights: dict[str, Tensor],
    embedding: Tensor | None,
    tables: dict[int, Tensor],
) -> CheckpointFacts:
    patches, table = weights["patch_embed.weight"], next(iter(tables.values()), None)
    if patches.dim() != 4 or patches.shape[1] != 3 or patches.shape[2] != patches.shape[3]:
        raise BadInput(f"{path}: its patches have weights {list(patches.shape)}, not [channels, 3, side, side]")
    grid = None if table is None else (isqrt(table.shape[0]) + 1) // 2
    if embedding is not None:
        grid = isqrt(embedding.shape[1])
    return CheckpointFacts(
        file=str(path),
        digest=file_digest(path),
        family=family.name,
        initialisation=family.initialisation,
        fine_tuned=family.is_fine_tuned(checkpoint),
        width=patches.shape[0],
        depth=1 + max(int(name.split(".")[1]) for name in weights if name.startswith("blocks.")),
        patch_size=patches.shape[2],
        hidden=weights["blocks.0.mlp.fc1.weight"].shape[0],
        grid=grid,
        heads=None if table is None else table.shape[1],
        absolute=embedding is not None,
        relative="none" if table is None else "shared" if set(tables) == {-1} else "per block",
        layer_scale="blocks.0.gamma_1" in weights,
        qkv_bias="blocks.0.attn.qkv.bias" in weights,
        pixels=family.pixels,
    )
