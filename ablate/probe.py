"""What a run costs, measured alone on the device: peak memory and seconds of training, seconds of prediction.

Training: one image an iteration, the same for every variant, as the paper measured on its GPUs; forward, backward and
optimizer step, median over iterations, warm-up dropped. Memory is what CUDA allocated at most (weights, gradients and
optimizer state among it), or, on a CPU, the bytes kept for the backward pass, because resident memory would not show
activation checkpointing. Prediction: the first validation images with the trained weights, boxes and masks included,
loading of files left out; median over them.
"""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from ablate.config import Coco, RunConfig, Shapes
from ablate.manifest import Hardware
from ablate.store import SCHEMA, RunFolder, now, read_json, run_folder, write_json
from ablate.study import Study, StudyRun
from analysis.refusal import BadInput

if TYPE_CHECKING:
    import torch

    from ablate.data.loading import Batch
    from ablate.engines.detector import Detector
    from analysis import GroundTruth

FILE = "probe.json"
WARM_UP = 3
ITERATIONS = 10
FEWEST = 3
PATIENCE = 60.0  # seconds; after them the fewest iterations are enough
IMAGES = 16  # that are predicted on


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """``probe.json``, in the folder of the run that was measured."""

    device: Literal["cpu", "cuda"]
    device_name: str
    threads: int  # that compute, on a CPU
    hardware: Hardware
    torch: str
    precision: str
    peak_gib: float | None  # none: out of memory
    seconds_per_iteration: float | None
    seconds_per_image: float | None  # none: no trained weights, or out of memory
    iterations: int  # measured
    images: int  # predicted on
    message: str = ""
    measured: str
    schema: int = SCHEMA

    @property
    def place(self) -> str:
        """Where it was measured; costs of two places are not compared."""
        threads = f", {self.threads} thread{'s' * (self.threads != 1)}" if self.device == "cpu" else ""
        return f"{self.device_name}{threads}, torch {self.torch}"


def _ignore(_: str) -> None:
    """Say nothing."""


def read_cost(folder: RunFolder) -> Cost | None:
    """What was measured of a run; none where nothing was, or where it cannot be read."""
    try:
        return read_json(folder.path / FILE, Cost)
    except BadInput:
        return None


def probe_study(
    root: Path, study: Study, *, device: str = "auto", again: bool = False, say: Callable[[str], None] = _ignore
) -> None:
    """Measure every variant that has a run folder, one after another, under one of its seeds.

    What was measured on this machine before is left as it is, unless ``again``.

    Raises:
        BadInput: no run of the study was started yet.
    """
    from ablate.engines.processes import joined

    started = [(variant, run) for variant in study.variants if (run := _measured_run(root, study, variant))]
    if not started:
        raise BadInput(f"no run of study {study.name!r} was started yet; run it: ablate launch {study.name!r}")
    with joined(device) as processes:
        prober = Prober(processes.device, root)
        for variant, run in started:
            folder = run_folder(root, run.identity)
            old = read_cost(folder)
            if old is not None and not again and old.place == prober.place and not _is_out_of_date(old, folder):
                continue
            assert run.config is not None
            cost = prober.measure(run.config, folder)
            write_json(folder.path / FILE, cost)
            say(f"measured {variant}: {_words(cost)}")


def _measured_run(root: Path, study: Study, variant: str) -> StudyRun | None:
    """The run that stands for a variant: its first finished one, else its first one."""
    runs = [run for run in study.runs if run.variant == variant and run.blocked is None and run.identity]
    folders = [(run, run_folder(root, run.identity)) for run in runs]
    begun = [(run, folder) for run, folder in folders if folder.path.is_dir()]
    finished = [run for run, folder in begun if folder.predictions.exists()]
    return next(iter([*finished, *(run for run, _ in begun)]), None)


def _is_out_of_date(cost: Cost, folder: RunFolder) -> bool:
    """Whether there are weights to predict with now that were not there then."""
    return cost.seconds_per_image is None and not cost.message and folder.predictions.exists()


def _words(cost: Cost) -> str:
    if cost.peak_gib is None:
        return f"out of memory ({cost.message})"
    image = "" if cost.seconds_per_image is None else f", {cost.seconds_per_image:.4f} s an image"
    return f"{cost.peak_gib * 1024:,.0f} MiB, {cost.seconds_per_iteration:.4f} s an iteration{image}"


class Prober:
    """Measures runs on one device, one at a time.

    Args:
        device: that nothing else uses meanwhile.
        root: above `results/`.
    """

    def __init__(self, device: "torch.device", root: Path) -> None:
        import torch

        from ablate.manifest import hardware

        self.device, self.root, self.hardware = device, root, hardware()
        gpu = device.type == "cuda"
        self.name = torch.cuda.get_device_name(device) if gpu else self.hardware.processor
        self.threads = torch.get_num_threads()
        self.version = str(torch.__version__)
        self._truths: dict[Shapes | Coco, GroundTruth] = {}

    @property
    def place(self) -> str:
        """As `Cost.place`."""
        return self._cost("fp32", None, None, None, 0, 0).place

    def measure(self, config: RunConfig, folder: RunFolder) -> Cost:
        """The cost of a run; its weights are those of its newest checkpoint, where there is one."""
        import torch

        from ablate.engines.detector import build_detector
        from ablate.engines.memory import OutOfMemoryError, is_out_of_memory

        training = self._truth(config.data.train)
        assert config.train.precision != "auto"
        peak = seconds = per_image = None
        iterations = images = 0
        message = ""
        torch.manual_seed(0)
        try:
            detector = build_detector(config.model, len(training.category_id)).to(self.device)
            trained = self._load(detector, folder)
            times, peak = self._train(detector, config, training)
            iterations, seconds = len(times), statistics.median(times)
            if trained:
                self._load(detector, folder)  # the iterations above moved the weights
                spent = self._predict(detector, config)
                images, per_image = len(spent), statistics.median(spent)
        except (OutOfMemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            peak = seconds = per_image = None
            message = str(error).splitlines()[0] if str(error) else "the device holds no more"
        finally:
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return self._cost(config.train.precision, peak, seconds, per_image, iterations, images, message)

    def _cost(
        self,
        precision: str,
        peak: float | None,
        seconds: float | None,
        per_image: float | None,
        iterations: int,
        images: int,
        message: str = "",
    ) -> Cost:
        return Cost(
            device="cuda" if self.device.type == "cuda" else "cpu",
            device_name=self.name,
            threads=self.threads,
            hardware=self.hardware,
            torch=self.version,
            precision=precision,
            peak_gib=peak,
            seconds_per_iteration=seconds,
            seconds_per_image=per_image,
            iterations=iterations,
            images=images,
            message=message,
            measured=now(),
        )

    def _truth(self, source: Shapes | Coco) -> "GroundTruth":
        from ablate.data.sources import locate
        from analysis import read_ground_truth

        if source not in self._truths:
            self._truths[source] = read_ground_truth(locate(source, self.root).annotations)
        return self._truths[source]

    def _load(self, detector: "Detector", folder: RunFolder) -> bool:
        from ablate.engines.checkpoint import load_newest

        try:
            state = load_newest(folder, _ignore)
        except BadInput:
            return False
        if state is not None:
            detector.load_state_dict(state["model"])
        return state is not None

    def _train(self, detector: "Detector", config: RunConfig, truth: "GroundTruth") -> tuple[list[float], float]:
        """Seconds of each iteration, and the peak in GiB."""
        import torch

        from ablate.engines.memory import MemoryMeter
        from ablate.engines.optimizer import build_optimizer
        from ablate.engines.precision import autocast, build_scaler
        from ablate.engines.randomness import generator

        assert config.train.precision != "auto"
        batch = self._batch(config, truth)
        optimizer = build_optimizer(detector, config.train)
        scaler = build_scaler(config.train.precision, self.device)
        detector.train()
        meter = MemoryMeter(detector, self.device, None)

        def step(_: int) -> None:
            with meter.watching():
                with autocast(config.train.precision, self.device):  # type: ignore[arg-type]
                    losses = detector(batch.images, batch.sizes, batch.targets, [generator(self.device, 0)])
                scaler.scale(torch.stack(list(losses.values())).sum()).backward()  # type: ignore[no-untyped-call]
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)

        return self._timed(step, range(WARM_UP + ITERATIONS), WARM_UP), meter.peak_gib

    def _predict(self, detector: "Detector", config: RunConfig) -> list[float]:
        """Seconds of each image."""
        import torch

        from ablate.data.coco import EvaluationSet
        from ablate.data.sources import locate
        from ablate.engines.precision import autocast

        source = config.data.validation
        full = config.evaluate.padding == "full"
        views = EvaluationSet(
            truth=self._truth(source),
            folder=locate(source, self.root).images,
            side=config.model.backbone.image_size,
            multiple=None if full else detector.heads.box_pooler.strides[-1],
        )
        inputs = [
            (view.image[None].to(self.device), torch.tensor([view.placement.kept], device=self.device))
            for view in (views[number] for number in range(min(IMAGES, len(views))))
        ]
        detector.eval()

        def predict(number: int) -> None:
            image, size = inputs[number]
            with autocast(config.train.precision, self.device):  # type: ignore[arg-type]
                detector.predict(image, size, config.evaluate)

        first = [0] * WARM_UP
        return self._timed(predict, [*first, *range(len(inputs))], WARM_UP)

    def _batch(self, config: RunConfig, truth: "GroundTruth") -> "Batch":
        """The first training image with an object to learn, as seed 0 shows it in the first epoch."""
        from ablate.data.loading import collate
        from ablate.data.sources import locate
        from ablate.engines.vision import training_set

        seeded = msgspec.structs.replace(config, seed=0)
        data = training_set(seeded, truth, locate(config.data.train, self.root))
        samples = (data[0, index] for index in range(len(data)))
        sample = next((one for one in samples if len(one.target.boxes)), data[0, 0])
        return collate([sample]).to(self.device)

    def _timed(self, act: Callable[[int], None], places: "range | list[int]", warm_up: int) -> list[float]:
        import torch

        times: list[float] = []
        began = time.perf_counter()
        for place in places:
            start = time.perf_counter()
            act(place)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - start)
            if len(times) >= warm_up + FEWEST and time.perf_counter() - began > PATIENCE:
                break
        return times[warm_up:]


def costs_of(root: Path, study: Study) -> Iterator[tuple[str, Cost]]:
    """What was measured of the variants of a study; one each, of any of its seeds."""
    for variant in study.variants:
        for run in study.runs:
            if run.variant == variant and run.identity:
                cost = read_cost(run_folder(root, run.identity))
                if cost is not None:
                    yield variant, cost
                    break
