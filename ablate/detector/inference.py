"""From the last weights to COCO results: boxes and masks in the pixels of the original images."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from ablate.config.schema import Evaluate
from ablate.data.coco import EvalSample, EvaluationSet
from ablate.data.transforms import restore_boxes
from ablate.detector.batch_norm import share_statistics
from ablate.detector.mask_rcnn import Detector
from ablate.detector.roi_heads import DetectedInstances
from ablate.progress import progress
from ablate.runs.manifest import usable_cores
from ablate.train.distributed import Processes, outlive_a_polite_stop
from ablate.train.loading import loading_errors_named
from ablate.train.optim import Precision, autocast

Record = dict[str, Any]
MASK_THREADS = 4  # that resample and encode masks while a GPU looks at the next image


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
    device, gpu = processes.device, processes.device.type == "cuda"

    def detect(sample: EvalSample) -> DetectedInstances:
        size = torch.tensor([sample.crop.kept], device=device)
        with autocast(precision, device):
            (found,) = detector.predict(sample.image[None].to(device, non_blocking=True), size, settings)
        return found.to(torch.device("cpu"))

    def in_coco_format(sample: EvalSample, found: DetectedInstances) -> list[Record]:
        return list(_in_coco_format(sample, found, images.truth.category_id))

    if processes.count > 1:
        share_statistics(detector)
    threads = min(MASK_THREADS, max(1, usable_cores() // processes.on_this_machine)) if gpu else 0
    with Afterwards(in_coco_format, threads) as afterwards:
        return predict_all(
            detector,
            images,
            lambda sample: afterwards(sample, detect(sample)),
            processes,
            workers,
            pin_memory=gpu,
            show_progress=show_progress,
        )


class Afterwards:
    """Post-processing on the host, in threads, while the device computes the next images.

    Args:
        act: the work, which returns records.
        threads: number of threads; 0 does the work at once, in the calling thread.
    """

    def __init__(self, act: Callable[..., list[Record]], threads: int) -> None:
        self._act, self._threads = act, threads
        self._pool = ThreadPoolExecutor(threads, "masks") if threads else None
        self._running: deque[Future[list[Record]]] = deque()

    def __call__(self, *arguments: Any) -> Callable[[], list[Record]]:
        """Start the work -> a function that waits for its records; at most two tasks per thread are pending."""
        if self._pool is None:
            found = self._act(*arguments)
            return lambda: found
        if len(self._running) >= 2 * self._threads:
            self._running.popleft().result()
        future = self._pool.submit(self._act, *arguments)
        self._running.append(future)
        return future.result

    def __enter__(self) -> "Afterwards":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def predict_all(
    model: nn.Module,
    images: Dataset[Any],
    detect: Callable[[Any], Callable[[], list[Record]]],
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
        detect: starts the detection of one image, and returns a function that waits for its results.
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
            begun = []
            samples = iter(loader)
            for place in own:
                with loading_errors_named():
                    sample = next(samples)
                begun.append((place, detect(sample)))
                advance()
            found = [(place, records()) for place, records in begun]
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
    boxes = restore_boxes(found.boxes.double().numpy(), sample.crop)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    scores, labels = found.scores.tolist(), found.labels.tolist()
    masks = found.masks
    for row in np.flatnonzero(seen).tolist():
        left, top, right, bottom = boxes[row].tolist()
        record: Record = {
            "image_id": sample.image_id,
            "category_id": category_ids[labels[row]],
            "bbox": [left, top, right - left, bottom - top],
            "score": scores[row],
        }
        if masks is not None:
            inside, corner = paste_mask(masks[row], boxes[row])
            record["segmentation"] = encode_mask(inside, corner, sample.crop.original)
        yield record


def paste_mask(mask: Tensor, box: NDArray[np.float64]) -> tuple[NDArray[np.bool_], tuple[int, int]]:
    """A mask that fills a box, resampled at the pixel centres of its image and cut at one half.

    Args:
        mask: f32[m, m], probabilities.
        box: f64[4], xyxy in pixels of the image, inside it.

    Returns:
        bool[h, w], the pixels around the box, and the top and left of the first of them in the image.
    """
    left, top = np.floor(box[:2]).astype(int).tolist()
    right, bottom = np.ceil(box[2:]).astype(int).tolist()
    # Pixel (0, 0) has its centre at (0.5, 0.5); the box spans -1 .. 1 of the sampling grid.
    x = (torch.arange(left, right, dtype=torch.float64) + 0.5 - box[0]) / (box[2] - box[0]) * 2 - 1
    y = (torch.arange(top, bottom, dtype=torch.float64) + 0.5 - box[1]) / (box[3] - box[1]) * 2 - 1
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1)
    sampled = F.grid_sample(mask[None, None].float(), grid[None].float(), align_corners=False)[0, 0]
    return (sampled >= 0.5).numpy(), (top, left)


def encode_mask(inside: NDArray[np.bool_], corner: tuple[int, int], size: tuple[int, int]) -> Record:
    """COCO's compressed run lengths of a mask that is empty but for a window.

    Args:
        inside: bool[h, w], the window.
        corner: its top and left in the image.
        size: height and width of the image.
    """
    from pycocotools import mask

    # COCO counts pixels column by column.
    column, row = np.nonzero(inside.T)
    pixel = (column + corner[1]) * size[0] + row + corner[0]
    gaps = np.diff(pixel) != 1
    begins, ends = pixel[np.insert(gaps, 0, True)[: len(pixel)]], pixel[np.append(gaps, True)[: len(pixel)]] + 1
    runs = np.diff(np.stack([begins, ends], axis=1).ravel(), prepend=0, append=size[0] * size[1])
    runs = runs if len(runs) == 1 or runs[-1] else runs[:-1]
    encoded = mask.frPyObjects({"counts": runs.tolist(), "size": list(size)}, *size)
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}
