"""From the last weights to COCO results: boxes and masks in the pixels of the original images."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from ablate.config.schema import Evaluate
from ablate.data.coco import EvalSample, EvaluationSet
from ablate.data.loader import worker_error
from ablate.data.transforms import restore_boxes
from ablate.detector.batch_norm import share_statistics
from ablate.detector.mask_rcnn import Detector
from ablate.detector.roi_heads import Detections
from ablate.train.distributed import Processes, outlive_a_polite_stop
from ablate.train.logging import Say, progress
from ablate.train.optim import Precision, autocast
from analysis.exceptions import BadInput

Record = dict[str, Any]


def predict(
    detector: Detector,
    views: EvaluationSet,
    *,
    settings: Evaluate,
    precision: Precision,
    processes: Processes,
    workers: int,
    say: Say | None = None,
) -> list[Record]:
    """COCO results of all images, in the order of the data set; the first process gets all, the others none.

    Args:
        detector: on the device of the processes.
        views: the validation images.
        settings: threshold, NMS and cap.
        precision: of the forward pass, the one it was trained in.
        processes: that share the images among them.
        workers: processes that load images for each of them.
        say: takes progress lines where there is no terminal for a bar; None shows neither.
    """
    own = range(processes.rank, len(views), processes.count)
    loader: DataLoader[EvalSample] = DataLoader(
        Subset(views, own),
        batch_size=None,
        num_workers=workers,
        pin_memory=processes.device.type == "cuda",
        worker_init_fn=outlive_a_polite_stop,
    )
    if processes.count > 1:
        share_statistics(detector)
    was_training = detector.training
    detector.eval()
    try:
        found = []
        with progress("predicting", "image", len(own), say) as advance:
            for place, view in zip(own, loader, strict=True):
                found.append((place, _records(detector, view, views, settings, precision, processes)))
                advance()
    except BadInput as error:
        raise worker_error(error) from None
    detector.train(was_training)
    if processes.count > 1:
        gathered: list[list[tuple[int, list[Record]]]] | None = [[]] * processes.count if processes.first else None
        dist.gather_object(found, gathered)
        found = [entry for part in gathered or () for entry in part]
    return [record for _, records in sorted(found, key=lambda entry: entry[0]) for record in records]


def _records(
    detector: Detector,
    view: EvalSample,
    views: EvaluationSet,
    settings: Evaluate,
    precision: Precision,
    processes: Processes,
) -> list[Record]:
    device = processes.device
    size = torch.tensor([view.crop.kept], device=device)
    with autocast(precision, device):
        (found,) = detector.predict(view.image[None].to(device, non_blocking=True), size, settings)
    boxes = restore_boxes(found.boxes.double().cpu().numpy(), view.crop)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return list(_in_coco_format(view, found, boxes, np.flatnonzero(seen), views.truth.category_id))


def _in_coco_format(
    view: EvalSample,
    found: Detections,
    boxes: NDArray[np.float64],
    rows: NDArray[np.int64],
    category_ids: Sequence[int],
) -> Iterator[Record]:
    scores, labels = found.scores.tolist(), found.labels.tolist()
    masks = None if found.masks is None else found.masks.cpu()
    for row in rows.tolist():
        left, top, right, bottom = boxes[row].tolist()
        record: Record = {
            "image_id": view.image_id,
            "category_id": category_ids[labels[row]],
            "bbox": [left, top, right - left, bottom - top],
            "score": scores[row],
        }
        if masks is not None:
            record["segmentation"] = encode_mask(paste_mask(masks[row], boxes[row], view.crop.original))
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
    from pycocotools import mask as coco_mask

    encoded = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in encoded["size"]], "counts": encoded["counts"].decode("ascii")}
