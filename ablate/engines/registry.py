"""The engines by their names in a config."""

from ablate.config.schema import RunConfig
from ablate.engines.base import Engine


def engine_of(config: RunConfig) -> Engine:
    """The engine that a config names."""
    if config.engine == "detectron2":
        from ablate.engines.detectron2 import Detectron2Engine

        return Detectron2Engine()
    from ablate.engines.torchvision import VisionEngine

    return VisionEngine()
