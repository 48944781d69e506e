"""The masked autoencoder against the published formulas, a hand case, and timm's blocks put together anew."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ablate.models.mae import MaskedAutoencoder, Masking, normalised, patchify, sin_cos_embedding, unpatchify

SIZES = {"width": 32, "depth": 2, "heads": 4, "image_size": 16, "patch_size": 4}
DECODER = {"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2}


def autoencoder(**changes: object) -> MaskedAutoencoder:
    torch.manual_seed(0)
    return MaskedAutoencoder(**{**SIZES, **DECODER, **changes})  # type: ignore[arg-type]


def batch(count: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 3, 16, 16, generator=generator), torch.rand(count, 16, generator=generator)


def test_sin_cos_is_the_published_formula() -> None:
    """PE(p, 2i) = sin(p / 10000^(2i / d)) and cos alike, an axis in each half: the column first, as in MAE's code."""
    width, grid = 24, 5
    found = sin_cos_embedding(width, grid)
    assert found.shape == (1, 26, 24)
    assert not found[0, 0].any()
    half, quarter = width // 2, width // 4
    for row, column, i in [(0, 0, 0), (3, 1, 0), (1, 4, 5), (4, 4, 3), (2, 0, 2)]:
        token = found[0, 1 + row * grid + column]
        for place, start in ((column, 0), (row, half)):
            angle = place / 10000 ** (2 * i / half)
            assert token[start + i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert token[start + quarter + i] == pytest.approx(math.cos(angle), abs=1e-6)


def test_patches_are_cut_by_rows_with_colours_fastest() -> None:
    images = torch.arange(2 * 3 * 4 * 6, dtype=torch.float32).reshape(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    last = [images[1, colour, 2 + y, 4 + x].item() for y in (0, 1) for x in (0, 1) for colour in (0, 1, 2)]
    assert patches[1, 5].tolist() == last
    square, _ = batch()
    torch.testing.assert_close(unpatchify(patchify(square, 4), 4), square, rtol=0, atol=0)


def test_three_quarters_are_hidden_and_everything_finds_its_place() -> None:
    noise = torch.tensor([[0.9, 0.1, 0.5, 0.3, 0.8, 0.2, 0.7, 0.4]])
    masking = Masking(noise, 0.75)
    assert masking.seen.tolist() == [[1, 5]]
    assert masking.hidden.tolist() == [[1, 0, 1, 1, 1, 0, 1, 1]]
    shuffled = noise.gather(1, noise.argsort(dim=1))
    torch.testing.assert_close(shuffled.gather(1, masking.back), noise, rtol=0, atol=0)


def test_the_loss_of_a_hand_case() -> None:
    """A decoder that says the same of every pixel: the loss can be added up by hand, over hidden patches alone."""
    model = autoencoder(normalised_target=False)
    with torch.no_grad():
        model.decoder_pred.weight.zero_()
        model.decoder_pred.bias.fill_(0.25)
    images, noise = batch()
    errors = []
    for image, drawn in zip(images.numpy(), noise.numpy(), strict=True):
        for patch in np.argsort(drawn)[4:]:  # all but the quarter of the smallest noise
            top, left = 4 * (patch // 4), 4 * (patch % 4)
            errors.append(((image[:, top : top + 4, left : left + 4] - 0.25) ** 2).mean())
    assert len(errors) == 36
    assert model(images, noise).item() == pytest.approx(np.mean(errors), rel=1e-6)
    model.normalised_target = True
    whitened = normalised(patchify(images, 4))[0].numpy()
    pixels = patchify(images, 4).numpy()
    expected = (pixels - pixels.mean(-1, keepdims=True)) / np.sqrt(pixels.var(-1, ddof=1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(whitened, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("whiten", [False, True])
def test_the_same_loss_as_blocks_of_timm_put_together_anew(whiten: bool) -> None:
    vision = pytest.importorskip("timm.models.vision_transformer")
    model = autoencoder(normalised_target=whiten)
    state = model.state_dict()

    def blocks(prefix: str, width: int, heads: int) -> nn.Sequential:
        made = nn.Sequential(
            *(vision.Block(width, heads, qkv_bias=True, norm_layer=partial(nn.LayerNorm, eps=1e-6)) for _ in range(2))
        )
        own = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        made.load_state_dict(own, strict=True)
        return made

    images, noise = batch()
    cut = nn.functional.unfold(images, 4, stride=4).transpose(1, 2)  # colours slowest within a patch
    weight = state["patch_embed.proj.weight"].flatten(1)
    tokens = cut @ weight.T + state["patch_embed.proj.bias"] + state["pos_embed"][:, 1:]
    target = cut.unflatten(2, (3, 16)).transpose(2, 3).flatten(2)
    if whiten:
        target = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    total, hidden = 0.0, 0
    encode, decode = blocks("blocks.", 32, 4), blocks("decoder_blocks.", 16, 2)
    for picture in range(3):
        seen = sorted(range(16), key=lambda patch: noise[picture, patch].item())[:4]
        first = state["cls_token"][0] + state["pos_embed"][0, :1]
        x = torch.cat([first, tokens[picture, seen]])[None]
        x = nn.functional.layer_norm(encode(x), (32,), state["norm.weight"], state["norm.bias"], 1e-6)
        x = x[0] @ state["decoder_embed.weight"].T + state["decoder_embed.bias"]
        full = state["mask_token"][0].repeat(17, 1)
        full[0] = x[0]
        for place, patch in enumerate(seen):
            full[1 + patch] = x[1 + place]
        full = decode((full + state["decoder_pos_embed"][0])[None])
        full = nn.functional.layer_norm(full, (16,), state["decoder_norm.weight"], state["decoder_norm.bias"], 1e-6)
        found = (full[0] @ state["decoder_pred.weight"].T + state["decoder_pred.bias"])[1:]
        for patch in set(range(16)) - set(seen):
            total += ((found[patch] - target[picture, patch]) ** 2).mean().item()
            hidden += 1
    assert model(images, noise).item() == pytest.approx(total / hidden, rel=1e-5)


def test_what_is_hidden_reaches_neither_encoder_nor_seen_loss() -> None:
    model = autoencoder()
    images, noise = batch()
    masking = Masking(noise, 0.75)
    other = images.clone()
    hidden = unpatchify(masking.hidden[:, :, None].expand(-1, -1, 48), 4).bool()
    other[hidden] = 7.0
    before, after = model.encode(images, masking), model.encode(other, masking)
    torch.testing.assert_close(before, after, rtol=0, atol=0)
    assert before.shape == (3, 5, 32)
    moved = model.reconstruct(images, noise)[1]
    torch.testing.assert_close(moved.expand(-1, 3, -1, -1), hidden.float(), rtol=0, atol=0)


def test_keys_and_shapes_are_the_official_ones() -> None:
    shared = {
        f"{name}.{kind}"
        for name in ("norm1", "norm2", "attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
        for kind in ("weight", "bias")
    }
    encoder = {"cls_token", "pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias", "norm.weight", "norm.bias"}
    encoder |= {f"blocks.{number}.{name}" for number in (0, 1) for name in shared}
    decoder = {"mask_token", "decoder_pos_embed"}
    decoder |= {f"decoder_{name}.{kind}" for name in ("embed", "norm", "pred") for kind in ("weight", "bias")}
    decoder |= {f"decoder_blocks.{number}.{name}" for number in (0, 1) for name in shared}
    model = autoencoder()
    assert set(model.encoder_state()) == encoder
    assert set(model.state_dict()) == encoder | decoder
    state = model.state_dict()
    assert state["pos_embed"].shape == (1, 17, 32)
    assert state["decoder_pos_embed"].shape == (1, 17, 16)
    assert state["blocks.0.attn.qkv.weight"].shape == (96, 32)
    assert state["decoder_pred.weight"].shape == (48, 16)
    assert not any(value.requires_grad for name, value in model.named_parameters() if name.endswith("pos_embed"))


def test_pictures_get_back_the_brightness_of_their_patches() -> None:
    """A decoder that predicts nothing but zeros paints every hidden patch in its true mean."""
    model = autoencoder()
    with torch.no_grad():
        model.decoder_pred.weight.zero_()
        model.decoder_pred.bias.zero_()
    images, noise = batch()
    found, _ = model.reconstruct(images, noise)
    means = patchify(images, 4).mean(-1, keepdim=True).expand(-1, -1, 48)
    torch.testing.assert_close(found, unpatchify(means, 4))
