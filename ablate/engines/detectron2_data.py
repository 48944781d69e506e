"""detectron2's image pipeline under our order and seeds: a sample depends on the seed and its place in the run."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import Dataset

from ablate.data.coco import JITTER
from ablate.detector.inference import Record
from ablate.train.distributed import derived
from analysis.exceptions import BadInput


class MappedImages(Dataset[Any]):
    """The training or validation images of a LazyConfig, mapped by its own mapper.

    Args:
        loader: ``dataloader.train`` or ``dataloader.test`` of a loaded LazyConfig.
        seed: of the run, for training images: they are indexed by (epoch, index), the others by their index.

    Raises:
        BadInput: an image is missing or cannot be used.
    """

    def __init__(self, loader: Any, seed: int | None = None) -> None:
        from detectron2.config import instantiate

        self.records: list[dict[str, Any]] = instantiate(loader.dataset)
        self.mapper, self.seed = instantiate(loader.mapper), seed

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        if self.seed is None:
            return self._mapped(key)
        with _drawing_from(derived(self.seed, JITTER, *key)):
            return self._mapped(key[1])

    def _mapped(self, index: int) -> dict[str, Any]:
        record = self.records[index]
        try:
            return self.mapper(record)  # type: ignore[no-any-return]
        except FileNotFoundError:
            raise BadInput(f"{record['file_name']}: the image is missing, but the annotations list it") from None
        except MemoryError:
            raise
        except Exception as error:  # decoders raise whatever a damaged file leads them to
            reason = " ".join(str(error).split())
            raise BadInput(f"{record['file_name']}: cannot be used ({reason}); replace it or its annotations") from None


@contextmanager
def _drawing_from(seed: int) -> Iterator[None]:
    """Let the global generators, of which detectron2's augmentations draw, start from a seed; then put them back."""
    before, other = np.random.get_state(), random.getstate()  # noqa: NPY002 (detectron2 draws from it)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002
        random.setstate(other)


class SampleInputs(list[dict[str, Any]]):
    """A batch; detectron2's models bring their inputs to the device themselves."""

    def to(self, _: torch.device) -> "SampleInputs":
        """The batch."""
        return self


def categories(cfg: Any) -> dict[int, int]:
    """The validation set's category id of each class; the set must have been read."""
    from detectron2.data import MetadataCatalog

    metadata = MetadataCatalog.get(cfg.dataloader.test.dataset.names)
    return {place: number for number, place in metadata.thing_dataset_id_to_contiguous_id.items()}


@torch.no_grad()
def results(model: nn.Module, inputs: dict[str, Any], category: dict[int, int]) -> list[Record]:
    """COCO results of one image, as detectron2's evaluator writes them.

    Args:
        model: in evaluation mode.
        inputs: a validation image from `MappedImages`.
        category: the data set's category id of each class.
    """
    from detectron2.evaluation.coco_evaluation import instances_to_coco_json

    found = model([inputs])[0]["instances"].to("cpu")
    return [
        {**record, "category_id": category[record["category_id"]]}
        for record in instances_to_coco_json(found, inputs["image_id"])
    ]
