"""What a masked autoencoder makes of pictures, to look at: original, what it saw, what it made of that."""

import io

import torch
from PIL import Image
from torch import Tensor

from ablate.config import Pretraining

GAP = 4  # pixels
GREY = 128  # of what was hidden
SMALLEST = 112  # pixels of a picture in the gallery; smaller crops are enlarged


def draw_reconstructions(images: Tensor, found: Tensor, hidden: Tensor, pretraining: Pretraining) -> bytes:
    """A PNG with a row of three pictures an image, two of them side by side where there are more than four.

    Args:
        images: u8[B, 3, side, side] RGB.
        found: f32[B, 3, side, side], normalised: what the decoder made of the hidden patches.
        hidden: f32[B, 1, side, side], 1 where the encoder did not look.
        pretraining: whose pixel statistics normalised them.
    """
    std, mean = (
        torch.tensor(values, device=found.device).reshape(3, 1, 1)
        for values in (pretraining.pixel_std, pretraining.pixel_mean)
    )
    original = images.float()
    made = ((found * std + mean) * 255).clamp(0, 255)
    seen = original * (1 - hidden) + GREY * hidden
    pasted = original * (1 - hidden) + made * hidden
    rows = torch.stack([original, seen, pasted], dim=1).round().to(torch.uint8).cpu()  # [B, 3 pictures, 3, side, side]
    factor = max(1, -(-SMALLEST // rows.shape[-1]))
    rows = rows.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    side, columns = rows.shape[-1], 2 if len(rows) > 4 else 1
    lines = -(-len(rows) // columns)
    width = columns * (3 * side + 2 * GAP) + (columns - 1) * 4 * GAP
    sheet = torch.full((3, lines * side + (lines - 1) * GAP, width), 255, dtype=torch.uint8)
    for number, row in enumerate(rows):
        line, column = number % lines, number // lines
        top, left = line * (side + GAP), column * (3 * side + 6 * GAP)
        for place, picture in enumerate(row):
            start = left + place * (side + GAP)
            sheet[:, top : top + side, start : start + side] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()
