"""The factors that can be studied, one small file each; command line, help and tables follow from ``AXES``."""

from importlib.metadata import EntryPoint

from ablate.axes import (
    attention,
    augmentation,
    backbone,
    drop_path,
    ema,
    freeze,
    head,
    init,
    input_size,
    layer_decay,
    placement,
    position,
    pretrain,
    propagation,
    scale,
    schedule,
    window_size,
)
from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.axes.plugins import plugin_axis
from ablate.config import plugins
from analysis.exceptions import BadInput

AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        attention.AXIS,
        scale.AXIS,
        position.AXIS,
        init.AXIS,
        pretrain.AXIS,
        schedule.AXIS,
        propagation.AXIS,
        placement.AXIS,
        head.AXIS,
        backbone.AXIS,
        window_size.AXIS,
        input_size.AXIS,
        augmentation.AXIS,
        drop_path.AXIS,
        layer_decay.AXIS,
        freeze.AXIS,
        ema.AXIS,
    )
}


def find_axis(name: str) -> Axis:
    """An axis of this project, or one of another package (`ablate.axes.plugins`).

    Raises:
        BadInput: there is none of this name, or it cannot be loaded.
    """
    if name in AXES:
        return AXES[name]
    entries = outside_axes()
    if name not in entries:
        there = ", ".join([*AXES, *entries])
        raise BadInput(f"there is no axis {name!r}; the axes are {there}, and ablate vary studies any other key")
    return plugin_axis(entries[name])


def outside_axes() -> dict[str, EntryPoint]:
    """The axes of other packages, by name; an axis of this project takes precedence over one of the same name.

    Raises:
        BadInput: two packages have an axis of the same name.
    """
    return {name: entry for name, entry in plugins.plugins(plugins.AXES).items() if name not in AXES}


__all__ = ["AXES", "Axis", "AxisOptions", "Variant", "find_axis", "outside_axes"]
