"""Damaged files of every kind that a command line names, beside JSON (`tests.analysis.coco.test_mutated_files`)."""

import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ablate.axes.custom import axis_from_file
from ablate.config.yaml import dump_config, load_config
from ablate.weights.checkpoint import forget, read_checkpoint
from analysis.exceptions import BadInput
from tests.campaign.damage import damage, restore
from tests.campaign.peak import with_peak

SECONDS = 20.0
MOST_MEMORY = 1 << 30  # bytes, of which half is torch
AXIS = """
name: width
title: How wide
touches: [model]
baseline: a
variants:
  a: {model.backbone.width: 192}
  b: {model.backbone.width: 384}
"""


def config(path: Path) -> None:
    path.write_text("base: tiny-shapes\n" + dump_config(load_config("tiny-shapes")))


def axis(path: Path) -> None:
    path.write_text(AXIS)


def pth(path: Path) -> None:
    torch.save({"model": {"a.weight": torch.arange(50.0), "a.bias": torch.zeros(3)}, "epoch": 3}, path)


def safetensors(path: Path) -> None:
    save_file({"a.weight": torch.arange(50.0), "a.bias": torch.zeros(3)}, path)


def weights(path: Path) -> object:
    forget()
    return {name: tensor.sum() for name, tensor in read_checkpoint(path).tensors.items()}


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "config.yaml": (config, load_config),
    "axis.yaml": (axis, axis_from_file),
    "weights.pth": (pth, weights),
    "weights.safetensors": (safetensors, weights),
}


def storm(folder: Path, name: str, seeds: range) -> Counter[str]:
    write, read = KINDS[name]
    path = folder / name
    write(path)
    sound = path.read_bytes()
    read(path)
    seen: Counter[str] = Counter()
    for seed in seeds:
        way = damage(path, random.Random(f"{name} {seed}"))
        began, sentence = time.process_time(), ""
        try:
            read(path)
            seen["read"] += 1
        except BadInput as refusal:
            seen["refused"] += 1
            sentence = str(refusal)
        except Exception as error:
            error.add_note(f"{name}, seed {seed}, {way}")
            raise
        assert "\n" not in sentence, f"seed {seed}, {way}: {sentence}"
        assert time.process_time() - began < SECONDS, f"seed {seed}, {way}"
        restore(path, sound)
    return seen


@pytest.mark.parametrize("name", KINDS)
def test_a_sample(tmp_path: Path, name: str) -> None:
    assert storm(tmp_path, name, range(30))["refused"] > 5


@pytest.mark.campaign
@pytest.mark.parametrize("name", KINDS)
def test_a_storm(tmp_path: Path, name: str) -> None:
    seen, peak = with_peak(storm, tmp_path, name, range(30, 500))
    print(f"{name}: {dict(seen)}, peak {peak >> 20} MiB")  # with -s
    assert peak < MOST_MEMORY
    assert seen["refused"] > 100, seen
