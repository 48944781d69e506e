"""LVIS-sized evaluation against hotcoco in the same run, and the operating point: ``python benchmarks/lvis.py``.

Prints a Markdown table of seconds and peak memory, and ratios (ours / theirs). The workload is generated from a seed:
20,000 images, 1,203 categories, 300 detections an image (6 million in all; ``--images`` makes it smaller), under LVIS's
rules. The operating point is that of 200,000 detections on 80 categories, against the breakdown of the same.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.breakdown import generate, in_turn, peak_megabytes, process  # noqa: E402

CATEGORIES, EACH, OBJECTS, CHECKED = 1203, 300, 12, 20  # an image: detections, objects, categories looked for

OURS = """
from analysis import Analysis, Settings, read_detections, read_ground_truth
gt = read_ground_truth({truth!r})
Analysis(gt, Settings.on(gt), metrics=True).of("run", read_detections({predictions!r}, gt))
"""
HOTCOCO = """
from hotcoco import COCO, COCOeval
gt = COCO({truth!r})
evaluation = COCOeval(gt, gt.loadRes({predictions!r}), "bbox", lvis_style=True)
evaluation.run()
evaluation.tide_errors()
"""
BREAKDOWN = """
from analysis import break_down, read_detections, read_ground_truth
gt = read_ground_truth({truth!r})
break_down(gt, read_detections({predictions!r}, gt))
"""
OPERATING_POINT = """
from analysis import operating_points, read_detections, read_ground_truth
gt = read_ground_truth({truth!r})
operating_points(gt, [("run", read_detections({predictions!r}, gt))], resamples={resamples})
"""


def generate_lvis(folder: Path, images: int) -> tuple[Path, Path]:
    """Ground truth and detections, most of them of categories that were looked for."""
    rng = np.random.default_rng(0)
    truth, predictions = folder / "lvis.json", folder / "detections.json"
    records, annotations, listed = [], [], []
    for image in range(1, images + 1):
        looked_for = rng.choice(CATEGORIES, CHECKED, replace=False) + 1
        own = looked_for[rng.integers(0, CHECKED // 2, OBJECTS)]
        boxes = np.column_stack([rng.uniform(0, 500, (OBJECTS, 2)), rng.uniform(10, 140, (OBJECTS, 2))]).round(2)
        absent = sorted(set(looked_for.tolist()) - set(own.tolist()))
        records.append(
            {"id": image, "width": 640, "height": 640, "neg_category_ids": absent, "not_exhaustive_category_ids": []}
        )
        annotations += [
            {"id": len(annotations) + n + 1, "image_id": image, "category_id": c, "bbox": b, "area": b[2] * b[3]}
            for n, (c, b) in enumerate(zip(own.tolist(), boxes.tolist(), strict=True))
        ]
        near = rng.integers(0, OBJECTS, EACH)
        shifted = (boxes[near] + rng.normal(0, 12, (EACH, 4))).clip(1).round(2)
        right = rng.random(EACH) < 0.3
        category = np.where(right, own[near], looked_for[rng.integers(0, CHECKED, EACH)])
        score = np.where(right, rng.beta(4, 2, EACH), rng.beta(1, 8, EACH)).round(5)
        listed += [
            {"image_id": image, "category_id": c, "bbox": b, "score": s}
            for c, b, s in zip(category.tolist(), shifted.tolist(), score.tolist(), strict=True)
        ]
    categories = [{"id": c, "name": f"category {c}", "frequency": "rcf"[c % 3]} for c in range(1, CATEGORIES + 1)]
    document = {"images": records, "categories": categories, "annotations": annotations}
    truth.write_bytes(msgspec.json.encode(document))
    predictions.write_bytes(msgspec.json.encode(listed))
    return truth, predictions


def command(script: str, files: tuple[Path, Path], **values: object) -> list[str]:
    """A script as a process of its own."""
    text = script.format(truth=str(files[0]), predictions=str(files[1]), **values)
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--resamples", type=int, default=1000, help="of the operating point's intervals")
    arguments = parser.parse_args()
    print("| work | ours | theirs | ratio |\n|---|---:|---:|---:|")

    def row(work: str, a: float, b: float, ratio: float, unit: str = "s") -> None:
        print(f"| {work} | {a:.3g} {unit} | {b:.3g} {unit} | {ratio:.2f} |", flush=True)

    with tempfile.TemporaryDirectory() as name:
        files = generate_lvis(Path(name), arguments.images)
        work = f"{arguments.images:,} LVIS images: AP and breakdown, whole process, hotcoco"
        mine, peer = command(OURS, files), command(HOTCOCO, files)
        row(work, *in_turn(process(mine), process(peer), arguments.runs))
        a, b = peak_megabytes(mine), peak_megabytes(peer)
        row("the same, peak memory", a, b, a / b, "MB")
        coco = generate(Path(name), 5000)
        broken_down = process(command(BREAKDOWN, coco))
        for resamples in (0, arguments.resamples):
            point = process(command(OPERATING_POINT, coco, resamples=resamples))
            work = f"operating point, {resamples:,} resamples, against the breakdown, both ours"
            row(work, *in_turn(point, broken_down, arguments.runs))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as failed:
        sys.exit(f"a measured process failed: {failed}")
