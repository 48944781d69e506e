"""The data of a study: what names its runs, and how large a detector for it is."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ablate.config import Coco, Model, RunConfig, Shapes
from ablate.studies.study import Size

if TYPE_CHECKING:
    from analysis import GroundTruth

PROPOSALS, DETECTIONS = 1000, 20  # of the cost count, as in `describe`
CLASSES_OF_SHAPES = 6


class StudyData:
    """The data of a study: its digests, its classes, and what a detector for them comes to."""

    def __init__(self, base: RunConfig, root: Path, write: bool) -> None:
        self.root, self.write = root, write
        self._truths: dict[Shapes | Coco, GroundTruth | None] = {}
        self._sizes: dict[bytes, Size] = {}
        self._weights: dict[bytes, str] = {}
        self.digests = self._digests(base)
        first = self._truths[base.data.train]
        self.classes = CLASSES_OF_SHAPES if first is None else len(first.category_id)

    def identities(self, config: RunConfig) -> tuple[str, str]:
        """Training and evaluation; empty where the data is not there yet."""
        from ablate.identity import evaluation_identity, training_identity

        first, second = self._digests(config)
        if not (first and second):
            return "", ""
        weights = self.weights(config)
        if config.init.pretraining != "none" and not weights:
            return "", ""
        return training_identity(config, first, weights), evaluation_identity(config, first, second, weights)

    def weights(self, config: RunConfig) -> str:
        """What the initial weights are in the identity; empty for random ones, and where their images are not there."""
        from ablate.engines.initial import initial_digest

        key = msgspec.json.encode([config.init, config.model])
        if key not in self._weights:
            self._weights[key] = initial_digest(config, self.root, write=self.write)
        return self._weights[key]

    def _digests(self, config: RunConfig) -> tuple[str, str]:
        return self._digest(config.data.train), self._digest(config.data.validation)

    def _digest(self, source: Shapes | Coco) -> str:
        from ablate.data.sources import locate, shapes_folder
        from analysis import read_ground_truth

        if source not in self._truths:
            there = isinstance(source, Coco) or self.write or shapes_folder(self.root).exists()
            self._truths[source] = read_ground_truth(locate(source, self.root).annotations) if there else None
        truth = self._truths[source]
        return "" if truth is None else truth.digest

    def size(self, model: Model) -> Size:
        """Of a detector; counted without memory."""
        key = msgspec.json.encode(model)
        if key not in self._sizes:
            import torch

            from ablate.complexity import detector_costs, total
            from ablate.engines.detector import build_detector

            with torch.device("meta"):
                detector = build_detector(model, self.classes)
            costs = detector_costs(detector, model.backbone.image_size, proposals=PROPOSALS, detections=DETECTIONS)
            whole = total(costs.values())
            self._sizes[key] = Size(whole.parameters, whole.macs, whole.activations)
        return self._sizes[key]
