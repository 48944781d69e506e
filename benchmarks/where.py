"""Many prediction files by class and size, against as many plain breakdowns of hotcoco: ``python benchmarks/where.py``.

Both read the ground truth once. The workload is generated from a seed: 5,000 images, 80 categories, about 37,000
objects, and eight simulated detectors with flaws of their own, about 200,000 detections each. Prints a Markdown table
of medians and of the ratios (ours / theirs) round by round.
"""

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis import Settings, read_detections, read_ground_truth  # noqa: E402
from analysis.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene  # noqa: E402
from analysis.where import PARTS, Analysis  # noqa: E402
from benchmarks.breakdown import in_turn  # noqa: E402


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--files", type=int, default=8, choices=range(1, 10))
    parser.add_argument("--images", type=int, default=5000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        files = generate(Path(name), arguments.images, arguments.files)
        print("| work | ours | hotcoco, plain breakdowns | ratio |\n|---|---:|---:|---:|")
        for what, parts in (
            ("nothing but the breakdown", ()),
            ("by class and size", ("class", "size")),
            ("by class, size, crowding, confusion and ten thresholds", PARTS),
        ):
            a, b, ratio = in_turn(partial(ours, *files, parts), partial(hotcoco, *files), arguments.runs)
            print(f"| {arguments.files} files, {what} | {a:.3g} s | {b:.3g} s | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
