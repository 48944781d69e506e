"""The engines by their names in a config."""

from ablate.config import RunConfig
from ablate.engines.base import Engine


def engine_of(config: RunConfig) -> Engine:
    """The engine that a config names."""
    if config.engine == "detectron2":
        from ablate.engines.d2 import Detectron2Engine

        return Detectron2Engine()
    from ablate.engines.vision import VisionEngine

    return VisionEngine()
