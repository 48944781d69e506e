"""Backbones of other packages, by entry points (`ablate.config.plugins`).

The object of an entry point is called as ``build(image_size=..., **options)`` and returns an ``nn.Module`` with

- ``strides``: (4, 8, 16, 32), in pixels;
- ``channels``: of the four maps;
- ``forward``: images f[B, 3, H, W], normalised and padded -> four maps f[B, C, H / stride, W / stride], fine to coarse.

An FPN reads the maps. What decides the result enters the id of a run: name, options, and as ``code`` the package, its
version and a hash of all its source files; what it imports from other packages does not.
"""

import importlib.util
from collections.abc import Sequence
from importlib.metadata import EntryPoint
from pathlib import Path

from torch import Tensor, nn

from ablate.config.plugins import BACKBONES, described, errors_named, load_plugin, plugins
from ablate.config.schema import PluginBackbone, RunConfig
from ablate.config.yaml import with_changes
from ablate.data.source_code import sources_digest
from ablate.train.memory import is_out_of_memory
from analysis.exceptions import BadInput, DetablateError

STRIDES = (4, 8, 16, 32)
AUTO = "auto"


class OutsideBackbone(nn.Module):
    """A backbone of another package, whose maps are checked.

    Args:
        inner: the module that its package has built.
        entry: by which it was found.
    """

    def __init__(self, inner: nn.Module, entry: EntryPoint) -> None:
        super().__init__()
        self.inner, self._who = inner, described(entry)
        self.strides, self.channels = STRIDES, _channels(inner, entry)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Images f[B, 3, H, W] -> four maps f[B, C, H / stride, W / stride], fine to coarse.

        Raises:
            BadInput: it fails, or gives something else.
        """
        try:
            maps = list(self.inner(images))
        except Exception as error:
            if isinstance(error, DetablateError | OSError) or is_out_of_memory(error, images.device):
                raise
            words = " ".join(str(error).split())
            raise BadInput(f"{self._who}: its forward pass fails: {type(error).__name__}: {words}; fix it") from error
        batch, _, height, width = images.shape
        expected = [
            (batch, channels, -(-height // stride), -(-width // stride))
            for channels, stride in zip(self.channels, self.strides, strict=True)
        ]
        found = [tuple(one.shape) if isinstance(one, Tensor) else type(one).__name__ for one in maps]
        if found != expected:
            raise BadInput(f"{self._who}: must give maps of the shapes {_in_words(expected)}, not {_in_words(found)}")
        return maps


def build_plugin(settings: PluginBackbone) -> OutsideBackbone:
    """The backbone of a config, with random weights drawn from torch's global generator.

    Raises:
        BadInput: there is no such entry point, or it builds no backbone.
    """
    entry = _entry(settings.name)
    build = load_plugin(entry)
    options = "".join(f", {key}={value!r}" for key, value in settings.options.items())
    with errors_named(entry, f"cannot build a backbone (image_size={settings.image_size}{options})"):
        module = build(image_size=settings.image_size, **settings.options)
    if not isinstance(module, nn.Module):
        raise BadInput(f"{described(entry)}: must build a torch.nn.Module, not {type(module).__name__}")
    strides = getattr(module, "strides", None)
    if not isinstance(strides, Sequence) or tuple(strides) != STRIDES:
        raise BadInput(f"{described(entry)}: its strides must be {STRIDES}, not {strides!r}")
    return OutsideBackbone(module, entry)


def with_code(config: RunConfig) -> RunConfig:
    """The config with ``code`` set, if its backbone comes from another package.

    Raises:
        BadInput: the package is not here, or its code has changed since the run was planned.
    """
    backbone = config.model.backbone
    if not isinstance(backbone, PluginBackbone):
        return config
    entry = _entry(backbone.name)
    now = code_of(entry)
    if backbone.code == AUTO:
        return with_changes(config, {"model.backbone.code": now})
    if backbone.code != now:
        raise BadInput(
            f"{described(entry)}: has other code than when this run was planned ({backbone.code}, now {now}); restore "
            "the old version, or plan the study again with another --name"
        )
    return config


def code_of(entry: EntryPoint) -> str:
    """The package of an entry point, its version, and the SHA-256 of its source files (64 hex digits).

    Raises:
        BadInput: its sources cannot be found.
    """
    top = entry.module.partition(".")[0]
    with errors_named(entry, "its sources cannot be found"):
        spec = importlib.util.find_spec(top)
    places = [] if spec is None else [*(spec.submodule_search_locations or [spec.origin or ""])]
    if not places or not all(Path(place).exists() for place in places):
        raise BadInput(f"{described(entry)}: module {top} has no source files here; install the package again")
    package = f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else top
    return f"{package} {sources_digest(places)}"


def _entry(name: str) -> EntryPoint:
    found = plugins(BACKBONES)
    if name not in found:
        there = f"there are {', '.join(found)}" if found else "none is installed"
        raise BadInput(
            f"model.backbone.name {name}: no installed package has a backbone with this name (entry points of the "
            f"group {BACKBONES}; {there}); install its package into this environment"
        )
    return found[name]


def _channels(module: nn.Module, entry: EntryPoint) -> tuple[int, ...]:
    channels = getattr(module, "channels", ())
    numbers = tuple(channels) if isinstance(channels, Sequence) else ()
    if len(numbers) != len(STRIDES) or not all(isinstance(number, int) and number > 0 for number in numbers):
        raise BadInput(f"{described(entry)}: its channels must be {len(STRIDES)} whole numbers, not {channels!r}")
    return numbers


def _in_words(shapes: Sequence[object]) -> str:
    return " ".join(map(str, shapes)) or "none"
