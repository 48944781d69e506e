"""The stages of `benchmarks/gpu.py` that measure the model: attention, training steps, memory, inference, levers.

Each takes a `Device` and says one result a row. Pictures and objects are random but for those stages that read files,
which take ``--coco`` or pictures made by `benchmarks/photos.py`.
"""

import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_device import GIB, Device, Missing
from benchmarks.gpu_devices import dense_bf16_peak
from benchmarks.gpu_steps import CLASSES, TrainingStep, data_of, measured_step, with_data

ATTENTION = "model.backbone.attention"
POSITION = "model.backbone.position"
VARIANTS: dict[str, tuple[str, ...]] = {  # of the attention axis, and of what it costs
    "hybrid": (),
    "window": (f"{ATTENTION}.pattern=window",),
    "global": (f"{ATTENTION}.pattern=global",),
    "global, checkpointed": (f"{ATTENTION}.pattern=global", f"{ATTENTION}.checkpoint=all"),
    "hybrid, no bias": (f"{POSITION}.relative=none",),
    "hybrid, naive": (f"{ATTENTION}.kernel=naive",),
    "hybrid, fused_table": (f"{ATTENTION}.kernel=fused_table",),
    "global, fused_table": (f"{ATTENTION}.pattern=global", f"{ATTENTION}.kernel=fused_table"),
}
KERNELS = ("flash", "fmha", "cudnn", "mem_eff", "softmax", "gemm")
PAPER_CAP = 32.0  # GiB: the paper's GPUs


def machine(on: Device) -> None:
    """What there is, what it lacks, and what it reaches."""
    import torchvision

    lacks = []
    found: dict[str, Any] = {"python": platform.python_version(), "torchvision": torchvision.__version__}
    if on.gpu:
        properties = torch.cuda.get_device_properties(0)
        free, total = torch.cuda.mem_get_info(0)
        context = torch.cuda.memory_reserved(0)
        found |= {
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "gib": round(total / GIB, 1),
            "free_gib": round(free / GIB, 1),
            "multiprocessors": properties.multi_processor_count,
            "capability": f"{properties.major}.{properties.minor}",
            "peak_tflops_dense_bf16": dense_bf16_peak(on.name),
        }
        if (total - free - context) / GIB > 2:
            lacks.append(f"the GPU is busy: others use about {(total - free) / GIB:.1f} GiB, times are theirs too")
        if not on.bf16:
            lacks.append("no bf16: measured in fp16")
        if "MIG" in on.name:
            lacks.append("a MIG slice: the peak of the whole device does not apply")
        if found["peak_tflops_dense_bf16"] is None:
            lacks.append("its dense bf16 peak is not known: no utilisation")
        if torch.cuda.device_count() > 1:
            lacks.append(f"{torch.cuda.device_count()} GPUs are visible, the first one is measured")
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version,utilization.gpu,clocks.sm", "--format=csv,noheader"]
        found["nvidia_smi"] = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()
    if Path("/dev/shm").is_dir():
        found["shm_gib"] = round(shutil.disk_usage("/dev/shm").total / GIB, 2)
        if found["shm_gib"] < 1:
            lacks.append("less than 1 GiB of /dev/shm: loading by worker processes may fail")
    on.say("machine", "what there is", lacks="; ".join(lacks) or "nothing", **found)
    side = 8192 if on.gpu else 128
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[on.precision]
    with on.row("machine", "matrix product"):
        left, right = (torch.randn(side, side, device=on.device, dtype=dtype) for _ in range(2))
        time_of = on.milliseconds(lambda _: left @ right, warm=5, repeats=10)
        on.say("machine", f"matrix product of {side}", tflops=round(2 * side**3 / time_of["ms"] / 1e9, 1), **time_of)
    with on.row("machine", "copy"):
        source = torch.empty(GIB if on.gpu else 2**20, dtype=torch.uint8, device=on.device)
        time_of = on.milliseconds(lambda _: source.clone(), repeats=10)
        on.say("machine", "copy on the device", tb_s=round(2 * len(source) / time_of["ms"] / 1e9, 2), **time_of)


def attention(on: Device) -> None:
    """`attend` and its gradients against float64, the kernels that ran, and the time of forward and backward."""
    cases = ((8, 16), (14, 25), (56, 1), (64, 1)) if on.gpu else ((4, 2), (8, 1))  # side of the grid, batch
    heads, width = (12, 64) if on.gpu else (2, 16)
    for side, batch in cases:
        for biased in ("learned", "constant", "none"):
            name = f"n = {side * side}, batch {batch}, bias {biased}"
            if not on.has(10):
                raise Missing("time for the rest")
            with on.row("attention", name):
                _one_attention(on, name, side, batch, heads, width, biased)


def _one_attention(on: Device, name: str, side: int, batch: int, heads: int, width: int, biased: str) -> None:
    from ablate.models.attention import attend
    from ablate.models.position import RelativeBias

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[on.precision]
    torch.manual_seed(0)
    drawn = [torch.randn(batch, side * side, heads, width, device=on.device, dtype=dtype) for _ in range(3)]
    q, k, v = (one.transpose(1, 2).requires_grad_() for one in drawn)
    table = RelativeBias(heads, (side, side), "rand").to(on.device)
    table.table.data.mul_(25)
    wanted = torch.randn(batch, heads, side * side, width, device=on.device, dtype=dtype)
    learned = [q, k, v, *([table.table] if biased == "learned" else [])]

    def step(kernel: Any) -> tuple[torch.Tensor, ...]:
        made: Any = table.as_constant if kernel == "fused_table" else table
        bias = None if biased == "none" else made((side, side), dtype)
        bias = bias.detach() if biased == "constant" else bias
        out = attend(q, k, v, bias, kernel)
        return (out.detach(), *torch.autograd.grad(out, learned, wanted))

    compared = ("fused", "fused_table") if biased == "learned" else ("fused",)
    found = {kernel: step(kernel) for kernel in compared}
    exact = [one.detach().double().requires_grad_() for one in learned]
    exact_table = exact[3] if biased == "learned" else table.table.detach().double()
    from ablate.models.position import relative_bias

    logits = exact[0] @ exact[1].transpose(-1, -2) * width**-0.5
    if biased != "none":
        logits = logits + relative_bias(exact_table, (side, side))
    out = logits.softmax(dim=-1) @ exact[2]
    truth = (out.detach(), *torch.autograd.grad(out, exact, wanted.double()))
    del logits, out
    parts = {
        kernel: {
            part: f"{((one.double() - true).norm() / true.norm()).item():.1e}"
            for part, one, true in zip(("out", "dq", "dk", "dv", "dtable"), ours, truth, strict=False)
        }
        for kernel, ours in found.items()
    }
    kernels = ""
    if on.gpu:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as seen:
            step("fused")
            torch.cuda.synchronize()
        names = [entry.key.lower() for entry in seen.key_averages()]
        kernels = "+".join(word for word in KERNELS if any(word in name for name in names))
    del truth
    times = {
        kernel: on.milliseconds(lambda _, kernel=kernel: step(kernel), most=3)["ms"] for kernel in (*compared, "naive")
    }
    on.say(
        "attention",
        name,
        finite=all(bool(one.isfinite().all()) for ours in found.values() for one in ours),
        relative_errors=parts["fused"],
        fused_table_errors=parts.get("fused_table"),
        kernels=kernels or None,
        **{f"{kernel}_ms": milliseconds for kernel, milliseconds in times.items()},
    )


def steps(on: Device) -> None:
    """Whole training steps: every variant of attention with one image, then larger batches, ViT-B and ViT-L."""
    for base, title in (("vit-b-coco", "ViT-B"), ("vit-l-coco", "ViT-L")):
        rows = [(name, changes, 1) for name, changes in VARIANTS.items()]
        rows[1:1] = [("hybrid", (), images) for images in (8, 4, 16)]
        for name, changes, images in rows if on.gpu else [("hybrid", (), 2), rows[-1]]:
            if not on.has(20):
                raise Missing("time for the rest")
            measured_step(on, "steps", f"{title} {name}", on.config(base, *changes), images)


def memory(on: Device) -> None:
    """The forecast of memory against the peak of real steps."""
    from ablate.detector.memory_forecast import forecast_memory

    for base, changes, images in (
        ("vit-b-coco", VARIANTS["hybrid"], 1),
        ("vit-b-coco", VARIANTS["hybrid"], 8 if on.gpu else 2),
        ("vit-b-coco", VARIANTS["global"], 1),
        ("vit-b-coco", VARIANTS["global, fused_table"], 1),
        ("vit-l-coco", VARIANTS["hybrid"], 1),
    )[: None if on.gpu else 1]:
        config, name = on.config(base, *changes), f"{base} {' '.join(changes) or 'hybrid'}, {images} images"
        if not on.has(25):
            raise Missing("time for the rest")
        with on.row("memory", name):
            forecast = forecast_memory(config.model, CLASSES, on.precision).peak_gib(images)
            on.clear()
            step = TrainingStep(on, config, images)
            for number in range(2):
                step(number)
            peak = on.peak_gib()
            ratio = None if peak is None else round(forecast / peak, 3)
            on.say("memory", name, forecast_gib=round(forecast, 3), peak_gib=peak, forecast_to_peak=ratio)


def paper(on: Device) -> None:
    """The paper's Table 3 by the product's own probe: ViT-L, one image, logits in memory, no more than 32 GB."""
    from ablate.runs.folder import Workspace
    from ablate.studies import benchmark

    workspace = Workspace(on.work)
    prober = benchmark.Prober(on.device, workspace)
    benchmark.ROUNDS = 1
    cap = PAPER_CAP if on.gpu else 0.002
    rows = [(name, "naive") for name in ("window", "hybrid", "global, checkpointed", "global")] + [("global", "fused")]
    for name, kernel in rows[: None if on.gpu else 1]:
        if not on.has(30):
            raise Missing("time for the rest")
        with on.row("paper", f"{name}, {kernel}"):
            changes = [*VARIANTS[name], f"{ATTENTION}.kernel={kernel}", f"train.precision={on.precision}"]
            changes += ["train.images_per_norm=1"]
            base = "vit-l-coco" if on.gpu else "vit-b-coco"
            config = with_data(on, on.config(base, *changes, f"train.memory_cap_gib={cap}"))
            (cost,) = prober.measure([(config, workspace.run("none"))])
            on.say(
                "paper",
                f"{name}, {kernel}",
                cap_gib=cap,
                peak_gib=None if cost.peak_gib is None else round(cost.peak_gib, 4),
                seconds_a_step=cost.seconds_per_iteration,
                spread=cost.spread,
                out_of_memory=cost.message[:120] or None,
            )
            if on.gpu:
                torch.cuda.set_per_process_memory_fraction(1.0, 0)


def inference(on: Device) -> None:
    """Images a second: the network with its boxes, and everything from the file to run lengths of masks."""
    from ablate.data.sources import locate
    from ablate.detector.inference import predict
    from ablate.engines.base import RunInputs
    from ablate.engines.torchvision import VisionEngine
    from ablate.runs.folder import Workspace
    from ablate.train.distributed import Processes
    from analysis import read_ground_truth

    count = 16 if on.gpu else 2
    for base in ("vit-b-coco", "vit-l-coco") if on.gpu else ("vit-b-coco",):
        with on.row("inference", base):
            changes = (f"train.precision={on.precision}", "evaluate.score_threshold=0.0", "train.images_per_norm=1")
            config = with_data(on, on.config(base, *changes))
            files = locate(config.data.validation, Workspace(on.work))
            truth = read_ground_truth(files.annotations)
            alone = Processes(0, 1, on.device)
            engine = VisionEngine(config, RunInputs(files, files, truth, truth), alone)
            engine.module.to(on.device).eval()
            views = engine.validation_images
            ready = [engine.as_input(views[number]) for number in range(min(count, len(views)))]

            def detect(number: int, engine: VisionEngine = engine, ready: list[Any] = ready) -> None:
                engine.detect(ready[number % len(ready)])

            found = on.milliseconds(detect, warm=4, repeats=count)
            few = torch.utils.data.Subset(views, range(len(ready)))
            few.truth = truth  # type: ignore[attr-defined]
            began = time.perf_counter()
            records = predict(
                engine.detector,
                few,  # type: ignore[arg-type]
                settings=config.evaluate,
                precision=on.precision,  # type: ignore[arg-type]
                processes=alone,
                workers=0,
                show_progress=False,
            )
            whole = 1e3 * (time.perf_counter() - began) / len(ready)
            on.say(
                "inference",
                base,
                **found,
                images_s=round(1e3 / found["ms"], 1),
                from_file_to_masks_ms=round(whole, 1),
                detections=round(len(records) / len(ready), 1),
                peak_gib=on.peak_gib(),
            )


def loading(on: Device) -> None:
    """Jittered training images that one core of this machine makes in a second."""
    from ablate.data.coco import TrainingSet
    from ablate.data.sources import locate
    from ablate.runs.folder import Workspace
    from analysis import read_ground_truth

    files = locate(data_of(on).train, Workspace(on.work))
    data = TrainingSet(read_ground_truth(files.annotations), files.images, 1024, (0.1, 2.0), 0.5, True, 0)
    count = min(len(data), 48)
    for index in range(min(count, 2)):
        data[0, index]
    began = time.process_time()
    for index in range(count):
        data[0, index]
    on.say("loading", "one core, with masks", images_s=round(count / (time.process_time() - began), 1), images=count)


def backbone(on: Device) -> None:
    """Our ViT against detectron2's with the same weights: equal maps, time and memory."""
    try:
        import detectron2.modeling.backbone.vit  # noqa: F401
    except ImportError as error:
        raise Missing(f"detectron2 ({error})") from None
    from benchmarks import backbone as peer

    bench = peer.Bench(on.device)
    sizes = peer.SIZES["cuda"] if on.gpu else [peer.Size("ViT-tiny", 48, 4, 4, 128, 4, ("fused",))]
    for size in sizes:
        for pattern in ("global", "window", "hybrid"):
            for relative in (False, True):
                if not on.has(20):
                    raise Missing("time for the rest")
                name = f"{size.name} {pattern}{', own relative position' if relative else ''}"
                with on.row("backbone", name):
                    row = peer.compare(bench, size, pattern, "fused", relative, 1, 3)
                    pairs = {
                        "training": (row.our_training, row.their_training),
                        "inference": (row.our_inference, row.their_inference),
                        "memory": (row.our_memory, row.their_memory),
                    }
                    ratios = {
                        what: round(ours / theirs, 3) if ours and theirs else "no memory"
                        for what, (ours, theirs) in pairs.items()
                    }
                    on.say("backbone", name, ours_to_theirs=ratios, ours_ms=row.our_training and 1e3 * row.our_training)


def profile(on: Device) -> None:
    """Where the time of a step goes: parts, host waits, and the kernels that take most."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    from ablate.data.loader import normalise
    from ablate.train.distributed import generator
    from ablate.train.optim import autocast
    from benchmarks.host_waits import HostWaits

    images = 8 if on.gpu else 2
    step = TrainingStep(on, on.config("vit-b-coco"), images)
    found = on.milliseconds(step)
    with HostWaits() as counted:
        step(0)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on.gpu else [])]
    with profiler(activities=activities) as seen:
        step(0)
        on.synchronise()
    entries = seen.key_averages()
    asked = ("cudaStreamSynchronize", "cudaMemcpyAsync", "cudaLaunchKernel")
    calls = {entry.key: entry.count for entry in entries if entry.key in asked}
    name = f"a step of ViT-B hybrid, {images} images"
    on.say("profile", name, **found, host_waits=counted.waits, constants_copied=counted.copies, **calls)
    spent = (lambda e: e.self_device_time_total) if on.gpu else (lambda e: e.self_cpu_time_total)
    for entry in sorted(entries, key=spent, reverse=True)[: 20 if on.gpu else 3]:
        on.say("profile", f"kernel {entry.key[:90]}", ms=round(spent(entry) / 1e3, 2), calls=entry.count)
    detector, batch, marks = step.detector, step.batch, [("", 0.0)]

    def mark(part: str) -> None:
        on.synchronise()
        marks.append((part, time.perf_counter()))

    mark("begin")
    with autocast(on.precision, on.device):  # type: ignore[arg-type]
        maps = detector.backbone(normalise(batch.images, batch.sizes, detector.pixel_mean, detector.pixel_std))
        mark("backbone")
        levels = list(detector.pyramid(maps).values())
        mark("pyramid")
        generators = [generator(on.device, 0, row) for row in range(images)]
        proposals, losses = detector.rpn(levels, batch.sizes, batch.targets, generators)
        mark("region proposals")
        losses |= detector.heads.losses(levels[:4], proposals, batch.targets, generators)
        mark("heads")
    torch.stack(list(losses.values())).sum().backward()
    mark("backward")
    step.optimizer.step()
    mark("AdamW")
    parts = {part: round(1e3 * (at - before), 1) for (_, before), (part, at) in pairwise(marks[1:])}
    on.say("profile", f"parts of it in ms, {images} images", **parts)


def levers(on: Device) -> None:
    """What makes a step of eight images faster or slower, each lever by itself against the same step."""
    from ablate.detector.batch_norm import GroupBatchNorm2d

    def waits_often(step: TrainingStep) -> None:
        step.detector.rpn.few_waits = step.detector.heads.few_waits = False

    def over_a_group(fused: bool) -> Callable[[TrainingStep], object]:
        def change(step: TrainingStep) -> None:
            for module in step.detector.modules():
                if isinstance(module, GroupBatchNorm2d):
                    module.fused, module.group = fused, _alone

        return change

    table = f"{ATTENTION}.kernel=fused_table"
    rows: dict[str, tuple[tuple[str, ...], Callable[[TrainingStep], object] | None]] = {
        "as it is": ((), None),
        "the host waits often": ((), waits_often),
        "channels_last after the backbone": (("train.channels_last=true",), None),
        "BatchNorm over a group, fused": ((), over_a_group(True)),
        "BatchNorm over a group, in steps": ((), over_a_group(False)),
        "tables by a kernel of their own": ((table,), None),
        "blocks compiled": (("train.compile=true",), None),
        "all options": ((table, "train.channels_last=true", "train.compile=true"), None),
    }
    with _group_of_one(on):
        for name, (options, change) in rows.items():
            if on.tiny and name == "blocks compiled":
                continue  # the last row does it too
            if not on.has(25):
                raise Missing("time for the rest")
            measured_step(on, "levers", name, on.config("vit-b-coco", *options), 8 if on.gpu else 2, change)


def _alone() -> Any:
    """What stands for a weak reference to the group."""
    import torch.distributed as dist

    return dist.group.WORLD


@contextmanager
def _group_of_one(on: Device) -> Iterator[None]:
    """This process alone, as a group of processes: the arithmetic of a group without its network."""
    import torch.distributed as dist

    store = dist.FileStore(str(on.work / f"group-{time.monotonic_ns()}"), 1)
    dist.init_process_group("nccl" if on.gpu else "gloo", rank=0, world_size=1, store=store)
    try:
        yield
    finally:
        dist.destroy_process_group()
