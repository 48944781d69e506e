"""The command line called as a person calls it, but in this process."""

import sys

import pytest

import detablate


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of ``cli.py ARGUMENTS``."""
    monkeypatch.setattr(sys, "argv", ["cli.py", *map(str, arguments)])
    try:
        detablate.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0
