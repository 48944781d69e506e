"""From the last weights to COCO results: boxes and masks in the pixels of the original images."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from ablate.config.schema import Evaluate
from ablate.data.coco import EvalSample, EvaluationSet
from ablate.data.transforms import restore_boxes
from ablate.detector.batch_norm import share_statistics
from ablate.detector.mask_rcnn import Detector
from ablate.detector.roi_heads import DetectedInstances
from ablate.progress import progress
from ablate.train.distributed import Processes, outlive_a_polite_stop
from ablate.train.loading import loading_errors_named
from ablate.train.optim import Precision, autocast

Record = dict[str, Any]


def predict(
    detector: Detector,
    images: EvaluationSet,
    *,
    settings: Evaluate,
    precision: Precision,
    processes: Processes,
    workers: int,
    show_progress: bool = True,
) -> list[Record]:
    """COCO results of all images, as `predict_all` gives them.

    Args:
        detector: on the device of the processes.
        images: the validation images.
        settings: threshold, NMS and cap.
        precision: of the forward pass, the one it was trained in.
        processes: that share the images among them.
        workers: processes that load images for each of them.
        show_progress: by a bar or lines.
    """
    device = processes.device

    def detect(sample: EvalSample) -> list[Record]:
        size = torch.tensor([sample.crop.kept], device=device)
        with autocast(precision, device):
            (found,) = detector.predict(sample.image[None].to(device, non_blocking=True), size, settings)
        return list(_in_coco_format(sample, found, images.truth.category_id))

    if processes.count > 1:
        share_statistics(detector)
    return predict_all(
        detector, images, detect, processes, workers, pin_memory=device.type == "cuda", show_progress=show_progress
    )


def predict_all(
    model: nn.Module,
    images: Dataset[Any],
    detect: Callable[[Any], list[Record]],
    processes: Processes,
    workers: int,
    *,
    pin_memory: bool = False,
    show_progress: bool = True,
) -> list[Record]:
    """COCO results of all images, in the order of the data set; the first process gets all, the others none.

    Args:
        model: is in evaluation mode meanwhile.
        images: that the processes share among them.
        detect: the results of one of them.
        processes: all of which must call this.
        workers: processes that load images for each of them.
        pin_memory: of loaded images.
        show_progress: by a bar or lines, in the first process.

    Raises:
        BadInput: an image cannot be used.
    """
    own = range(processes.rank, len(images), processes.count)  # type: ignore[arg-type]
    loader: DataLoader[Any] = DataLoader(
        Subset(images, own),
        batch_size=None,
        num_workers=workers,
        pin_memory=pin_memory,
        worker_init_fn=outlive_a_polite_stop,
    )
    was_training = model.training
    model.eval()
    try:
        with progress("predicting", "image", len(own), shown=show_progress and processes.first) as advance:
            found = []
            samples = iter(loader)
            for place in own:
                with loading_errors_named():
                    sample = next(samples)
                found.append((place, detect(sample)))
                advance()
    finally:
        model.train(was_training)
    if processes.count > 1:
        gathered: list[list[tuple[int, list[Record]]]] | None = [[]] * processes.count if processes.first else None
        dist.gather_object(found, gathered)
        processes.wait()  # from here on the first process goes on alone, and the others may leave
        found = [entry for part in gathered or () for entry in part]
    return [record for _, records in sorted(found, key=lambda entry: entry[0]) for record in records]


def _in_coco_format(sample: EvalSample, found: DetectedInstances, category_ids: Sequence[int]) -> Iterator[Record]:
    """Detections in the pixels of the original image; those of no width or height are left out."""
    boxes = restore_boxes(found.boxes.double().cpu().numpy(), sample.crop)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    scores, labels = found.scores.tolist(), found.labels.tolist()
    masks = None if found.masks is None else found.masks.cpu()
    for row in np.flatnonzero(seen).tolist():
        left, top, right, bottom = boxes[row].tolist()
        record: Record = {
            "image_id": sample.image_id,
            "category_id": category_ids[labels[row]],
            "bbox": [left, top, right - left, bottom - top],
            "score": scores[row],
        }
        if masks is not None:
            record["segmentation"] = encode_mask(paste_mask(masks[row], boxes[row], sample.crop.original))
        yield record


def paste_mask(mask: Tensor, box: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.uint8]:
    """A mask that fills a box, resampled at the pixel centres of its image and cut at one half.

    Args:
        mask: f32[m, m], probabilities.
        box: f64[4], xyxy in pixels of the image, inside it.
        size: height and width of the image.

    Returns:
        u8[height, width] of zeros and ones.
    """
    left, top = np.floor(box[:2]).astype(int)
    right, bottom = np.ceil(box[2:]).astype(int)
    # Pixel (0, 0) has its centre at (0.5, 0.5); the box spans -1 .. 1 of the sampling grid.
    x = (torch.arange(left, right, dtype=torch.float64) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    sampled = F.grid_sample(mask[None, None].float(), grid[None].float(), align_corners=False)[0, 0]
    canvas = np.zeros(size, dtype=np.uint8)
    canvas[top:bottom, left:right] = (sampled >= 0.5).numpy()
    return canvas


def encode_mask(mask: NDArray[np.uint8]) -> Record:
    """COCO's compressed run lengths of u8[height, width]."""
    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
