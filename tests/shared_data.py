"""The one place that knows where the real data of the tests lies."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("DETABLATE_SHARED_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))


def shared_data(*parts: str) -> Path:
    """The path of a file of the shared data; skips the test, saying so, where it is missing."""
    path = ROOT.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"shared data missing: {path} (set DETABLATE_SHARED_DATA to the folder that holds it)")
    return path


def shared_case(*parts: str) -> Path:
    """The path of a file of the shared cases, which lie beside the data; skips the test, saying so, without it."""
    path = ROOT.parent.joinpath("cases", *parts)
    if not path.exists():
        pytest.skip(f"shared case missing: {path}")
    return path
