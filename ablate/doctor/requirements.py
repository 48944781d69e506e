"""Installed packages against the floors that the project declares, without importing them."""

import sys
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

from ablate.doctor.check import Check, State
from analysis import native
from analysis.shell import install_command

PYTHON_FLOOR = (3, 11)


def limits(requirement: Requirement) -> str:
    """The limits of a package, the lower one first.

    >>> limits(Requirement("torch<3,>=2.11"))
    '>=2.11,<3'
    """
    return ",".join(map(str, sorted(requirement.specifier, key=lambda one: one.operator, reverse=True)))


def is_met(requirement: Requirement, version: str) -> bool:
    """Whether a version lies within the limits; what follows its numbers (``+cu132``, ``rc1``) does not count.

    >>> is_met(Requirement("fvcore>=0.1.5,<0.1.6"), "0.1.5.post20221221")
    True
    """
    try:
        release = Version(version).base_version
    except InvalidVersion:
        return not requirement.specifier
    return requirement.specifier.contains(release, prereleases=True)


def declared(extra: str = "") -> list[Requirement]:
    """What the base install needs, or one of the extras: from ``pyproject.toml`` in a clone, else from the metadata."""
    clone = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if clone.is_file():
        project = tomllib.loads(clone.read_text(encoding="utf-8"))["project"]
        texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
        return [Requirement(text) for text in texts]
    needed = map(Requirement, metadata.requires("detablate") or ())
    if not extra:
        return [one for one in needed if one.marker is None]
    return [one for one in needed if one.marker is not None and one.marker.evaluate({"extra": extra})]


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(area: str) -> Check:
    """The version of this interpreter."""
    return Check.unless(
        sys.version_info >= PYTHON_FLOOR,
        area,
        "Python",
        found=".".join(map(str, sys.version_info[:3])),
        remedy=f"use Python {'.'.join(map(str, PYTHON_FLOOR))} or newer",
        state="broken",
    )


def check_core(area: str) -> Check:
    """Whether the compiled core does its work, or NumPy in its place."""
    if native.core is not None:
        return Check(area, "compiled core", "ok", "in use")
    switched_off = native.describe() == "switched off"
    found = "switched off by DETABLATE_NATIVE=0" if switched_off else "not built: NumPy gives the same numbers, slower"
    remedy = (
        "unset DETABLATE_NATIVE"
        if switched_off
        else "install a C compiler, then install detablate again: pip install --force-reinstall --no-deps FOLDER (in a "
        "clone: python -m uv sync --reinstall-package detablate)"
    )
    return Check(area, "compiled core", "absent", found, remedy)


def check_packages(area: str, needed: Iterable[Requirement], extra: str = "", state: State = "broken") -> list[Check]:
    """One finding for all packages that are as they should be, and one for all that are not.

    Args:
        area: of the findings.
        needed: the packages.
        extra: that brings them; empty for the base install.
        state: of the packages that are not as they should be.
    """
    good, bad = [], []
    for package in needed:
        version = installed(package.name)
        if version is None:
            bad.append(f"{package.name} is not installed")
        elif not is_met(package, version):
            bad.append(f"{package.name} {version} is not {limits(package)}")
        else:
            good.append(f"{package.name} {version}")
    return [
        *([Check(area, "packages", "ok", ", ".join(good))] if good else []),
        *([Check(area, "packages", state, "; ".join(bad), install_command(extra))] if bad else []),
    ]
