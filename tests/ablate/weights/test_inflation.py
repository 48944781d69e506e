"""Files of weights that would unpack to far more than they hold."""

import zipfile
from pathlib import Path

import pytest
import torch

from ablate.train.checkpoint import load_checkpoint
from ablate.weights.checkpoint import read_checkpoint
from analysis.exceptions import BadInput


def test_compressed_archives_are_refused_before_they_are_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "00000001.pt"
    torch.save({"model": {"weight": torch.zeros(10**6)}}, plain)
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.infolist():
            target.writestr(part.filename, source.read(part))
    assert packed.stat().st_size < plain.stat().st_size / 100
    assert list(read_checkpoint(plain).tensors) == ["weight"]
    with pytest.raises(BadInput, match=r"its content is compressed, which torch.save never does"):
        read_checkpoint(packed)
    with pytest.raises(BadInput, match=r"its content is compressed, which torch.save never does"):
        load_checkpoint(packed)
