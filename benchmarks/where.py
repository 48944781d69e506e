"""Many prediction files by class and size, against as many plain breakdowns of hotcoco: ``python benchmarks/where.py``.

Both read the ground truth once. The workload is generated from a seed: 5,000 images, 80 categories, about 37,000
objects, and eight simulated detectors with flaws of their own, about 200,000 detections each. Prints a Markdown table
of medians of seconds and processor seconds, and of the ratios (ours / theirs) round by round. On a machine that others
use too only the second pair says much: hotcoco works on several threads, and gets a share for each.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis import Settings, read_detections, read_ground_truth  # noqa: E402
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene  # noqa: E402
from analysis.evaluation.analysis import Analysis, parse_parts  # noqa: E402


def ours(truth: Path, predictions: list[Path], parts: tuple[str, ...]) -> None:
    gt = read_ground_truth(truth)
    analysis = Analysis(gt, Settings(), parts)
    for path in predictions:
        analysis.of(path.stem, read_detections(path, gt))


def hotcoco(truth: Path, predictions: list[Path]) -> None:
    from hotcoco import COCO, COCOeval

    gt = COCO(str(truth))
    for path in predictions:
        evaluation = COCOeval(gt, gt.loadRes(str(path)), "bbox")
        evaluation.evaluate()
        evaluation.tide_errors()


def generate(folder: Path, images: int, detectors: int) -> tuple[Path, list[Path]]:
    scene = simulate_scene(images, 80, seed=0)
    truth = folder / "ground_truth.json"
    truth.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
    predictions = []
    for number in range(detectors):
        flaws = Flaws(box_noise=0.05 + 0.01 * number, confused=0.2 - 0.02 * number, missed=0.1 + 0.01 * number)
        predictions.append(folder / f"detector-{number}.json")
        predictions[-1].write_bytes(msgspec.json.encode(simulate_detector(scene, flaws, seed=1 + number)))
    return truth, predictions


def timed(work: Callable[[], None]) -> tuple[float, float]:
    """Seconds, and processor seconds of all threads."""
    start, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=8, choices=range(1, 10))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--by", nargs="+", default=["", "class,size", "all"], help="what is split, a row each")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = generate(Path(name), arguments.images, arguments.files)
        print("| work | ours | hotcoco, plain breakdowns | ratio | processor: ours | hotcoco | ratio |")
        print("|---|---:|---:|---:|---:|---:|---:|")
        for by in arguments.by:
            parts = parse_parts(by)
            what = f"by {', '.join(parts)}" if parts else "nothing but the breakdown"
            rounds = [
                (*timed(partial(ours, *files, parts)), *timed(partial(hotcoco, *files)))
                for _ in range(arguments.runs + 1)  # the first warms up
            ]
            a, a_processor, b, b_processor = (median(column) for column in zip(*rounds[1:], strict=True))
            ratio = median(one[0] / one[2] for one in rounds[1:])
            processor = median(one[1] / one[3] for one in rounds[1:])
            print(
                f"| {arguments.files} files, {what} | {a:.3g} s | {b:.3g} s | {ratio:.2f} | {a_processor:.3g} s | "
                f"{b_processor:.3g} s | {processor:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
