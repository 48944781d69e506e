"""The plain vision transformer as a detection backbone (paper, section 2; ViTDet, arXiv 2203.16527).

Between its windows, information is carried by global blocks, by shifted windows, or by convolutions (ViTDet, section
4.1 and Table 2).
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from ablate.models.arguments import check_choice, require
from ablate.models.attention import KERNELS, Attention, Kernel, shift_mask, shift_of
from ablate.models.compiled import RunBlock, compiled_run, run_block
from ablate.models.position import (
    TREATMENTS,
    Grid,
    RelativeBias,
    TableBias,
    Treatment,
    aligned,
    position_parameter,
    resize_embedding,
)

Convolutions = Literal["conv_naive", "conv_basic", "conv_bottleneck"]


class ConvPropagation(nn.Module):
    """A residual block of convolutions, each followed by a LayerNorm, with GELU between; starts as the identity.

    Args:
        width: channels C of the tokens.
        kind: ``conv_naive`` one 3x3; ``conv_basic`` two 3x3; ``conv_bottleneck`` 1x1, 3x3, 1x1 with C/2 between.
    """

    def __init__(self, width: int, kind: Convolutions) -> None:
        super().__init__()
        inner = width // 2
        steps = {
            "conv_naive": [(width, width, 3)],
            "conv_basic": [(width, width, 3), (width, width, 3)],
            "conv_bottleneck": [(width, inner, 1), (inner, inner, 3), (inner, width, 1)],
        }[kind]
        self.convs = nn.ModuleList(nn.Conv2d(i, o, kernel, padding=kernel // 2, bias=False) for i, o, kernel in steps)
        self.norms = nn.ModuleList(nn.LayerNorm(o, eps=1e-6) for _, o, _ in steps)
        self.activation = nn.GELU()
        for conv in self.convs:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")  # type: ignore[arg-type]
        nn.init.zeros_(self.norms[-1].weight)  # type: ignore[arg-type]  # the last norm at 0: the block adds nothing at first

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [B, H, W, C] -> [B, H, W, C]."""
        out = x
        for step, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            # Channels-last tokens are a channels-last image: neither permute moves memory.
            out = self.activation(out) if step else out
            out = norm(conv(out.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        return x + out


STD = 0.02
# How weights, patch embedding and absolute embedding are drawn. ``random``: a normal distribution of standard deviation
# ``STD``, as BEiT's fine-tuning code draws them. ``truncated``: cut at one standard deviation, which leaves one of
# 0.0108, as BEiT's pre-training code does, and MIMDet but for the patch embedding.
Scheme = Literal["random", "truncated"]
SCHEMES: tuple[Scheme, ...] = ("random", "truncated")
Taps = Literal["quarters", "last"]
Pattern = Literal["window", "hybrid", "global"]
Placement = Literal["even", "first", "last"]
Propagation = Literal["none", "shift", "conv_naive", "conv_basic", "conv_bottleneck"]
PATTERNS: tuple[Pattern, ...] = ("window", "hybrid", "global")
PROPAGATIONS: tuple[Propagation, ...] = ("none", "shift", "conv_naive", "conv_basic", "conv_bottleneck")


def global_block_indexes(depth: int, blocks: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Which blocks (0-based, sorted) pass information between windows, by global attention or a convolution after them.

    ``even`` takes the last block of each of ``count`` equal parts; with 4 these are those that a pyramid reads (paper,
    section 2).

    Raises:
        ValueError: unknown placement, a count that does not fit, blocks out of range.
    """
    if not isinstance(blocks, str):
        require(
            0 < len(set(blocks)) == len(blocks) and all(0 <= block < depth for block in blocks),
            f"global_blocks {list(blocks)} must name different blocks between 0 and {depth - 1}",
        )
        return tuple(sorted(blocks))
    require(1 <= count <= depth, f"global_count {count} must lie between 1 and the depth {depth}")
    require(
        blocks in ("even", "first", "last"),
        f"global_blocks {blocks!r} is unknown; choose even, first, last or a list of block numbers",
    )
    require(
        depth % count == 0 or blocks != "even",
        f"depth {depth} is not divisible by global_count {count}: no even placement of global blocks",
    )
    part = depth // count
    places = {"first": range(count), "last": range(depth - count, depth), "even": range(part - 1, depth, part)}
    return tuple(places[blocks])


class MLP(nn.Module):
    """Linear, GELU, Linear on the last axis."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """[..., C] -> [..., C]."""
        return self.fc2(self.act(self.fc1(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each a residual branch with layer scale and drop path."""

    def __init__(self, attention: Attention, width: int, hidden: int, layer_scale: float | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = MLP(width, hidden)
        self.gamma_1 = None if layer_scale is None else nn.Parameter(torch.full((width,), layer_scale))
        self.gamma_2 = None if layer_scale is None else nn.Parameter(torch.full((width,), layer_scale))

    def forward(self, x: Tensor, bias: Tensor | TableBias | None, keep: Tensor | None) -> Tensor:
        """Tokens [B, H, W, C] -> [B, H, W, C]; ``keep`` [2, B] scales the two branches of each image."""
        x = _add(x, self.attn(self.norm1(x), bias), self.gamma_1, None if keep is None else keep[0])
        return _add(x, self.mlp(self.norm2(x)), self.gamma_2, None if keep is None else keep[1])


def _add(x: Tensor, branch: Tensor, gamma: Tensor | None, keep: Tensor | None) -> Tensor:
    """The sum x + keep * gamma * branch in one pass over the tokens."""
    if keep is None:
        return x + branch if gamma is None else torch.addcmul(x, branch, gamma)
    scale = keep[:, None, None, None]
    return torch.addcmul(x, branch, scale if gamma is None else scale * gamma)


class ViT(nn.Module):
    """A plain ViT whose maps feed a pyramid; images of any size that is a multiple of the patch.

    Args:
        width: channels C of the tokens.
        depth: number of blocks d.
        heads: attention heads; must divide ``width``.
        image_size: side of the square training images in pixels; sets the grid of the global bias table.
        patch_size: side of a patch in pixels, the stride of the maps.
        mlp_ratio: hidden channels of the MLP over ``width``.
        pattern: ``window`` (all blocks), ``global`` (all blocks) or ``hybrid``.
        window_size: side of the windows in tokens; the map is zero-padded to a multiple of it.
        global_blocks: of the hybrid: ``even``, ``first``, ``last`` or block numbers.
        global_count: of the hybrid: how many are global, where they are not listed.
        propagation: what stands in for global blocks where all are windowed: ``none``, ``shift`` (every second block's
            windows moved by half a window), or a convolution block after each block that the two fields above name.
        kernel: ``naive``, ``fused`` or ``fused_table`` attention, see ``attention.attend``.
        checkpoint: blocks that recompute their activations in the backward pass: ``none``, ``all`` or block numbers.
        relative: treatment of the relative bias tables.
        tables: ``shared`` has two, one for all windowed and one for all global blocks, as the paper; ``per_block`` has
            one a block, as BEiT after fine-tuning.
        absolute: treatment of the absolute embedding ``pos_embed``.
        absolute_grid: side in tokens on which ``pos_embed`` is stored; None takes the image's grid.
        layer_scale: initial value of the branch scales, None leaves them out.
        drop_path: rate of the last block; the first has 0, linear between.
        qkv_bias: see ``attention.Attention``.
        taps: ``quarters`` returns the map after each d/4 blocks, ``last`` the final one (other code says
            ``out_indices``; configs that were exported pass this keyword).
        scheme: of the initial weights, see ``Scheme``.

    Attributes:
        generators: one for each image of the next forward passes, on their device, of which drop path is drawn, so
            that an image's draw does not depend on what it is batched with; None draws from torch's global generator.
        channels_last: the maps are views of the tokens, in torch's layout of that name; they and their gradients are
            not copied into the other.

    Raises:
        ValueError: settings that do not fit together, in one sentence.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        image_size: int,
        patch_size: int = 16,
        mlp_ratio: float = 4.0,
        pattern: Pattern = "hybrid",
        window_size: int = 14,
        global_blocks: Placement | Sequence[int] = "even",
        global_count: int = 4,
        propagation: Propagation = "none",
        kernel: Kernel = "fused",
        checkpoint: Literal["none", "all"] | Sequence[int] = "none",
        relative: Treatment = "zero",
        tables: Literal["shared", "per_block"] = "shared",
        absolute: Treatment = "rand",
        absolute_grid: int | None = None,
        layer_scale: float | None = None,
        drop_path: float = 0.0,
        qkv_bias: bool = True,
        taps: Taps = "quarters",
        scheme: Scheme = "random",
    ) -> None:
        super().__init__()
        _check(width, depth, heads, image_size, patch_size, drop_path)
        check_choice("relative position", relative, TREATMENTS)
        check_choice("absolute position", absolute, TREATMENTS)
        check_choice("attention kernel", kernel, KERNELS)
        check_choice("attention pattern", pattern, PATTERNS)
        check_choice("propagation", propagation, PROPAGATIONS)
        check_choice("scheme of initial weights", scheme, SCHEMES)
        require(
            propagation == "none" or pattern == "window",
            f"propagation {propagation} replaces global blocks: it needs pattern window, not {pattern}",
        )
        require(
            propagation != "shift" or kernel != "fused_table",
            "attention kernel fused_table takes no mask, which shifted windows need; choose kernel fused",
        )
        require(
            depth % 4 == 0 or taps == "last",
            f"a multi-scale pyramid needs a depth divisible by 4, but the depth is {depth}",
        )
        side = image_size // patch_size
        chosen = (
            global_block_indexes(depth, global_blocks, global_count)
            if pattern == "hybrid" or propagation.startswith("conv")
            else ()
        )
        is_global = {"window": (), "hybrid": chosen, "global": tuple(range(depth))}[pattern]
        windowed = len(is_global) < depth
        require(
            not windowed or 1 <= window_size <= side,
            f"window_size {window_size} must lie between 1 and {side}, the side of the grid "
            f"({image_size} px in patches of {patch_size} px)",
        )
        self.width, self.depth, self.heads, self.grid = width, depth, heads, (side, side)
        self.patch_size, self.window_size, self.kernel = patch_size, window_size, kernel
        self.global_blocks = is_global
        self.recomputed = _recomputed(depth, checkpoint)
        self.out_indices = tuple(range(depth // 4 - 1, depth, depth // 4)) if taps == "quarters" else (depth - 1,)

        self.patch_embed = nn.Conv2d(3, width, patch_size, stride=patch_size)
        stored = (1, (side if absolute_grid is None else absolute_grid) ** 2, width)
        self.pos_embed = None if absolute == "none" else position_parameter(stored, absolute)
        related = relative != "none" and tables == "shared"
        window, everything = (window_size, window_size), (side, side)
        self.window_bias = RelativeBias(heads, window, relative) if related and windowed else None
        self.global_bias = RelativeBias(heads, everything, relative) if related and is_global else None
        own = range(depth) if relative != "none" and tables == "per_block" else ()
        self.block_bias = nn.ModuleList(
            RelativeBias(heads, everything if block in is_global else window, relative) for block in own
        )
        self.blocks = nn.ModuleList(
            Block(
                Attention(
                    width,
                    heads,
                    window=0 if index in is_global else window_size,
                    shifted=propagation == "shift" and index % 2 == 1,
                    qkv_bias=qkv_bias,
                    kernel=kernel,
                ),
                width,
                int(width * mlp_ratio),
                layer_scale,
            )
            for index in range(depth)
        )
        convolved = chosen if propagation.startswith("conv") else ()
        self.propagation = nn.ModuleDict({str(block): ConvPropagation(width, propagation) for block in convolved})  # type: ignore[arg-type]
        self.drop_path = drop_path
        self.generators: Sequence[torch.Generator] | None = None
        self.channels_last = False
        self._compiled: RunBlock | None = None
        self._initialise(scheme)

    def _initialise(self, scheme: Scheme) -> None:
        """BEiT's random init: weights normal with std 0.02, the last layer of each branch of block l over sqrt(2 l)."""
        if self.patch_embed.weight.is_meta:
            return  # nothing to fill, and torch would take seconds to find that out
        for module in (self.patch_embed, *self.blocks.modules()):
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.normal_(module.weight, std=STD)  # see position_parameter on "trunc_normal"
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        if scheme == "truncated":
            drawn = [
                *(block.weight for block in self.modules() if isinstance(block, nn.Linear)),
                self.patch_embed.weight,
            ]
            if self.pos_embed is not None and self.pos_embed.any():  # zeros stay
                drawn.append(self.pos_embed)
            for weight in drawn:
                nn.init.trunc_normal_(weight, std=STD, a=-STD, b=STD)
        with torch.no_grad():
            for number, block in enumerate(self.blocks, start=1):
                block.attn.proj.weight.div_((2 * number) ** 0.5)  # type: ignore[union-attr, operator]
                block.mlp.fc2.weight.div_((2 * number) ** 0.5)  # type: ignore[union-attr, operator]

    def compile_blocks(self, backend: str | None = None) -> None:
        """Compile the blocks, at the first forward pass, for images of the size of training; others run as before.

        Args:
            backend: of ``torch.compile``; None takes ``compiled.BACKEND``.
        """
        self._compiled = compiled_run(backend)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images [B, 3, H, W], normalised and padded -> maps [B, C, H/patch, W/patch] of ``out_indices``, in order.

        Raises:
            ValueError: H or W is no multiple of the patch.
        """
        batch, _, height, width = images.shape
        require(
            height % self.patch_size == width % self.patch_size == 0,
            f"{height} x {width} px do not divide into patches of {self.patch_size} px; pad the images first",
        )
        # Mixed precision would halve the residual stream, but only where no pos_embed widens it again.
        x = self.patch_embed(images).permute(0, 2, 3, 1).to(images.dtype)
        grid = (x.shape[1], x.shape[2])
        if self.pos_embed is not None:
            x = x + resize_embedding(self.pos_embed, grid)
        x = x.contiguous()  # the convolution's layout would stay, and cost every sum and norm of every block
        biases = {} if self.block_bias else self._biases(grid, x)
        keep = self.drop_path_mask(batch, x.device)
        maps = []
        run = run_block if self._compiled is None or grid != self.grid else self._compiled
        to_map = _AsView if self.channels_last else _AsMap
        for index, block in enumerate(self.blocks):
            attention: Attention = block.attn  # type: ignore[assignment]
            if self.block_bias:
                biases = self._biases(grid, x, index)
            arguments = (x, biases[attention.window, attention.shifted], None if keep is None else keep[index])
            if index in self.recomputed and torch.is_grad_enabled():
                # Nothing inside a block is random (drop path is drawn above), so no random state needs keeping.
                x = recompute(run, block, *arguments, use_reentrant=False, preserve_rng_state=False)
            else:
                x = run(block, *arguments)
            if str(index) in self.propagation:
                x = self.propagation[str(index)](x)
            if index in self.out_indices:
                maps.append(to_map.apply(x))
        return maps

    def _biases(
        self, grid: Grid, x: Tensor, block: int | None = None
    ) -> dict[tuple[int, bool], Tensor | TableBias | None]:
        """The bias that each kind of block, (window or 0, shifted), adds to its logits, built once for all such blocks.

        With tables per block: what the given one adds.
        """
        windowed, everywhere = self.window_bias, self.global_bias
        if block is not None:
            table: RelativeBias = self.block_bias[block]  # type: ignore[assignment]
            windowed, everywhere = (None, table) if block in self.global_blocks else (table, None)
        device = x.device.type
        mixed = torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device) if mixed else x.dtype
        window = (self.window_size, self.window_size)
        if self.kernel == "fused_table":
            return {
                (self.window_size, False): None if windowed is None else windowed.as_constant(window, dtype),
                (0, False): None if everywhere is None else everywhere.as_constant(grid, dtype),
            }
        own = None if windowed is None else windowed(window, dtype)
        biases: dict[tuple[int, bool], Tensor | TableBias | None]
        biases = {(self.window_size, False): own, (self.window_size, True): own}
        biases[0, False] = None if everywhere is None else everywhere(grid, dtype)
        shift = shift_of(grid, self.window_size)
        if any(shift) and any(block.attn.shifted for block in self.blocks):  # type: ignore[union-attr]
            mask = shift_mask(grid, self.window_size, shift, x.device, dtype)[:, None]
            masked = mask.expand(-1, self.heads, -1, -1) if own is None else mask + own  # [nW, heads, n, n]
            biases[self.window_size, True] = aligned(masked.flatten(0, 1)[None])
        return biases

    def drop_path_mask(self, batch: int, device: torch.device) -> Tensor | None:
        """Drop path of all blocks -> [depth, 2, B], 0 (dropped) or 1 / (1 - rate); None if unused.

        Raises:
            ValueError: there are generators, and not one an image.
        """
        if not self.training or not self.drop_path:
            return None
        kept = 1 - torch.linspace(0, self.drop_path, self.depth, device=device)[:, None, None]
        if self.generators is None:
            return (torch.rand(self.depth, 2, batch, device=device) < kept) / kept
        require(len(self.generators) == batch, f"{len(self.generators)} generators for {batch} images")
        drawn = [torch.rand(self.depth, 2, generator=one, device=device) for one in self.generators]
        return (torch.stack(drawn, dim=-1) < kept) / kept


class _AsMap(torch.autograd.Function):
    """Tokens [B, H, W, C] -> a map [B, C, H, W], both contiguous, and so are their gradients.

    The gradient of a mere view would carry the map's layout into the backward pass of every block.
    """

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient.permute(0, 2, 3, 1).contiguous()


class _AsView(torch.autograd.Function):
    """The same map as a view of the tokens, whose gradient is brought into their layout."""

    @staticmethod
    def forward(_: Any, x: Tensor) -> Tensor:
        return x.permute(0, 3, 1, 2)

    @staticmethod
    def backward(_: Any, gradient: Tensor) -> Tensor:
        return gradient.permute(0, 2, 3, 1).contiguous()


def _check(width: int, depth: int, heads: int, image_size: int, patch_size: int, drop_path: float) -> None:
    require(
        min(width, depth, heads, patch_size) >= 1,
        f"width {width}, depth {depth}, heads {heads} and patch_size {patch_size} must be positive",
    )
    require(width % heads == 0, f"{heads} heads do not divide the width {width}")
    require(
        image_size >= patch_size and image_size % patch_size == 0,
        f"image_size {image_size} is no multiple of patch_size {patch_size}",
    )
    require(0 <= drop_path < 1, f"drop_path {drop_path} must be at least 0 and below 1")


def _recomputed(depth: int, checkpoint: str | Sequence[int]) -> frozenset[int]:
    """The blocks that recompute their activations."""
    if isinstance(checkpoint, str):
        require(
            checkpoint in ("none", "all"),
            f"checkpoint {checkpoint!r} is unknown; choose none, all or a list of block numbers",
        )
        return frozenset(range(depth) if checkpoint == "all" else ())
    for block in checkpoint:
        require(0 <= block < depth, f"checkpoint names block {block}, but blocks are numbered 0 to {depth - 1}")
    return frozenset(checkpoint)
