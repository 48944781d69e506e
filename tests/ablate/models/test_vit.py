"""The backbone against torchvision's blocks, against itself with one setting changed, and against its arithmetic."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import VisionTransformer
from torchvision.models.swin_transformer import shifted_window_attention

from ablate.models import ViT
from ablate.models.vit import global_block_indexes

TINY: dict[str, Any] = {"width": 16, "depth": 4, "heads": 2, "image_size": 40, "patch_size": 4, "window_size": 4}


def tiny(seed: int = 0, **changes: Any) -> ViT:
    """A ViT in which every parameter is drawn, so that no branch is silent; 10 x 10 tokens, windows padded to 12."""
    torch.manual_seed(seed)
    model = ViT(**{**TINY, "global_count": 2, **changes})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model


def gradients(model: ViT, images: Tensor) -> dict[str, Tensor]:
    maps = model(images)
    loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in maps)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters), strict=True))


def test_blocks_equal_torchvisions_with_the_same_weights() -> None:
    """Two of the encoder blocks of its ViT-B, no relative bias, all global."""
    torch.manual_seed(0)
    theirs = VisionTransformer(112, 16, num_layers=2, num_heads=12, hidden_dim=768, mlp_dim=3072).eval()
    ours = ViT(width=768, depth=2, heads=12, image_size=112, pattern="global", relative="none", taps="last").eval()
    state: dict[str, Tensor] = {
        "patch_embed.weight": theirs.conv_proj.weight,
        "patch_embed.bias": theirs.conv_proj.bias,
        "pos_embed": theirs.encoder.pos_embedding[:, 1:],
    }
    for number in range(2):
        block = theirs.encoder.layers[number]
        for name, module in {
            "norm1": block.ln_1,
            "attn.proj": block.self_attention.out_proj,
            "norm2": block.ln_2,
            "mlp.fc1": block.mlp[0],
            "mlp.fc2": block.mlp[3],
        }.items():
            state[f"blocks.{number}.{name}.weight"] = module.weight
            state[f"blocks.{number}.{name}.bias"] = module.bias
        state[f"blocks.{number}.attn.qkv.weight"] = block.self_attention.in_proj_weight
        state[f"blocks.{number}.attn.qkv.bias"] = block.self_attention.in_proj_bias
    ours.load_state_dict(state, strict=True)
    images = torch.randn(2, 3, 112, 112)
    with torch.no_grad():
        x = theirs.conv_proj(images).flatten(2).transpose(1, 2) + theirs.encoder.pos_embedding[:, 1:]
        for number in range(2):
            x = theirs.encoder.layers[number](x)
        (found,) = ours(images)
    torch.testing.assert_close(found.flatten(2).transpose(1, 2), x, rtol=1e-5, atol=1e-5)


def test_windows_over_the_whole_grid_equal_global_attention() -> None:
    images = torch.randn(2, 3, 40, 40)
    everywhere, windowed = tiny(pattern="global"), tiny(pattern="window", window_size=10)
    state = everywhere.state_dict()
    state["window_bias.table"] = state.pop("global_bias.table")
    windowed.load_state_dict(state)
    torch.testing.assert_close(windowed(images), everywhere(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("propagation", ["none", "shift", "conv_basic"])
def test_kernels_give_the_same_maps_and_gradients(propagation: str) -> None:
    images = torch.randn(2, 3, 40, 40, dtype=torch.float64)
    pattern = "hybrid" if propagation == "none" else "window"
    models = [tiny(pattern=pattern, propagation=propagation, kernel=k).double() for k in ("naive", "fused")]
    with torch.no_grad():  # here the fused kernel of the CPU runs; with gradients it may stand back
        torch.testing.assert_close(models[0](images), models[1](images), rtol=1e-9, atol=1e-9)
    naive, fused = (gradients(model, images) for model in models)
    torch.testing.assert_close(naive, fused, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("checkpoint", ["all", [1, 2]])
@pytest.mark.parametrize("propagation", ["none", "shift", "conv_bottleneck"])
def test_recomputing_activations_changes_no_bit_of_a_gradient(checkpoint: Any, propagation: str) -> None:
    images = torch.randn(6, 3, 40, 40)
    pattern = "hybrid" if propagation == "none" else "window"
    settings = {"pattern": pattern, "propagation": propagation, "drop_path": 0.5, "layer_scale": 0.1}
    results = []
    for option in ("none", checkpoint):
        model = tiny(checkpoint=option, **settings).train()
        torch.manual_seed(7)
        results.append((gradients(model, images), torch.get_rng_state()))
    for name, gradient in results[0][0].items():
        assert torch.equal(gradient, results[1][0][name]), name
    assert torch.equal(results[0][1], results[1][1])  # and it leaves the random state where it would be


def test_recomputing_saves_memory() -> None:
    def saved(checkpoint: str) -> int:
        count = 0

        def pack(x: Tensor) -> Tensor:
            nonlocal count
            count += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            tiny(checkpoint=checkpoint)(torch.randn(1, 3, 40, 40))
        return count

    assert saved("all") < saved("none") / 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("checkpoint", ["all", [0, 1]])
def test_recomputing_saves_memory_of_a_gpu_and_keeps_the_gradients(checkpoint: Any) -> None:
    images = torch.randn(2, 3, 256, 256, device="cuda")
    peaks, results = [], []
    for option in ("none", checkpoint):
        model = tiny(width=64, image_size=256, checkpoint=option).cuda()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        results.append(gradients(model, images))
        peaks.append(torch.cuda.max_memory_allocated() - before)
    assert peaks[1] < 0.8 * peaks[0]
    for name, gradient in results[0].items():
        assert (gradient - results[1][name]).norm() <= 1e-3 * gradient.norm(), name


def test_blocks_share_their_bias_tables() -> None:
    """The gradient of a shared table is the sum of what it would be with a table for each block."""
    model = tiny().double()
    tables = {name for name, _ in model.named_parameters() if "bias.table" in name}
    assert tables == {"window_bias.table", "global_bias.table"}
    images = torch.randn(1, 3, 40, 40, dtype=torch.float64)
    together = gradients(model, images)
    biases: list[Tensor] = []
    hooks = []
    for block in model.blocks:

        def own_bias(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            biases.append(inputs[1].detach().clone().requires_grad_())
            return (inputs[0], biases[-1], *inputs[2:])

        hooks.append(block.register_forward_pre_hook(own_bias))
    maps = model(images)
    loss = sum((x * torch.linspace(-1, 1, x.numel()).view_as(x)).sum() for x in maps)
    apart = torch.autograd.grad(loss, biases)
    assert model.global_blocks == (1, 3)
    for name, indices, grid in (("window", (0, 2), (4, 4)), ("global", (1, 3), (10, 10))):
        module = getattr(model, f"{name}_bias")
        summed = sum(apart[i] for i in indices)
        expected = torch.autograd.grad(module(grid, torch.float64), module.table, summed)[0]
        torch.testing.assert_close(together[f"{name}_bias.table"], expected, rtol=1e-9, atol=1e-9)
        assert all(apart[i].abs().sum() > 0 for i in indices)


def test_drop_path_drops_whole_branches_at_its_rate_and_keeps_their_mean() -> None:
    model = tiny(drop_path=0.6).train()
    torch.manual_seed(1)
    keep = model.drop_path_mask(20000, torch.device("cpu"))
    assert keep is not None
    assert keep.shape == (4, 2, 20000)
    for scales, rate in zip(keep, (0.0, 0.2, 0.4, 0.6), strict=True):
        torch.testing.assert_close(scales[scales > 0].unique(), torch.tensor([1 / (1 - rate)]))
        assert (scales == 0).float().mean().item() == pytest.approx(rate, abs=0.01)
        assert scales.mean().item() == pytest.approx(1, abs=0.02)
    assert abs(torch.corrcoef(keep[1:].flatten(0, 1))[~torch.eye(6, dtype=torch.bool)]).max() < 0.03
    assert model.eval().drop_path_mask(3, torch.device("cpu")) is None
    assert tiny().train().drop_path_mask(3, torch.device("cpu")) is None


def test_with_generators_an_image_drops_the_same_whatever_it_is_batched_with() -> None:
    def drawn(*seeds: int) -> Tensor:
        model.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        keep = model.drop_path_mask(len(seeds), torch.device("cpu"))
        assert keep is not None
        return keep

    model = tiny(drop_path=0.5).train()
    torch.testing.assert_close(drawn(3, 4, 5), torch.cat([drawn(3), drawn(4, 5)], dim=-1), rtol=0, atol=0)
    many = drawn(*range(2000))
    assert (many[-1] == 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    model.generators = [torch.Generator()]
    with pytest.raises(ValueError, match="1 generators for 2 images"):
        model(torch.randn(2, 3, 40, 40))


def test_drop_path_scales_the_two_branches_of_each_image() -> None:
    block = tiny(layer_scale=0.5).blocks[1]
    x = torch.randn(3, 10, 10, 16)
    bias = torch.randn(1, 2, 100, 100)
    keep = torch.tensor([[0.0, 2.0, 1.0], [0.0, 0.0, 1.5]])
    middle = x + keep[0].view(3, 1, 1, 1) * block.gamma_1 * block.attn(block.norm1(x), bias)
    expected = middle + keep[1].view(3, 1, 1, 1) * block.gamma_2 * block.mlp(block.norm2(middle))
    torch.testing.assert_close(block(x, bias, keep), expected)
    assert torch.equal(block(x, bias, keep)[0], x[0])


def test_the_random_state_of_torch_decides_what_is_dropped() -> None:
    model, images = tiny(drop_path=0.9).train(), torch.randn(4, 3, 40, 40)
    maps = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        maps.append(model(images)[-1])
    assert torch.equal(maps[0], maps[1])
    assert not torch.equal(maps[0], maps[2])


@pytest.mark.parametrize("propagation", ["none", "shift", "conv_naive"])
def test_an_image_does_not_depend_on_its_batch(propagation: str) -> None:
    model = tiny(pattern="window", propagation=propagation).double().eval()
    images = torch.randn(3, 3, 40, 40, dtype=torch.float64)
    torch.testing.assert_close(model(images)[-1][1:2], model(images[1:2])[-1], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [(40, 24), (24, 40), (56, 48), (8, 8)])
@pytest.mark.parametrize("propagation", ["none", "shift", "conv_naive"])
def test_images_of_other_sizes_than_in_training(size: tuple[int, int], propagation: str) -> None:
    pattern = "hybrid" if propagation == "none" else "window"
    maps = tiny(pattern=pattern, propagation=propagation, absolute_grid=6)(torch.randn(2, 3, *size))
    assert [tuple(x.shape) for x in maps] == [(2, 16, size[0] // 4, size[1] // 4)] * 4
    assert all(x.isfinite().all() for x in maps)


def test_the_map_of_each_tap_is_the_output_of_its_block() -> None:
    model = tiny(depth=8, global_count=4)
    outputs = []
    for block in model.blocks:
        block.register_forward_hook(lambda *call: outputs.append(call[2]))
    maps = model(torch.randn(1, 3, 40, 40))
    assert all(torch.equal(x.permute(0, 2, 3, 1), outputs[i]) for x, i in zip(maps, (1, 3, 5, 7), strict=True))
    assert len(tiny(taps="last")(torch.randn(1, 3, 40, 40))) == 1


@pytest.mark.parametrize("absolute", ["rand", "none"])
@pytest.mark.parametrize(
    ("pattern", "propagation"), [("hybrid", "none"), ("window", "shift"), ("window", "conv_basic")]
)
def test_tokens_and_their_gradients_lie_as_the_blocks_read_them(pattern: str, propagation: str, absolute: str) -> None:
    """Token by token, whatever the convolution before and the pyramid after them prefer: else all of it is slower."""
    model = tiny(pattern=pattern, propagation=propagation, absolute=absolute)
    layouts = []

    def look(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        layouts.append(inputs[0].is_contiguous())
        inputs[0].register_hook(lambda gradient: layouts.append(gradient.is_contiguous()))

    for block in model.blocks:
        block.register_forward_pre_hook(look)
    maps = model(torch.randn(2, 3, 40, 40))
    assert all(x.is_contiguous() for x in maps)
    sum(x.square().sum() for x in maps).backward()
    assert layouts == [True] * 8


@pytest.mark.parametrize("kind", ["conv_naive", "conv_basic", "conv_bottleneck"])
def test_convolutions_start_as_the_identity_and_learn(kind: str) -> None:
    torch.manual_seed(0)
    convolved = ViT(**TINY, pattern="window", propagation=kind)
    plain = ViT(**TINY, pattern="window")
    missing, unexpected = convolved.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert {name.split(".")[0] for name in missing} == {"propagation"}
    assert set(convolved.propagation) == {"0", "1", "2", "3"}
    images = torch.randn(1, 3, 40, 40)
    assert torch.equal(convolved(images)[-1], plain(images)[-1])
    gradient = gradients(convolved, images)
    assert (
        gradient["propagation.0.norms.0.weight" if kind == "conv_naive" else "propagation.3.norms.1.bias"] is not None
    )
    last = max(name for name in gradient if name.startswith("propagation.0.norms") and name.endswith("weight"))
    assert gradient[last].any()


def test_convolutions_carry_information_across_the_border_of_windows() -> None:
    images = torch.zeros(1, 3, 40, 40)
    touched = images.clone()
    touched[..., :4, :4] = 1  # the first token
    reach = {}
    for propagation in ("none", "conv_naive", "conv_basic", "conv_bottleneck", "shift"):
        model = tiny(pattern="window", propagation=propagation, absolute="none").eval()
        changed = (model(touched)[-1] - model(images)[-1]).abs().amax(1)[0] > 1e-6
        reach[propagation] = int(changed.sum())
    assert reach.pop("none") == 16
    assert all(count > 16 for count in reach.values()), reach


@pytest.mark.parametrize("relative", ["rand", "none"])
def test_shifted_blocks_take_the_table_and_the_mask(relative: str) -> None:
    """Against torchvision's, which masks and adds the bias itself."""
    model = tiny(pattern="window", propagation="shift", relative=relative)
    attention, x = model.blocks[1].attn, torch.randn(2, 10, 10, 16)
    bias = model.window_bias((4, 4), torch.float32) if relative == "rand" else torch.zeros(1, 2, 16, 16)
    expected = shifted_window_attention(
        x,
        attention.qkv.weight,
        attention.proj.weight,
        bias,
        [4, 4],
        2,
        [2, 2],
        qkv_bias=attention.qkv.bias,
        proj_bias=attention.proj.bias,
        training=False,
    )
    found = attention(x, model._biases((10, 10), x)[4, True])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_every_bias_is_aligned_for_fused_kernels() -> None:
    model = tiny(pattern="window", propagation="shift", window_size=3)
    shapes = set()
    for bias in model._biases((10, 10), torch.zeros(1)).values():
        if bias is not None:
            assert all(stride % 8 == 0 for stride in bias.stride()[1:3])
            shapes.add(tuple(bias.shape))
    assert shapes == {(1, 2, 9, 9), (1, 16 * 2, 9, 9)}


def test_placement_of_global_blocks() -> None:
    assert global_block_indexes(12, "even", 4) == (2, 5, 8, 11)
    assert global_block_indexes(24, "even", 4) == (5, 11, 17, 23)
    assert global_block_indexes(24, "even", 2) == (11, 23)
    assert global_block_indexes(12, "first", 4) == (0, 1, 2, 3)
    assert global_block_indexes(12, "last", 3) == (9, 10, 11)
    assert global_block_indexes(12, [7, 2], 4) == (2, 7)
    model = tiny(depth=8, global_blocks=(0, 5))
    assert [block.attn.window for block in model.blocks] == [0, 4, 4, 4, 4, 0, 4, 4]
    assert [block.attn.shifted for block in tiny(pattern="window", propagation="shift").blocks] == [False, True] * 2
    assert set(tiny(depth=8, pattern="window", propagation="conv_naive", global_blocks="last").propagation) == {
        "6",
        "7",
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3}, "3 heads do not divide the width 16"),
        ({"depth": 6, "global_count": 3}, "needs a depth divisible by 4, but the depth is 6"),
        ({"depth": 4, "global_count": 3}, "depth 4 is not divisible by global_count 3"),
        ({"global_count": 5}, "global_count 5 must lie between 1 and the depth 4"),
        ({"window_size": 11, "pattern": "window"}, "window_size 11 must lie between 1 and 10, the side of the grid"),
        ({"window_size": 0, "pattern": "window"}, "window_size 0 must lie"),
        ({"global_blocks": [1, 4]}, "must name different blocks between 0 and 3"),
        ({"global_blocks": [1, 1]}, "must name different blocks"),
        ({"global_blocks": "middle"}, "'middle' is unknown; choose even, first, last"),
        ({"image_size": 42}, "image_size 42 is no multiple of patch_size 4"),
        ({"pattern": "dense"}, "'dense' is unknown; choose one of window, hybrid, global"),
        ({"kernel": "flash"}, "'flash' is unknown; choose one of naive, fused"),
        ({"propagation": "roll"}, "'roll' is unknown; choose one of none, shift"),
        ({"propagation": "shift"}, "it needs pattern window, not hybrid"),
        ({"relative": "no"}, "choose one of pt, rand, zero, none"),
        ({"absolute": "learned"}, "choose one of pt, rand, zero, none"),
        ({"checkpoint": [4]}, "checkpoint names block 4, but blocks are numbered 0 to 3"),
        ({"checkpoint": "some"}, "'some' is unknown; choose none, all"),
        ({"drop_path": 1.0}, "drop_path 1.0 must be at least 0 and below 1"),
        ({"depth": 0}, "must be positive"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("[", r"\[")):
        ViT(**{**TINY, **changes})


def test_images_that_do_not_divide_into_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="40 x 38 px do not divide into patches of 4 px"):
        tiny()(torch.randn(1, 3, 40, 38))


def test_a_depth_that_is_no_multiple_of_4_is_fine_without_quarters() -> None:
    assert len(ViT(**{**TINY, "depth": 5}, pattern="window", taps="last")(torch.randn(1, 3, 40, 40))) == 1


def test_random_init_is_beits() -> None:
    torch.manual_seed(0)
    model = ViT(width=128, depth=8, heads=4, image_size=64, window_size=4, layer_scale=0.1)
    for number, block in enumerate(model.blocks, start=1):
        for layer, std in (
            (block.attn.qkv, 0.02),
            (block.mlp.fc1, 0.02),
            (block.attn.proj, 0.02 / (2 * number) ** 0.5),
            (block.mlp.fc2, 0.02 / (2 * number) ** 0.5),
        ):
            assert layer.weight.std().item() == pytest.approx(std, rel=0.03)
            assert not layer.bias.any()
        assert (block.norm1.weight == 1).all()
        assert not block.norm1.bias.any()
        assert (block.gamma_1 == 0.1).all()
    assert model.patch_embed.weight.std().item() == pytest.approx(0.02, rel=0.03)


def test_the_truncated_scheme_is_that_of_beits_pre_training_code() -> None:
    """A normal distribution cut at one standard deviation keeps sqrt(1 - 2 phi(1) / (2 Phi(1) - 1)) = 0.5396 of it."""
    torch.manual_seed(0)
    model = ViT(width=128, depth=8, heads=4, image_size=64, window_size=4, scheme="truncated")
    for number, block in enumerate(model.blocks, start=1):
        for layer, scale in ((block.attn.qkv, 1), (block.attn.proj, (2 * number) ** -0.5)):
            assert layer.weight.abs().max().item() <= 0.02 * scale * (1 + 1e-6)
            assert layer.weight.std().item() == pytest.approx(0.5396 * 0.02 * scale, rel=0.03)
            assert not layer.bias.any()
    for weight in (model.patch_embed.weight, model.pos_embed):
        assert weight is not None
        assert weight.std().item() == pytest.approx(0.5396 * 0.02, rel=0.03)
    zero = ViT(width=128, depth=8, heads=4, image_size=64, window_size=4, absolute="zero", scheme="truncated")
    assert zero.pos_embed is not None
    assert not zero.pos_embed.any()
    with pytest.raises(ValueError, match="scheme of initial weights 'xavier' is unknown"):
        tiny(scheme="xavier")


def test_positions_are_the_parameters_that_the_settings_ask_for() -> None:
    def positions(**changes: Any) -> set[str]:
        return {name for name, _ in tiny(**changes).named_parameters() if not name.startswith(("blocks", "patch"))}

    assert positions() == {"pos_embed", "window_bias.table", "global_bias.table"}
    assert positions(pattern="window") == {"pos_embed", "window_bias.table"}
    assert positions(pattern="global", absolute="none") == {"global_bias.table"}
    assert positions(relative="none", absolute="none") == set()
    assert not any("qkv.bias" in name for name, _ in tiny(qkv_bias=False).named_parameters())


@pytest.mark.parametrize(("width", "depth", "heads"), [(768, 12, 12), (1024, 24, 16)])
def test_parameters_of_the_paper_models_term_by_term(width: int, depth: int, heads: int) -> None:
    with torch.device("meta"):
        model = ViT(width=width, depth=depth, heads=heads, image_size=1024, absolute_grid=14)
    terms = {
        "patch_embed": 3 * 16 * 16 * width + width,
        "pos_embed": 14 * 14 * width,
        "window_bias": 27 * 27 * heads,
        "global_bias": 127 * 127 * heads,
        "blocks": depth * (12 * width**2 + 13 * width),  # 4 C^2 attention, 8 C^2 MLP; biases 9 C, two norms 4 C
    }
    counted: dict[str, int] = {}
    for name, parameter in model.named_parameters():
        counted[name.split(".")[0]] = counted.get(name.split(".")[0], 0) + parameter.numel()
    assert counted == terms
    maps = model(torch.zeros(1, 3, 1024, 1024, device="meta"))
    assert [tuple(x.shape) for x in maps] == [(1, width, 64, 64)] * 4


@pytest.mark.parametrize("absolute", ["rand", "none"])
@pytest.mark.parametrize("drop_path", [0.0, 0.2])
@pytest.mark.parametrize("kernel", ["naive", "fused"])
def test_bf16_autocast_stays_close_to_full_precision(kernel: str, drop_path: float, absolute: str) -> None:
    model = tiny(kernel=kernel, absolute=absolute, drop_path=drop_path, checkpoint=[1]).train()
    images, results = torch.randn(1, 3, 40, 40), []
    for mixed in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            maps = model(images)
        assert all(x.dtype == torch.float32 for x in maps)
        gradient = torch.autograd.grad(maps[-1].square().sum(), model.patch_embed.weight)[0]
        results.append((maps[-1], gradient))
    for exact, mixed in zip(*results, strict=True):
        assert (mixed - exact).norm() < 0.05 * exact.norm()
