"""How many jittered training images one core makes, with masks: ``python benchmarks/loading.py [--images 64]``.

Pictures as heavy as COCO's are written into a temporary folder (`benchmarks.photos`), or taken from ``--coco``. Seconds
are those of the processor, so that others on the machine disturb little; the fastest of the rounds counts. Prints a
Markdown table of the parts.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402

from ablate.data import coco  # noqa: E402
from ablate.data.coco import TrainingSet  # noqa: E402
from analysis import read_ground_truth  # noqa: E402
from benchmarks.photos import write_photos  # noqa: E402

PARTS = {"decode": "read_image", "masks and boxes": "draw_masks"}


@contextmanager
def timed(parts: dict[str, float]) -> Iterator[None]:
    """Add up the processor's seconds of the functions of `PARTS` while open."""

    def watched(name: str, act: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object) -> object:
            began = time.process_time()
            try:
                return act(*arguments)
            finally:
                parts[name] += time.process_time() - began

        return call

    with patch.multiple(coco, **{target: watched(name, getattr(coco, target)) for name, target in PARTS.items()}):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=1024, help="of the square, pixels")
    parser.add_argument("--coco", nargs=2, metavar=("ANNOTATIONS", "FOLDER"), help="in place of generated pictures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = arguments.coco or write_photos(Path(folder), arguments.images)
        annotations, images = map(Path, files)
        data = TrainingSet(read_ground_truth(annotations), images, arguments.side, (0.1, 2.0), 0.5, True, 0)
        count = min(arguments.images, len(data))
        weight = sum(path.stat().st_size for path in images.iterdir()) / len(list(images.iterdir()))
        rounds = []
        for number in range(arguments.rounds + 1):
            parts = dict.fromkeys(PARTS, 0.0)
            began = time.process_time()
            with timed(parts):
                for index in range(count):
                    data[0, index]
            if number:  # the first one warms up
                rounds.append((time.process_time() - began, parts))
    spent, parts = min(rounds, key=lambda one: one[0])
    parts["the rest"] = spent - sum(parts.values())
    print(f"{count} images of {weight / 1000:.0f} kB, {arguments.side} px: {count / spent:.1f} images/s a core\n")
    print("| part | ms an image |\n|---|---:|")
    for name, seconds in parts.items():
        print(f"| {name} | {1000 * seconds / count:.2f} |")


if __name__ == "__main__":
    main()
