"""Building the report of 5,000 images with a gallery of 300 pictures: ``python benchmarks/report.py``.

Ground truth, two simulated detectors and noisy images (the worst for JPEG) are generated in a temporary folder. Prints
a Markdown table: seconds of the whole command (wall and processor) and megabytes of the file, without intervals and
with them; ``--masks`` adds a row of real masks.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis.coco.synthetic import (  # noqa: E402
    EXAMPLE_DETECTORS,
    IMAGE_SIZE,
    ground_truth_document,
    simulate_detector,
    simulate_scene,
)

DIFFERENT = 40  # pictures; all others are links to them


def generate(folder: Path, images: int) -> list[str]:
    """The arguments of ``analyze report`` for that many images."""
    from PIL import Image

    scene = simulate_scene(images, 80, seed=0)
    truth = folder / "gt.json"
    truth.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
    files = []
    for seed, (name, flaws) in enumerate(EXAMPLE_DETECTORS.items(), start=1):
        files.append(folder / f"{name}.json")
        files[-1].write_bytes(msgspec.json.encode(simulate_detector(scene, flaws, seed)))
    pictures = folder / "images"
    pictures.mkdir()
    rng = np.random.default_rng(0)
    width, height = IMAGE_SIZE
    for number in range(1, images + 1):
        path = pictures / f"{number:012d}.jpg"
        if number <= DIFFERENT:
            coarse = rng.integers(0, 256, (height // 20, width // 20, 3)).repeat(20, 0).repeat(20, 1)
            pixels = np.clip(coarse + rng.normal(0, 25, (height, width, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(path, quality=90)
        else:
            os.link(pictures / f"{1 + number % DIFFERENT:012d}.jpg", path)
    return [*map(str, files), "--gt", str(truth), "--images", str(pictures)]


def report(arguments: list[str], out: Path) -> tuple[float, float, float, str]:
    """Wall seconds, processor seconds, megabytes, and what the command said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, str(ROOT / "cli.py"), "analyze", "report", *arguments, "--out", str(out)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, out.stat().st_size / 1e6, done.stdout.rpartition(", ")[2].strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--masks", nargs=3, metavar=("GT", "PREDICTIONS", "IMAGES"), help="also masks of real data, with its images"
    )
    arguments = parser.parse_args()
    print("| report | wall s | processor s | MB | |\n|---|---:|---:|---:|---|")

    def row(title: str, options: list[str], folder: Path) -> None:
        wall, cpu, size, said = report(options, folder / "report.html")
        print(f"| {title} | {wall:.1f} | {cpu:.1f} | {size:.1f} | {said} |", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two = generate(folder, arguments.images)
        several = f"{arguments.images:,} images"
        row(f"{several}, one run, no intervals", [*two[1:], "--resamples", "0"], folder)
        row(f"{several}, two runs, no intervals", [*two, "--resamples", "0"], folder)
        row(f"{several}, one run, 1,000 resamples", [*two[1:], "--resamples", "1000"], folder)
        row(f"{several}, two runs, 1,000 resamples", [*two, "--resamples", "1000"], folder)
        if arguments.masks:
            truth, predictions, images = arguments.masks
            options = [predictions, "--gt", truth, "--images", images, "--iou-type", "segm", "--resamples", "0"]
            row("masks of real data, one run, no intervals", options, folder)


if __name__ == "__main__":
    main()
