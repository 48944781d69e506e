"""Files of weights, and configs small enough for them."""

from pathlib import Path

import pytest
import torch

from ablate.config import Coco
from tests.ablate.engines.tiny import write_data


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Coco:
    return write_data(tmp_path_factory.mktemp("data") / "set")


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
