"""Our ViT against detectron2's own, in an environment that has both: ``python benchmarks/backbone.py [--device cuda]``.

Both get the same weights and images and run in turn, in one process. Without relative position their maps are equal,
which is checked before anything is timed. With it, the peer of our shared tables is detectron2's decomposed one,
another function of the same purpose: there the cost alone is compared. Ratios are ours / theirs, of the fastest of the
repeats.

On a CPU one thread computes in fp32. Time is that of the process, so that others on the machine disturb little; memory
is what autograd keeps for the backward pass (``ablate.train.memory``). On CUDA, under bf16 autocast, time is measured
between synchronisations, and memory is the peak that the allocator reached in a training step beyond the weights.
"""

import argparse
import csv
import io
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from ablate.models import ViT  # noqa: E402
from ablate.train.memory import GIB, SavedForBackward, is_out_of_memory  # noqa: E402
from analysis.files import write_bytes  # noqa: E402
from tests.ablate.models.detectron2_peer import detectron2_vit  # noqa: E402

# Largest difference of the maps, fp32. On CUDA the kernels of attention add up in other orders, and through all blocks.
EQUAL = {"cpu": 1e-5, "cuda": 1e-3}


@dataclass(frozen=True)
class Size:
    """A backbone and its input.

    ``of``: blocks of the whole model, of which the first ``depth`` stand here; ``kernels``: of ours.
    """

    name: str
    width: int
    depth: int
    heads: int
    pixels: int
    of: int
    kernels: tuple[str, ...] = ("fused", "naive")

    @property
    def global_count(self) -> int:
        """Global blocks of the hybrid."""
        return max(1, 4 * self.depth // self.of)  # the paper's four, in proportion


SIZES = {
    "cpu": [Size("ViT-S", 384, 12, 6, 512, 12), Size("ViT-B", 768, 3, 12, 1024, 12, ("fused",))],
    "cuda": [Size("ViT-B", 768, 12, 12, 1024, 12), Size("ViT-L", 1024, 24, 16, 1024, 24)],
}


@dataclass(frozen=True)
class Row:
    """One comparison: seconds and GiB, ours and theirs; None where the device had no memory for it."""

    model: str
    blocks: str
    pixels: int
    pattern: str
    relative: bool
    kernel: str
    our_training: float | None
    their_training: float | None
    our_inference: float | None
    their_inference: float | None
    our_memory: float | None
    their_memory: float | None


def build(size: Size, pattern: Any, kernel: Any, relative: bool, device: torch.device) -> tuple[nn.Module, nn.Module]:
    """Both backbones on a device."""
    torch.manual_seed(0)
    ours = ViT(
        width=size.width,
        depth=size.depth,
        heads=size.heads,
        image_size=size.pixels,
        pattern=pattern,
        global_count=size.global_count,
        kernel=kernel,
        relative="rand" if relative else "none",
        absolute_grid=14,
        taps="last",
    )
    return ours.to(device), detectron2_vit(ours, image_size=size.pixels, relative=relative).to(device)


def last(maps: Any) -> Tensor:
    """The map that both return, each in its way."""
    return maps[-1] if isinstance(maps, list) else maps["last_feat"]


class Bench:
    """One device and how it is measured."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.gpu = device.type == "cuda"

    def train(self, model: nn.Module, images: Tensor) -> None:
        """Forward and backward pass."""
        model.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu):
            out = last(model(images))
        out.float().square().mean().backward()

    def infer(self, model: nn.Module, images: Tensor) -> None:
        """Forward pass without gradients."""
        with torch.no_grad(), torch.autocast(self.device.type, torch.bfloat16, enabled=self.gpu):
            last(model(images))

    def seconds(self, work: Callable[[], None]) -> float:
        """Of one call."""
        if not self.gpu:
            start = time.process_time()
            work()
            return time.process_time() - start
        torch.cuda.synchronize(self.device)
        start = time.perf_counter()
        work()
        torch.cuda.synchronize(self.device)
        return time.perf_counter() - start

    def memory(self, model: nn.Module, images: Tensor) -> float:
        """GiB of one training step beyond the weights."""
        model.zero_grad(set_to_none=True)
        if not self.gpu:
            saved = SavedForBackward(model, None)
            with saved.counting():
                self.train(model, images)
            return saved.peak / GIB
        torch.cuda.reset_peak_memory_stats(self.device)
        before = torch.cuda.memory_allocated(self.device)
        self.train(model, images)
        return (torch.cuda.max_memory_allocated(self.device) - before) / GIB


def compare(bench: Bench, size: Size, pattern: str, kernel: str, relative: bool, batch: int, repeats: int) -> Row:
    """Both backbones, one setting."""
    models = build(size, pattern, kernel, relative, bench.device)
    images = torch.randn(batch, 3, size.pixels, size.pixels, device=bench.device)
    if not relative:
        equal = EQUAL[bench.device.type]
        with torch.no_grad(), torch.backends.cudnn.flags(allow_tf32=False):
            ours, theirs = (last(model(images)) for model in models)
        assert torch.allclose(ours, theirs, atol=equal, rtol=equal), (ours - theirs).abs().max()
        del ours, theirs
    memory = [attempt(lambda m=model: bench.memory(m, images)) for model in models]  # also warms up
    training: list[list[float]] = [[], []]
    inference: list[list[float]] = [[], []]
    for _ in range(repeats):
        for number, model in enumerate(models):
            if memory[number] is not None:
                training[number].append(bench.seconds(lambda m=model: bench.train(m, images)))
                model.zero_grad(set_to_none=True)
            inference[number].append(bench.seconds(lambda m=model: bench.infer(m, images)))
    blocks = str(size.depth) if size.depth == size.of else f"{size.depth} of {size.of}"
    fastest = [min(times) if times else None for times in (*training, *inference)]
    return Row(size.name, blocks, size.pixels, pattern, relative, kernel, *fastest, *memory)


def attempt(work: Callable[[], float]) -> float | None:
    """None where memory runs out."""
    try:
        return work()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    torch.cuda.empty_cache()
    return None


def settings(arguments: argparse.Namespace) -> Iterator[tuple[Size, str, str, bool]]:
    """What is compared, in the order of what is asked first."""
    for relative in (place == "own" for place in arguments.relative):
        for kernel in arguments.kernels:
            for size in SIZES[arguments.device]:
                if kernel in size.kernels and size.name in (arguments.models or [size.name]):
                    for pattern in ("window", "hybrid", "global"):
                        yield size, pattern, kernel, relative


HEAD = ("model", "blocks", "px", "attention", "relative", "kernel")
MEASURED = ("training", "inference", "memory")
UNITS = ("s", "s", "GiB")


def markdown_row(row: Row) -> str:
    """Ratios, with the absolute values of both behind them."""
    cells = [
        row.model,
        row.blocks,
        str(row.pixels),
        row.pattern,
        "both their own" if row.relative else "none",
        row.kernel,
    ]
    for what in MEASURED:
        ours, theirs = getattr(row, f"our_{what}"), getattr(row, f"their_{what}")
        shown = ["out of memory" if value is None else f"{value:.3g}" for value in (ours, theirs)]
        ratio = f"**{ours / theirs:.2f}**" if ours and theirs else "-"
        cells.append(f"{ratio} ({shown[0]} / {shown[1]})")
    return "| " + " | ".join(cells) + " |"


def as_csv(rows: list[Row]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(Row.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue().encode()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--models", nargs="*", help="such as ViT-S; default: all of the device")
    parser.add_argument("--kernels", nargs="*", choices=("fused", "naive"), default=["fused", "naive"], help="of ours")
    parser.add_argument("--relative", nargs="*", choices=("none", "own"), default=["none", "own"], help="position")
    parser.add_argument("--batch", type=int, default=1, help="images a step")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, help="folder for backbone_DEVICE.csv and .md")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(torch.device(arguments.device))
    lines = [
        "| "
        + " | ".join((*HEAD, *(f"{what}, ours / theirs ({u})" for what, u in zip(MEASURED, UNITS, strict=True))))
        + " |",
        "|---" * (len(HEAD) + len(MEASURED)) + "|",
    ]
    print("\n".join(lines))
    rows = []
    for size, pattern, kernel, relative in settings(arguments):
        rows.append(compare(bench, size, pattern, kernel, relative, arguments.batch, arguments.repeats))
        lines.append(markdown_row(rows[-1]))
        print(lines[-1], flush=True)
        if arguments.out:  # after each, because a large one may end in somebody's patience
            write_bytes(arguments.out / f"backbone_{arguments.device}.csv", as_csv(rows))
            write_bytes(arguments.out / f"backbone_{arguments.device}.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
