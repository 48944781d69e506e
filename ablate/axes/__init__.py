"""The factors that can be studied, one small file each; command line, help and tables follow from ``AXES``."""

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

__all__ = ["AXES", "Axis", "AxisOptions", "Variant"]
