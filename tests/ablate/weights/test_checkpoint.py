"""What is no file of weights, or not one of ours: one sentence each, and nothing in a file is run."""

import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ablate.weights.checkpoint import read_checkpoint
from ablate.weights.source import read_facts, read_source
from analysis.exceptions import BadInput
from tests.ablate.weights import references as r

Save = Callable[..., Path]


class Bomb:
    """A pickle that would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_source(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>404</html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "is a Git LFS pointer"),
        (b"just some text", "damaged or not a checkpoint"),
        (json.dumps({"model": 1}).encode(), "damaged or not a checkpoint"),
        (b"PK\x03\x04 and nothing more", "damaged or not a checkpoint"),
    ],
)
def test_what_is_no_checkpoint(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    assert sentence in refusal(path)


def test_missing_files_and_folders(tmp_path: Path) -> None:
    assert "no such file of weights; check the path" in refusal(tmp_path / "none.pth")
    assert "is a folder" in refusal(tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_a_file_cut_short(form: str, share: float, save: Save, tmp_path: Path) -> None:
    reference = r.timm_vit()
    path = save(reference.saved, "w.safetensors" if form == "safetensors" else "w.pth")
    if form == "legacy":
        torch.save(reference.saved, path, _use_new_zipfile_serialization=False)
        assert read_source(path).facts.family == "timm ViT, supervised"
    content = path.read_bytes()
    cut = tmp_path / "cut.pth"
    cut.write_bytes(content[: int(len(content) * share)])
    assert "is incomplete, damaged or not a checkpoint" in refusal(cut)


def test_a_flipped_bit_does_not_match_its_check_sum(save: Save) -> None:
    saved = r.deit().saved
    path = save(saved)
    content = bytearray(path.read_bytes())
    place = content.index(saved["model"]["blocks.2.attn.proj.weight"].numpy().tobytes())  # type: ignore[index]
    content[place] ^= 1
    path.write_bytes(content)
    assert "does not match its check sum" in refusal(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_pickle_is_named_and_not_run(legacy: bool, tmp_path: Path) -> None:
    path, trace = tmp_path / "weights.pth", tmp_path / "trace"
    torch.save(
        {"model": r.deit().saved["model"], "extra": Bomb(trace)}, path, _use_new_zipfile_serialization=not legacy
    )
    message = refusal(path)
    assert "contains code or objects besides tensors (posix.mkdir)" in message
    assert "code in a weights file is never run" in message
    path.write_bytes(pickle.dumps({"model": Bomb(trace)}, protocol=2))
    refusal(path)
    assert not trace.exists()


@pytest.mark.parametrize(
    ("saved", "sentence"),
    [
        ([torch.zeros(2)], "contains a list, not named weights"),
        ({}, "contains nothing, not named weights"),
        (
            {"epoch": 3, "optimizer": {}},
            "contains no weights, neither at the top level nor under model, module, state_dict; it has epoch",
        ),
        ({"model": {"a": torch.zeros(1), "b": "x"}}, "b among its weights is a str, not a tensor"),
        ({"fc.weight": torch.zeros(2, 2)}, "to no known family (torchvision, BEiT, MoCo v3, MAE"),
        (
            {"schema": 1, "model": {"backbone.pos_embed": torch.zeros(1), "rpn.head.x": torch.zeros(1)}},
            "is a checkpoint of a whole detector, not of a pre-trained backbone",
        ),
        (
            {"model": {"backbone.bottom_up.net.pos_embed": torch.zeros(1)}},
            "is a checkpoint of a whole detector, not of a pre-trained backbone",
        ),
    ],
)
def test_what_holds_no_backbone(saved: object, sentence: str, save: Save) -> None:
    assert sentence in refusal(save(saved))


def test_a_tensor_that_its_family_does_not_explain_is_listed(save: Save) -> None:
    saved = r.timm_vit().saved
    saved |= {f"blocks.{n}.attn.q_norm.weight": torch.zeros(12) for n in range(r.DEPTH)}
    message = refusal(save(saved))
    assert "looks like timm ViT, supervised, but has 4 tensors that this family does not have" in message
    assert "(blocks.0.attn.q_norm.weight, blocks.1.attn.q_norm.weight, " in message
    del saved["blocks.1.norm2.bias"]
    message = refusal(save(saved))
    assert "4 tensors that this family does not have" in message
    assert "and lacks blocks.1.norm2.bias; it is another model, or was not saved completely" in message


@pytest.mark.parametrize("name", ["blocks.2.norm1.weight", "blocks.3.attn.qkv.bias", "patch_embed.proj.bias"])
def test_a_tensor_that_is_missing_is_listed(name: str, save: Save) -> None:
    saved = r.deit().saved
    del saved["model"][name]  # type: ignore[attr-defined]
    assert f"lacks {name.replace('.proj.bias', '.bias')}" in refusal(save(saved))


@pytest.mark.parametrize("name", ["blocks.1.attn.v_bias", "blocks.1.attn.relative_position_bias_table"])
def test_half_of_beits_biases_is_not_enough(name: str, save: Save) -> None:
    saved = r.beit_fine_tuned().saved
    del saved["module"][name]  # type: ignore[attr-defined]
    assert "lacks" in refusal(save(saved))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("pos_embed", torch.zeros(1, 24, r.WIDTH), "24 tokens is not a square grid plus at most two tokens"),
        ("pos_embed", torch.zeros(17, r.WIDTH), r"has shape [17, 48], not [1, tokens, channels]"),
        ("patch_embed.proj.weight", torch.zeros(r.WIDTH, 1, 8, 8), "its patches have weights [48, 1, 8, 8]"),
    ],
)
def test_shapes_that_are_those_of_no_vit(name: str, value: torch.Tensor, sentence: str, save: Save) -> None:
    saved = r.deit().saved
    saved["model"][name] = value  # type: ignore[index]
    assert sentence in refusal(save(saved))


@pytest.mark.parametrize("make", [r.timm_vit, r.torchvision_vit, r.timm_beit, r.timm_layer_scale])
def test_safetensors_and_pickles_hold_the_same(make: Callable[[], r.Reference], save: Save) -> None:
    saved = make().saved
    one, two = read_source(save(saved)), read_source(save(saved, "weights.safetensors"))
    assert one.facts.family == two.facts.family
    assert one.weights.keys() == two.weights.keys()
    assert all(torch.equal(value, two.weights[name]) for name, value in one.weights.items())


def test_what_a_file_tells(save: Save) -> None:
    path = save(r.beit_pretrained(absolute=True).saved, "beit.pth.tar")
    facts = read_facts(str(path))
    assert (facts.width, facts.depth, facts.patch_size, facts.hidden) == (r.WIDTH, r.DEPTH, r.PATCH, 4 * r.WIDTH)
    assert (facts.grid, facts.heads, facts.absolute, facts.relative) == (r.GRID, r.HEADS, True, "shared")
    assert (facts.layer_scale, facts.qkv_bias, facts.fine_tuned) == (True, True, False)
    assert facts.pixels == (((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),)
    assert read_checkpoint(path).container == '["model"]'
    assert read_facts(str(save(r.beit_fine_tuned().saved, "ft.pth"))).published_as == ""
    assert read_checkpoint(save(r.mae(full=True).saved)).beside == ("args", "epoch")


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_are_refused_or_change_values_alone(form: str, save: Save, tmp_path: Path) -> None:
    """Seeded damage of the head, where the structure is: never another exception than a sentence."""
    path = save(r.timm_vit().saved, "w.safetensors" if form == "safetensors" else "w.pth")
    if form == "legacy":
        torch.save(r.timm_vit().saved, path, _use_new_zipfile_serialization=False)
    content, rng, refused = path.read_bytes(), random.Random(0), 0
    for number in range(60):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 3, 30))):
            damaged[rng.randrange(8_000)] = rng.randrange(256)
        other = tmp_path / f"{number}.pth"
        other.write_bytes(damaged)
        try:
            read_source(other)
        except BadInput as error:
            refused += "\n" not in str(error)
    assert refused > 30
