"""Where the presets lie: ``configs/base`` in a source tree, ``ablate/presets`` in an installed package."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent


def presets_folder() -> Path:
    """The folder of the presets, absolute and without links, whatever the working directory."""
    installed = _HERE / "presets"
    return installed if installed.is_dir() else _HERE.parent / "configs" / "base"


def preset_names() -> tuple[str, ...]:
    """The names that ``base:`` and the command line accept, sorted."""
    return tuple(sorted(path.stem for path in presets_folder().glob("*.yaml")))


def preset_path(name: str) -> Path:
    """The file of a preset."""
    return presets_folder() / f"{name}.yaml"
