"""Floors and versions, without importing what they are about."""

import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ablate.doctor import requirements
from ablate.doctor.requirements import check_packages, declared, is_met
from analysis.shell import install_command

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("limits", "version", "met"),
    [
        (">=2.11", "2.15.0+cu132", True),
        (">=2.11", "2.9.1", False),  # as numbers, not as text
        (">=2.11", "2.11", True),
        (">=2.11", "2.11.0rc1", True),  # close enough for a floor
        ("<82", "81.0.0", True),
        ("<82", "82.0", False),
        (">=0.1.5,<0.1.6", "0.1.5.post20221221", True),
        (">=0.1.5,<0.1.6", "0.1.6", False),
        ("==1.0.1", "1.0.1", True),
        ("==1.0.1", "1.0.2", False),
        ("", "whatever", True),
        (">=2.15.0", "2.15.0a0+git1234", True),
        (">=2.15.1", "2.15.0a0+git1234", False),
        (">=1", "", False),
    ],
)
def test_limits(limits: str, version: str, met: bool) -> None:
    assert is_met(Requirement(f"x{limits}"), version) == met


def test_releases_are_compared_as_packaging_does() -> None:
    for limits in (">=2.11", "<82", ">=0.1.5,<0.1.6", "==1.0.1"):
        for version in ("0.1.4", "0.1.5", "0.1.5.1", "0.1.6", "1.0", "1.0.1", "2.9", "2.11.0", "2.100", "81.9", "82"):
            expected = SpecifierSet(limits).contains(version)
            assert is_met(Requirement(f"x{limits}"), version) == expected, (limits, version)


def names_and_limits(requirements: list[Requirement]) -> list[tuple[str, SpecifierSet]]:
    return [(one.name, one.specifier) for one in requirements]


def test_a_clone_and_an_installation_declare_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert declared("train") == [Requirement(text) for text in project["optional-dependencies"]["train"]]
    assert Requirement("torch>=2.11") in declared("train")
    of_clone = {extra: names_and_limits(declared(extra)) for extra in ("", "train", "verify")}
    assert all(of_clone.values())
    assert "torch" not in {name for name, _ in of_clone[""]}

    written = project["dependencies"] + [
        f'{text}; extra == "{name}"' for name, texts in project["optional-dependencies"].items() for text in texts
    ]
    monkeypatch.setattr(metadata, "requires", lambda _: written)
    monkeypatch.setattr(requirements, "__file__", "/nowhere/a/b/c.py")
    assert {extra: names_and_limits(declared(extra)) for extra in of_clone} == of_clone


def test_what_is_missing_and_what_is_too_old_are_named_with_one_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "installed", {"torch": "2.3.0", "pillow": "12.0"}.get)
    fine, wrong = check_packages(
        "engine vision",
        [Requirement("torch>=2.11"), Requirement("torchvision>=0.26"), Requirement("pillow>=10")],
        "train",
    )
    assert (fine.state, fine.found) == ("ok", "pillow 12.0")
    assert wrong.state == "broken"
    assert wrong.found == "torch 2.3.0 is not >=2.11; torchvision is not installed"
    assert wrong.remedy == install_command("train")
