"""Installed packages against the floors that the project declares, without importing them."""

import re
import sys
import tomllib
from collections.abc import Callable, Iterable
from importlib import metadata
from pathlib import Path

import msgspec

from ablate.doctor.check import Check, State

PYTHON_FLOOR = (3, 11)
_REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)\s*(?P<limits>[^;]*)(?:;.*extra\s*==\s*['\"](?P<extra>[\w-]+)['\"])?")
_OPERATORS: dict[str, Callable[[tuple[int, ...], tuple[int, ...]], bool]] = {
    ">=": lambda have, limit: have >= limit,
    "<": lambda have, limit: have < limit,
    "==": lambda have, limit: have == limit,
}


class Requirement(msgspec.Struct, frozen=True):
    """A package and its limits, such as ``>=2.11,<3``."""

    name: str
    limits: str

    def __str__(self) -> str:
        return f"{self.name}{self.limits}"

    def met_by(self, version: str) -> bool:
        """Whether a version lies within the limits; what follows its numbers (``+cu132``, ``rc1``) does not count."""
        have = release(version)
        for limit in filter(None, self.limits.split(",")):
            operator = next(sign for sign in (">=", "==", "<") if limit.strip().startswith(sign))
            bound = release(limit.strip().removeprefix(operator))
            length = max(len(have), len(bound))
            if not _OPERATORS[operator](_padded(have, length), _padded(bound, length)):
                return False
        return True


def release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version: ``2.15.0+cu132`` -> (2, 15, 0).

    >>> release("0.1.5.post20221221")
    (0, 1, 5)
    >>> Requirement("fvcore", ">=0.1.5,<0.1.6").met_by("0.1.5.post20221221")
    True
    """
    numbers = re.match(r"\d+(\.\d+)*", version.strip())
    return tuple(int(part) for part in numbers[0].split(".")) if numbers else ()


def _padded(numbers: tuple[int, ...], length: int) -> tuple[int, ...]:
    return numbers + (0,) * (length - len(numbers))


def requirement(text: str) -> tuple[Requirement, str]:
    """``name>=limit`` -> the requirement, and the extra that it belongs to (empty: the base install).

    >>> requirement('torch>=2.11; extra == "train"')[1]
    'train'
    """
    match = _REQUIREMENT.match(text)
    assert match is not None, text
    return Requirement(match["name"], match["limits"].strip(" ()").replace(" ", "")), match["extra"] or ""


def declared(extra: str = "") -> list[Requirement]:
    """What the base install needs, or one of the extras: from ``pyproject.toml`` in a clone, else from the metadata."""
    clone = Path(__file__).resolve().parents[2] / "pyproject.toml"
    if clone.is_file():
        project = tomllib.loads(clone.read_text(encoding="utf-8"))["project"]
        texts = project["optional-dependencies"][extra] if extra else project["dependencies"]
        return [requirement(text)[0] for text in texts]
    parsed = map(requirement, metadata.requires("detablate") or ())
    return [needed for needed, of_extra in parsed if of_extra == extra]


def installed(name: str) -> str | None:
    """The version of a package; None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def check_python(area: str) -> Check:
    """The version of this interpreter."""
    found = ".".join(map(str, sys.version_info[:3]))
    floor = ".".join(map(str, PYTHON_FLOOR))
    if sys.version_info >= PYTHON_FLOOR:
        return Check(area=area, name="Python", state="ok", found=found)
    return Check(area=area, name="Python", state="broken", found=found, remedy=f"use Python {floor} or newer")


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
        elif not package.met_by(version):
            bad.append(f"{package.name} {version} is not {package.limits}")
        else:
            good.append(f"{package.name} {version}")
    remedy = f"pip install --upgrade 'detablate{f'[{extra}]' if extra else ''}', or in a clone {_in_a_clone(extra)}"
    fine = [Check(area=area, name="packages", state="ok", found=", ".join(good))] if good else []
    wrong = [Check(area=area, name="packages", state=state, found="; ".join(bad), remedy=remedy)] if bad else []
    return fine + wrong


def _in_a_clone(extra: str) -> str:
    return f"pip install -e '.{f'[{extra}]' if extra else ''}'"
