"""What the stages of `benchmarks/gpu.py` work on: training steps of a detector on noise, and data that is read."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.gpu_device import Device
from benchmarks.gpu_devices import dense_bf16_peak

OBJECTS = 7  # an image: COCO's mean
CLASSES = 80


def random_batch(on: Device, images: int, side: int, seed: int = 0) -> Any:
    """A batch of noise with seven elliptical objects an image, from 16 pixels to half the picture."""
    from ablate.data.coco import Target
    from ablate.data.loader import Batch

    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.arange(side)[:, None], torch.arange(side)[None]
    targets = []
    for number in range(images):
        size = 16 * (side / 32) ** torch.rand(OBJECTS, 2, generator=generator)
        low = torch.rand(OBJECTS, 2, generator=generator) * (side - size)
        boxes = torch.cat([low, low + size], dim=1)
        (x, y), (wide, tall) = ((low + size / 2).T, size.T / 2)
        inside = [((columns - x[i]) / wide[i]) ** 2 + ((rows - y[i]) / tall[i]) ** 2 <= 1 for i in range(OBJECTS)]
        labels = torch.randint(CLASSES, (OBJECTS,), generator=generator)
        targets.append(Target(boxes, labels, torch.stack(inside).to(torch.uint8), number))
    pictures = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    return Batch(pictures, torch.full((images, 2), side), targets).to(on.device)


class TrainingStep:
    """A detector with its optimizer, and the step that training takes: forward, losses, backward, AdamW."""

    def __init__(self, on: Device, config: Any, images: int) -> None:
        from ablate.detector.mask_rcnn import build_detector, use_channels_last
        from ablate.train.optim import build_optimizer, build_scaler

        torch.manual_seed(0)
        self.on, self.config = on, config
        self.detector = build_detector(config.model, CLASSES).to(on.device).train()
        if config.train.channels_last:
            use_channels_last(self.detector)
        if config.train.compile:
            self.detector.backbone.compile_blocks("eager" if on.tiny else None)
        self.optimizer = build_optimizer(self.detector, config.train)
        self.scaler = build_scaler(on.precision, on.device)
        self.batch = random_batch(on, images, config.model.backbone.image_size)
        self.losses: dict[str, torch.Tensor] = {}

    def forward(self, number: int) -> None:
        """The losses, with draws that belong to the number of the step."""
        from ablate.train.distributed import generator
        from ablate.train.optim import autocast

        count = len(self.batch.targets)
        generators = [generator(self.on.device, 0, number, row) for row in range(count)]
        with autocast(self.on.precision, self.on.device):
            self.losses = self.detector(self.batch.images, self.batch.sizes, self.batch.targets, generators)

    def __call__(self, number: int) -> None:
        """The whole step."""
        self.forward(number)
        self.scaler.scale(torch.stack(list(self.losses.values())).sum()).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def multiply_adds(self) -> int:
        """Of a forward pass as it is, but for compilation, counted by the product's own hooks."""
        from ablate.detector.flops import counting, total

        with torch.compiler.set_stance("force_eager"), counting(self.detector) as layers, torch.no_grad():
            self.forward(0)
        return total(layers.values()).macs


def measured_step(
    on: Device, stage: str, name: str, config: Any, images: int, change: Callable[[TrainingStep], object] | None = None
) -> None:
    """Time, memory and utilisation of training steps, as one row.

    Args:
        on: the device.
        stage: that the row belongs to.
        name: of the row.
        config: of the detector.
        images: of the batch.
        change: made before the first step.
    """
    with on.row(stage, name):
        on.clear()
        step = TrainingStep(on, config, images)
        if change is not None:
            change(step)
        multiply_adds = step.multiply_adds()
        on.clear()
        found = on.milliseconds(step, warm=3, repeats=6, most=20)
        loss = sum(value.item() for value in step.losses.values())
        tflops = 6 * multiply_adds / found["ms"] / 1e9
        peak = dense_bf16_peak(on.name)
        on.say(
            stage,
            name,
            images=images,
            **found,
            images_s=round(1e3 * images / found["ms"], 2),
            peak_gib=on.peak_gib(),
            tflops=round(tflops, 1),
            utilisation=None if peak is None else round(tflops / peak, 3),
            loss=round(loss, 3),
        )


def data_of(on: Device) -> Any:
    """The training and validation images of stages that read files: ``--coco``, or pictures that are made."""
    from ablate.data.sources import data_from

    if on.coco is not None:
        return data_from([str(on.coco)])
    made = on.work / "photos"
    if not made.is_dir():
        from benchmarks.photos import write_photos

        write_photos(made, 48 if on.gpu else 4)
    return data_from([str(made / "instances.json"), str(made / "images")] * 2)


def with_data(on: Device, config: Any) -> Any:
    """A config that reads those images."""
    import msgspec

    return msgspec.structs.replace(config, data=data_of(on))
