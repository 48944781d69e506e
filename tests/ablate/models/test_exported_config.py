"""Configs that were exported import the models by name and keyword: what lies on people's disks still builds."""

import ast
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn

EXPORTED = Path(__file__).resolve().parents[2] / "golden" / "lazyconfig-vit-b.txt"
INTERPOLATIONS = {'"${..net.width}"': "768", '"${..net.patch_size}"': "16"}  # which LazyConfig resolves


def stand_in(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    module = ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def test_the_backbone_of_an_exported_config_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    sys.modules.pop("ablate.models.detectron2", None)
    stand_in(monkeypatch, "detectron2")
    stand_in(monkeypatch, "detectron2.layers", ShapeSpec=SimpleNamespace, get_norm=lambda norm, width: nn.Identity())
    stand_in(monkeypatch, "detectron2.modeling", Backbone=nn.Module)
    text = EXPORTED.read_text(encoding="utf-8")
    for interpolation, value in INTERPOLATIONS.items():
        text = text.replace(interpolation, value)
    lines = [
        node
        for node in ast.parse(text).body
        if (isinstance(node, ast.ImportFrom) and str(node.module).startswith("ablate"))
        or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in ("side", "model.backbone"))
    ]
    assert len(lines) == 4, "two imports, the side, the backbone"
    model = SimpleNamespace()
    with torch.device("meta"):
        exec(compile(ast.Module(lines, []), EXPORTED.name, "exec"), {"L": lambda target: target, "model": model})
        del sys.modules["ablate.models.detectron2"]  # it was made of stand-ins
        levels = model.backbone.eval()(torch.empty(1, 3, 1024, 1024))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        f"p{level}": (1, 256, 1024 // 2**level, 1024 // 2**level) for level in range(2, 7)
    }
    assert {name: spec.stride for name, spec in model.backbone.output_shape().items()} == {
        f"p{level}": 2**level for level in range(2, 7)
    }
    assert model.backbone.padding_constraints == {"square_size": 1024}
