"""The engines by their names in a config, and what is built of them beside runs."""

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import torch

from ablate.config.schema import RunConfig
from ablate.engines.base import BenchmarkTarget, DetectorTrainer, Engine, Read, RunInputs, read_data
from ablate.runs.folder import RunFolder, Workspace
from ablate.train.distributed import Processes
from ablate.train.outcome import RuntimeOptions


def build_engine(config: RunConfig, data: RunInputs, folder: Path, processes: Processes) -> Engine:
    """The engine that a config names, with a detector whose weights are drawn from torch's global generator.

    Raises:
        BadInput: data or settings that cannot be used.
    """
    if config.engine == "detectron2":
        from ablate.engines.detectron2 import Detectron2Engine

        return Detectron2Engine(config, data, processes, folder)
    from ablate.engines.torchvision import VisionEngine

    return VisionEngine(config, data, processes)


def build_trainer(
    config: RunConfig, data: RunInputs, folder: RunFolder, processes: Processes, runtime: RuntimeOptions
) -> DetectorTrainer:
    """The training of a config by itself, for the forecast of what it takes."""
    return DetectorTrainer(build_engine(config, data, folder.path, processes), folder, runtime, dict)


def build_benchmark_target(
    config: RunConfig, workspace: Workspace, device: torch.device, read: Read
) -> BenchmarkTarget:
    """The model of a config for the benchmark, alone on a device, with the images of seed 0."""
    alone = Processes(0, 1, device)
    data = read_data(config, workspace, alone, read)
    with TemporaryDirectory() as folder:
        return BenchmarkTarget(build_engine(msgspec.structs.replace(config, seed=0), data, Path(folder), alone))
