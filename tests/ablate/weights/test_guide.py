"""The guide shows what the command prints: a file of ViT-B's shapes, each tensor one stored number."""

import re
from pathlib import Path

import pytest
import torch
from timm.models.beit import Beit
from torch import Tensor

from tests.command_line import run

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "weights.md"
DIGEST = re.compile(r"^(digest +)[0-9a-f]{64}$", re.MULTILINE)


def official_layout() -> dict[str, Tensor]:
    """``beit_base_patch16_224_pt22k.pth`` as its authors wrote it, by timm's twin of it."""
    with torch.device("meta"):
        model = Beit(use_abs_pos_emb=False, use_shared_rel_pos_bias=True, init_values=0.1)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    shapes = {name: shape for name, shape in shapes.items() if not name.startswith(("head.", "fc_norm."))}
    shapes |= {"norm.weight": (768,), "norm.bias": (768,), "mask_token": (1, 1, 768)}
    shapes |= {"lm_head.weight": (8192, 768), "lm_head.bias": (8192,)}
    shapes["rel_pos_bias.relative_position_index"] = (197, 197)
    return {name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}


def test_the_guide_shows_what_the_command_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model": official_layout()}, "beit_base_patch16_224_pt22k.pth")
    assert run(monkeypatch, "weights", "inspect", "beit_base_patch16_224_pt22k.pth") == 0
    printed = DIGEST.sub(r"\1...", capsys.readouterr().out)
    capture = r"<!-- capture -->\n```\n\$ detablate weights inspect \S+\n(.*?)```"
    shown = re.search(capture, GUIDE.read_text(), re.DOTALL)
    assert shown is not None
    assert shown[1] == printed, f"the guide differs from:\n{printed}"
