"""The factors that can be studied, one small file each; command line, help and tables follow from ``AXES``."""

from ablate.axes import attention, backbone, head, init, placement, position, pretrain, propagation, scale, schedule
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
    )
}

__all__ = ["AXES", "Axis", "AxisOptions", "Variant"]
