"""A masked autoencoder (MAE, arXiv 2111.06377): the encoder sees a quarter of the patches, a light decoder the rest.

Parameters are named as in the official checkpoints, so a state dict is one of them. The blocks are those of ``ViT``,
with global attention and without positional biases.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.models.attention import Attention
from ablate.models.vit import Block


def sin_cos_embedding(width: int, grid: int) -> Tensor:
    """The fixed positional embedding f32[1, 1 + grid*grid, width]: zeros for the class token, then the patches by rows.

    The first half of the channels encodes the column, the second the row; each half is sin, then cos, of the place
    divided by 10000^(i / (width / 4)).
    """
    omega = 10000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    phase = torch.arange(grid, dtype=torch.float64)[:, None] * omega  # [grid, width / 4]
    line = torch.cat([phase.sin(), phase.cos()], dim=1)  # [grid, width / 2]
    table = torch.cat([line.repeat(grid, 1), line.repeat_interleave(grid, dim=0)], dim=1)  # columns, rows
    return F.pad(table, (0, 0, 1, 0))[None].float()


def patchify(images: Tensor, patch: int) -> Tensor:
    """Images [B, 3, H, W] -> patches by rows [B, n, patch*patch*3], in each the pixels by rows, colours fastest."""
    batch, colours, height, width = images.shape
    cut = images.reshape(batch, colours, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, patch * patch * colours)


def unpatchify(patches: Tensor, patch: int) -> Tensor:
    """Undoes ``patchify`` for square images: [B, n, patch*patch*3] -> [B, 3, H, W]."""
    batch, n, _ = patches.shape
    side = round(n**0.5)
    cut = patches.reshape(batch, side, side, patch, patch, 3)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(batch, 3, side * patch, side * patch)


def normalised(patches: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Patches [B, n, d] at mean 0 and variance 1 each, and what was taken away: mean and deviation [B, n, 1]."""
    mean = patches.mean(dim=-1, keepdim=True)
    deviation = (patches.var(dim=-1, keepdim=True) + 1e-6).sqrt()
    return (patches - mean) / deviation, mean, deviation


class Masking:
    """Which patches the encoder sees: those of the smallest noise, in its order.

    Args:
        noise: f32[B, n], uniform; the same for the same picture, whatever it is batched with.
        ratio: part of the patches to hide.
    """

    def __init__(self, noise: Tensor, ratio: float) -> None:
        kept = int(noise.shape[1] * (1 - ratio))
        order = noise.argsort(dim=1, stable=True)
        self.seen = order[:, :kept]  # i64[B, kept]
        self.back = order.argsort(dim=1)  # i64[B, n]: where a patch stands among seen and hidden
        self.hidden = (self.back >= kept).float()  # f32[B, n]: 1 is hidden


class PatchEmbed(nn.Module):
    """Patches to tokens."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, stride=patch)

    def forward(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, n, C], by rows."""
        return self.proj(images).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class MaskedAutoencoder(nn.Module):
    """Images to the loss of reconstructing what was hidden.

    Args:
        width, depth, heads, mlp_ratio: of the encoder.
        image_size: side of the square images in pixels.
        patch_size: side of a patch in pixels.
        decoder_width, decoder_depth, decoder_heads: of the decoder; its MLPs have the encoder's ratio.
        mask_ratio: part of the patches to hide.
        normalised_target: reconstruct every patch at mean 0 and variance 1.
    """

    def __init__(
        self,
        *,
        width: int,
        depth: int,
        heads: int,
        image_size: int,
        patch_size: int,
        mlp_ratio: float = 4.0,
        decoder_width: int = 512,
        decoder_depth: int = 8,
        decoder_heads: int = 16,
        mask_ratio: float = 0.75,
        normalised_target: bool = True,
    ) -> None:
        super().__init__()
        self.patch, self.mask_ratio, self.normalised_target = patch_size, mask_ratio, normalised_target
        grid = image_size // patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(sin_cos_embedding(width, grid), requires_grad=False)
        self.patch_embed = PatchEmbed(width, patch_size)
        self.blocks = _blocks(depth, width, heads, mlp_ratio)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.decoder_embed = nn.Linear(width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, decoder_width))
        self.decoder_pos_embed = nn.Parameter(sin_cos_embedding(decoder_width, grid), requires_grad=False)
        self.decoder_blocks = _blocks(decoder_depth, decoder_width, decoder_heads, mlp_ratio)
        self.decoder_norm = nn.LayerNorm(decoder_width, eps=1e-6)
        self.decoder_pred = nn.Linear(decoder_width, patch_size**2 * 3)
        self._initialise()

    def _initialise(self) -> None:
        """Xavier for every matrix, the patch projection taken as one; tokens normal with std 0.02."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        weight = self.patch_embed.proj.weight
        nn.init.xavier_uniform_(weight.data.view(weight.shape[0], -1))
        nn.init.normal_(self.cls_token, std=0.02)
        nn.init.normal_(self.mask_token, std=0.02)

    def forward(self, images: Tensor, noise: Tensor) -> Tensor:
        """The loss: mean squared error over the pixels of the hidden patches.

        Args:
            images: f32[B, 3, side, side], normalised.
            noise: f32[B, n] as ``Masking`` takes it.
        """
        found, masking = self._predict(images, noise)
        target = patchify(images, self.patch)
        if self.normalised_target:
            target = normalised(target)[0]
        return ((found - target).square().mean(dim=-1) * masking.hidden).sum() / masking.hidden.sum()

    def _predict(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Masking]:
        masking = Masking(noise, self.mask_ratio)
        return self.decode(self.encode(images, masking), masking).float(), masking

    def encode(self, images: Tensor, masking: Masking | None = None) -> Tensor:
        """Tokens [B, 1 + n, C] of the class and of the patches seen; without masking all are, by rows."""
        # Mixed precision would halve the residual stream, but for the embedding, which widens it again.
        x = self.patch_embed(images) + self.pos_embed[:, 1:]
        if masking is not None:
            x = _taken(x, masking.seen)
        first = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return self.norm(_through(self.blocks, torch.cat([first, x], dim=1)))  # type: ignore[no-any-return]

    def decode(self, tokens: Tensor, masking: Masking) -> Tensor:
        """The predicted pixels of every patch, [B, n, patch*patch*3], from the tokens of ``encode``."""
        x = self.decoder_embed(tokens)
        hidden = self.mask_token.to(x.dtype).expand(len(x), masking.back.shape[1] + 1 - x.shape[1], -1)
        patches = _taken(torch.cat([x[:, 1:], hidden], dim=1), masking.back)
        x = torch.cat([x[:, :1], patches], dim=1) + self.decoder_pos_embed
        return self.decoder_pred(self.decoder_norm(_through(self.decoder_blocks, x)))[:, 1:]  # type: ignore[no-any-return]

    @torch.no_grad()
    def reconstruct(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction of images f32[B, 3, side, side], and the mask of hidden pixels (1) [B, 1, side, side].

        Where targets are normalised, each patch gets back the mean and deviation of the true one, as in the paper's
        figures.
        """
        found, masking = self._predict(images, noise)
        if self.normalised_target:
            _, mean, deviation = normalised(patchify(images, self.patch))
            found = found * deviation + mean
        pixels = masking.hidden[:, :, None].expand(-1, -1, found.shape[-1])
        return unpatchify(found, self.patch), unpatchify(pixels, self.patch)[:, :1]

    def encoder_state(self) -> dict[str, Tensor]:
        """The state dict without the decoder, as the official pre-trained files have it."""
        return {
            key: value for key, value in self.state_dict().items() if not key.startswith(("decoder_", "mask_token"))
        }


def _blocks(depth: int, width: int, heads: int, mlp_ratio: float) -> nn.ModuleList:
    return nn.ModuleList(
        Block(Attention(width, heads), width, int(width * mlp_ratio), layer_scale=None) for _ in range(depth)
    )


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    """Tokens [B, n, C] -> [B, n, C]; the blocks take them as a grid of one row."""
    x = x.unsqueeze(1)
    for block in blocks:
        x = cast(Tensor, block(x, None, None))
    return x.squeeze(1)


def _taken(x: Tensor, places: Tensor) -> Tensor:
    """Tokens [B, n, C] at places i64[B, m] -> [B, m, C]."""
    return x.gather(1, places[:, :, None].expand(-1, -1, x.shape[-1]))
