"""The front door itself."""

import sys

import pytest

import cli
from tests.command_line import run


def test_a_command_without_its_packages_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert run(monkeypatch, "ablate", "describe", "tiny-shapes") == cli.MISSING_ENGINE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "pip install 'detablate[train]'" in printed.err
    assert printed.err.count("\n") == 1


def test_a_missing_module_of_our_own_is_no_missing_package(monkeypatch):
    monkeypatch.setattr(cli, "app", lambda: __import__("ablate.not_there"))
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        run(monkeypatch, "analyze")
