"""Reading and breaking down, against hotcoco and tidecv in the same run: ``python benchmarks/breakdown.py``.

Prints a Markdown table of medians and ratios (ours / theirs). The workload is generated from a seed: 5,000 images,
80 categories, about 37,000 objects and 200,000 detections; ``--voc`` and ``--masks`` add real data where it is there.
``--ultrafast PYTHON`` names an interpreter that has ultrafast-pycocotools.
``--large`` adds 100 times the images, which takes minutes and 3 GB of disk.
"""

import argparse
import subprocess
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

from analysis import Settings, break_down, read_detections, read_ground_truth  # noqa: E402
from analysis.coco.synthetic import Flaws, ground_truth_document, simulate_detector, simulate_scene  # noqa: E402


def ours(truth: Path, predictions: Path, kind: str) -> None:
    gt = read_ground_truth(truth)
    break_down(gt, read_detections(predictions, gt), iou_type=kind)


def hotcoco(truth: Path, predictions: Path, kind: str) -> None:
    from hotcoco import COCO, COCOeval

    gt = COCO(str(truth))
    evaluation = COCOeval(gt, gt.loadRes(str(predictions)), kind)
    evaluation.evaluate()
    evaluation.tide_errors()


def tidecv(truth: Path, predictions: Path, kind: str) -> None:
    from analysis.evaluation.verify import tidecv_breakdown, tidecv_evaluated

    gt = read_ground_truth(truth)
    tidecv_breakdown(tidecv_evaluated(gt, read_detections(predictions, gt), Settings(kind)))


TIMED = """
import contextlib, io, sys, time
sys.path[:0] = {path!r}
{imports}
def work():
    with contextlib.redirect_stdout(io.StringIO()):
        {work}
work()
start = time.perf_counter()
work()
print(time.perf_counter() - start)
"""
OUR_NUMBERS = (
    "from analysis import coco_metrics, read_detections, read_ground_truth",
    "gt = read_ground_truth({truth!r}); coco_metrics(gt, read_detections({predictions!r}, gt), iou_type={kind!r})",
)
THEIR_NUMBERS = (
    "from {package} import COCO, COCOeval",
    "gt = COCO({truth!r}); e = COCOeval(gt, gt.loadRes({predictions!r}), {kind!r}); e.evaluate(); e.accumulate(); "
    "e.summarize()",
)
ULTRAFAST = (
    "from ultrafast_pycocotools.coco import COCO; from ultrafast_pycocotools.cocoeval import COCOeval",
    THEIR_NUMBERS[1],
)


def numbers(python: str, script: tuple[str, str], path: list[str], **values: str) -> float:
    """Seconds of reading and COCO's 12 numbers in a process of its own, after a warm-up."""
    code = TIMED.format(path=path, imports=script[0].format(**values), work=script[1].format(**values))
    done = subprocess.run([python, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def numbers_in_turn(peer: str, script: tuple[str, str], runs: int, **values: str) -> tuple[float, float, float]:
    """Median seconds of both, and the median of the ratios pair by pair."""
    pairs = [
        (numbers(sys.executable, OUR_NUMBERS, [str(ROOT)], **values), numbers(peer, script, [], **values))
        for _ in range(runs)
    ]
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(a / b for a, b in pairs)


def in_turn(ours: Callable[[], None], theirs: Callable[[], None], runs: int) -> tuple[float, float, float]:
    """Median seconds of both, run in turn A B A B ... after a warm-up, and the median of the ratios pair by pair."""
    pairs = []
    for number in range(runs + 1):
        times = []
        for work in (ours, theirs):
            start = time.perf_counter()
            work()
            times.append(time.perf_counter() - start)
        if number:
            pairs.append(times)
    return median(a for a, _ in pairs), median(b for _, b in pairs), median(a / b for a, b in pairs)


def process(command: list[str]) -> Callable[[], None]:
    """A whole command as a child process."""
    return lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # type: ignore[return-value]


def peak_megabytes(command: list[str]) -> float:
    """Peak resident memory of a command's process."""
    script = (
        "import resource, subprocess, sys; subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, "
        "stderr=subprocess.DEVNULL); print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024)"
    )
    done = subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True, text=True)
    return float(done.stdout)


def generate(folder: Path, images: int) -> tuple[Path, Path]:
    scene = simulate_scene(images, 80, seed=0)
    truth, predictions = folder / f"gt{images}.json", folder / f"dt{images}.json"
    truth.write_bytes(msgspec.json.encode(ground_truth_document(scene)))
    predictions.write_bytes(msgspec.json.encode(simulate_detector(scene, Flaws(), seed=1)))
    return truth, predictions


def repeated(files: tuple[Path, Path], times: int) -> tuple[Path, Path]:
    """The same images so many times, under new ids."""
    truth, predictions = (msgspec.json.decode(path.read_bytes()) for path in files)
    images, objects = (1 + max(one["id"] for one in truth[key]) for key in ("images", "annotations"))
    made = files[0].with_name("repeated_gt.json"), files[1].with_name("repeated_dt.json")
    encode = msgspec.json.encode
    with made[1].open("wb") as file:
        for number in range(times):
            moved = [one | {"image_id": one["image_id"] + number * images} for one in predictions]
            file.write(b"," + encode(moved)[1:-1] if number else encode(moved)[:-1])
        file.write(b"]")
    del predictions, moved
    document = truth | {
        "images": [one | {"id": one["id"] + n * images} for n in range(times) for one in truth["images"]],
        "annotations": [
            one | {"id": one["id"] + n * objects, "image_id": one["image_id"] + n * images}
            for n in range(times)
            for one in truth["annotations"]
        ],
    }
    made[0].write_bytes(encode(document))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--tidecv", action="store_true", help="also tidecv (slow)")
    parser.add_argument("--voc", type=Path, nargs=2, metavar=("GT", "PREDICTIONS"))
    parser.add_argument("--masks", type=Path, nargs=2, metavar=("GT", "PREDICTIONS"))
    parser.add_argument("--ultrafast", metavar="PYTHON", help="an interpreter that has ultrafast-pycocotools")
    parser.add_argument("--large", action="store_true", help="also 500,000 images with 20 million detections")
    arguments = parser.parse_args()
    print("| work | ours | theirs | ratio |\n|---|---:|---:|---:|")

    def row(work: str, a: float, b: float, ratio: float, unit: str = "s") -> None:
        print(f"| {work} | {a:.3g} {unit} | {b:.3g} {unit} | {ratio:.2f} |", flush=True)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        truth, predictions = files = generate(folder, 5000)
        cases = [("5,000 images, boxes", truth, predictions, "bbox")]
        if arguments.voc:
            cases.append(("VOC2007, boxes", *(_unpacked(path, folder) for path in arguments.voc), "bbox"))
        if arguments.masks:
            cases.append(("masks", *(_unpacked(path, folder) for path in arguments.masks), "segm"))
        for title, gt, dt, kind in cases:
            a, b, ratio = in_turn(partial(ours, gt, dt, kind), partial(hotcoco, gt, dt, kind), arguments.runs)
            row(f"{title}: reading + breakdown in one process, hotcoco", a, b, ratio)
            values = {"truth": str(gt), "predictions": str(dt), "kind": kind, "package": "hotcoco"}
            a, b, ratio = numbers_in_turn(sys.executable, THEIR_NUMBERS, arguments.runs, **values)
            row(f"{title}: reading + COCO's 12 numbers, hotcoco", a, b, ratio)
            if arguments.ultrafast:
                a, b, ratio = numbers_in_turn(arguments.ultrafast, ULTRAFAST, arguments.runs, **values)
                row(f"{title}: the same, ultrafast-pycocotools", a, b, ratio)
        coco = str(Path(sys.executable).parent / "coco")
        for title, gt, dt, kind in cases:
            options = ["--gt", str(gt), "--iou-type", kind]
            command = [sys.executable, str(ROOT / "cli.py"), "analyze", "errors", str(dt), *options]
            peer = [coco, "eval", "--dt", str(dt), "--tide", *options]
            a, b, ratio = in_turn(process(command), process(peer), arguments.runs)
            row(f"{title}: whole command, `coco eval --tide`", a, b, ratio)
            a, b = peak_megabytes(command), peak_megabytes(peer)
            row(f"{title}: peak memory of it", a, b, a / b, "MB")
        command = [sys.executable, str(ROOT / "cli.py"), "analyze", "errors", str(predictions), "--gt", str(truth)]
        if arguments.tidecv:
            a, b, ratio = in_turn(partial(ours, *files, "bbox"), partial(tidecv, *files, "bbox"), 1)
            row("reading + breakdown in one process, tidecv", a, b, ratio)
        ten = generate(folder, 50_000)
        work = [sys.executable, str(ROOT / "cli.py"), "analyze", "errors", str(ten[1]), "--gt", str(ten[0])]
        a, b, ratio = in_turn(partial(ours, *ten, "bbox"), partial(ours, *files, "bbox"), 2)
        row("ten times the images against one time, both ours", a, b, ratio)
        a, b = peak_megabytes(work), peak_megabytes(command)
        row("the same, peak memory", a, b, a / b, "MB")
        if arguments.large:
            hundred = repeated(ten, 10)
            imports = "from pathlib import Path; from benchmarks.breakdown import ours"
            work = f"ours(Path({str(hundred[0])!r}), Path({str(hundred[1])!r}), 'bbox')"
            start = time.perf_counter()
            peak = peak_megabytes(
                [sys.executable, "-c", f"import sys; sys.path[:0] = [{str(ROOT)!r}]; {imports}; {work}"]
            )
            print(f"| 500,000 images, ours | {time.perf_counter() - start:.3g} s, {peak:,.0f} MB | | |", flush=True)


def _unpacked(path: Path, folder: Path) -> Path:
    """A gzipped file unpacked, so that every tool reads the same bytes."""
    import gzip

    if path.suffix != ".gz":
        return path
    target = folder / path.stem
    target.write_bytes(gzip.decompress(path.read_bytes()))
    return target


if __name__ == "__main__":
    main()
