"""Paired resampling against hotcoco in the same run: ``python benchmarks/resampling.py``.

Prints a Markdown table of medians and ratios (ours / theirs): 1,000 resamples of AP50 and all eight deltas of two
runs, against the 100 resamples of COCO's 12 numbers that hotcoco's ``compare`` does. Both start from matched
predictions: hotcoco from ``evaluate()``, ours from ``Analysis.of()``. The workload is generated from a seed: 5,000
images, 80 categories, two detectors with about 200,000 detections each.
"""

import argparse
import contextlib
import io
import sys
import tempfile
from functools import partial
from pathlib import Path

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from analysis import Settings, read_detections, read_ground_truth  # noqa: E402
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene  # noqa: E402
from analysis.evaluation.analysis import Analysis  # noqa: E402
from analysis.evaluation.average_precision import COCO_IOUS  # noqa: E402
from analysis.stats.bootstrap import resample  # noqa: E402
from benchmarks.breakdown import in_turn  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--resamples", type=int, default=1000, help="ours; hotcoco does a tenth")
    arguments = parser.parse_args()
    from hotcoco import COCO, COCOeval, compare

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = simulate_scene(arguments.images, 80, seed=0)
        truth = folder / "gt.json"
        truth.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
        files = [folder / "a.json", folder / "b.json"]
        for file, flaws in zip(files, (Flaws(), Flaws(box_noise=0.09)), strict=True):
            file.write_bytes(msgspec.json.encode(simulate_detector(scene, flaws, seed=1)))
        gt = read_ground_truth(truth)
        analysis = Analysis(gt, Settings(), ious=COCO_IOUS)
        runs = [analysis.of(file.name, read_detections(file, gt)) for file in files]
        with contextlib.redirect_stdout(io.StringIO()):
            theirs = COCO(str(truth))
            evaluations = [COCOeval(theirs, theirs.loadRes(str(file)), "bbox") for file in files]
            for evaluation in evaluations:
                evaluation.evaluate()
        peer = partial(compare, *evaluations, n_bootstrap=arguments.resamples // 10)
        print(f"{arguments.images:,} images, {sum(len(one.detections) for one in runs):,} detections of two runs")
        print("| work | ours | hotcoco | ratio |\n|---|---:|---:|---:|")
        for title, mean_ap in (("AP50 and eight deltas", False), ("AP, AP50 and eight deltas", True)):
            ours = partial(resample, gt, runs, resamples=arguments.resamples, mean_ap=mean_ap)
            a, b, ratio = in_turn(ours, peer, arguments.runs)
            times = f"{arguments.resamples:,} against {arguments.resamples // 10:,} resamples"
            print(f"| {title}, {times} | {a:.3g} s | {b:.3g} s | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
