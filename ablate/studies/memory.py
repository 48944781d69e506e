"""Whether the variants of a study fit the GPUs that it is planned for, and one `train.images_per_norm` for all of them.

The memory is that of the GPUs visible here, or of those that a person names with ``--device-memory``. Where neither is
known nothing is forecast, and ``images_per_norm: auto`` is the whole batch, as in the paper.
"""

import math
from collections.abc import Mapping, Sequence

from ablate.config.schema import RunConfig
from ablate.data.sources import locate
from ablate.detector.memory import MemoryForecast, largest_fitting, memory_limit
from ablate.runs.folder import Workspace
from ablate.studies.study import Study, StudyMemory, StudyRun
from analysis.coco.ground_truth import read_ground_truth
from analysis.exceptions import BadInput

REMEDY = (
    "set train.images_per_norm=auto or model.backbone.attention.checkpoint=all, or use larger GPUs or more GPUs for "
    "each run (--gpus-per-run)"
)


def plan_memory(
    configs: Mapping[str, RunConfig], forecasts: Mapping[str, MemoryForecast], device_gib: float | None, gpus: int
) -> StudyMemory:
    """The GPUs of a study, and how many images share a BatchNorm statistic in all of its variants.

    Args:
        configs: of each variant.
        forecasts: of each variant, where the memory is known.
        device_gib: memory of each GPU; none: not known.
        gpus: that train one run together.

    Raises:
        BadInput: some variants leave ``images_per_norm`` to the memory and others do not.
    """
    wanted = {config.train.images_per_norm for config in configs.values()}
    batch_size = math.gcd(*(config.train.batch_size for config in configs.values()))
    if "auto" not in wanted:
        images = max(config.train.norm_images for config in configs.values())
        return StudyMemory(device_gib, gpus, batch_size, images, chosen=False)
    if len(wanted) > 1:
        raise BadInput(
            "train.images_per_norm is auto in some variants and a number in others; auto means one value for the "
            "whole study, so write numbers"
        )
    images = batch_size
    if device_gib is not None:
        limits = [(forecasts[name], memory_limit(config, device_gib)) for name, config in configs.items()]
        images = largest_fitting(limits, batch_size, gpus) or math.gcd(batch_size, gpus)
    return StudyMemory(device_gib, gpus, batch_size, images, chosen=True)


def forecasts_of(
    configs: Mapping[str, RunConfig], classes: int, workspace: Workspace, gpus: int, *, write: bool = True
) -> dict[str, MemoryForecast]:
    """The memory that each variant needs on a GPU; seconds for each model that was not forecast before."""
    from ablate.detector.memory_forecast import stored_forecast

    found = {}
    for name, config in configs.items():
        precision = config.train.precision
        assert precision != "auto"
        average = config.train.ema != "none"
        found[name] = stored_forecast(workspace, config.model, classes, precision, gpus, average=average, write=write)
    return found


def require_one_fits(
    configs: Mapping[str, RunConfig], forecasts: Mapping[str, MemoryForecast], device_gib: float, gpus: int
) -> None:
    """Refuse variants none of which fits the GPUs.

    Args:
        configs: of each variant; ``images_per_norm`` is no longer ``auto``.
        forecasts: of each variant.
        device_gib: memory of each GPU.
        gpus: that train one run together.

    Raises:
        BadInput: all of them would run out of memory.
    """
    needs = {}
    for name, config in configs.items():
        images = -(-config.train.norm_images // gpus)
        if forecasts[name].images_that_fit(memory_limit(config, device_gib)) >= images:
            return
        needs[name] = f"{name} {forecasts[name].peak_gib(images):.1f} GiB for {images}"
    if needs:
        raise BadInput(
            f"every variant would need more than the {device_gib:.4g} GiB of a GPU (forecast for the images of one "
            f"forward pass: {', '.join(needs.values())}); {REMEDY}"
        )


def check_visible_gpus(workspace: Workspace, study: Study, runs: Sequence[StudyRun], gpus: int) -> None:
    """Refuse runs of a study none of which fits the GPUs that are visible here; without a GPU nothing is checked.

    Args:
        workspace: above `results/`.
        study: whose forecasts are taken where it was planned for as many GPUs a run.
        runs: that are to be launched.
        gpus: that train one run together.

    Raises:
        BadInput: all of them would run out of memory.
    """
    from ablate.detector.memory_forecast import visible_memory_gib

    gib, by_variant = visible_memory_gib(), {run.variant: run for run in runs}
    configs = {variant: run.config for variant, run in by_variant.items() if run.config is not None}
    if gib is None or not configs:
        return
    planned = {variant: by_variant[variant].memory for variant in configs}
    forecasts = {variant: forecast for variant, forecast in planned.items() if forecast is not None}
    if len(forecasts) < len(configs) or study.memory is None or study.memory.gpus != gpus:
        data = locate(next(iter(configs.values())).data.train, workspace)
        forecasts = forecasts_of(configs, len(read_ground_truth(data.annotations).category_id), workspace, gpus)
    require_one_fits(configs, forecasts, gib, gpus)
