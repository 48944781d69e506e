"""Files of weights, and configs small enough for them."""

from pathlib import Path

import pytest
import torch


@pytest.fixture
def save(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Writes what a reference saves, as ``weights.pth`` or under another name."""

    def write(saved: object, name: str = "weights.pth") -> Path:
        path = tmp_path / name
        if path.suffix == ".safetensors":
            from safetensors.torch import save_file

            save_file({key: value.contiguous() for key, value in saved.items()}, path)  # type: ignore[attr-defined]
        else:
            torch.save(saved, path)
        return path

    return write
