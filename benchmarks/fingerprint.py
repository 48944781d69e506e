"""What looking at all images of a data set costs: ``python benchmarks/fingerprint.py [--files 118287]``.

Prints a Markdown table. Two sets are written into a temporary folder and looked at (`ablate.data.fingerprint`: every
file hashed, every header read): very many small files, where the cost a file counts, and larger ones, where reading
counts. Against plain reading of the same files in the same run, one after another and by as many threads; before each
reading their pages are dropped from memory, as far as the system does it when it is asked to. Then the second look,
which finds everything in the cache, and the check of headers and sizes against annotations.
"""

import argparse
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from ablate.config.schema import Coco  # noqa: E402
from ablate.data.fingerprint import NEW, THREADS, look, read_data_set  # noqa: E402
from ablate.runs.folder import Workspace  # noqa: E402

SMALL, LARGE = (48, 32), (640, 480)  # width, height in pixels


def write_files(folder: Path, count: int, size: tuple[int, int]) -> list[str]:
    """JPEG files that differ in their last bytes, which decoders skip."""
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=80)
    names = [f"{number:012d}.jpg" for number in range(count)]
    for name in names:
        (folder / name).write_bytes(buffer.getvalue() + name.encode())
    return names


def forget(folder: Path, names: Sequence[str]) -> None:
    """Drop the pages of files from memory."""
    os.sync()
    for name in names:
        descriptor = os.open(folder / name, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)


def seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def read_in_turn(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        with (folder / name).open("rb", buffering=0) as file:
            file.read()


def read_by_threads(folder: Path, names: Sequence[str]) -> None:
    parts = [names[start::THREADS] for start in range(THREADS)]
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda part: read_in_turn(folder, part), parts))


def annotations(path: Path, names: Sequence[str], size: tuple[int, int]) -> Path:
    document = {
        "images": [
            {"id": number, "file_name": name, "width": size[0], "height": size[1]}
            for number, name in enumerate(names, start=1)
        ],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}],
        "categories": [{"id": 1, "name": "thing"}],
    }
    path.write_text(json.dumps(document))
    return path


def measured(root: Path, count: int, size: tuple[int, int]) -> str:
    """A row of the table."""
    root.mkdir()
    folder, workspace = root / "images", Workspace(root)
    names = write_files(folder, count, size)
    truth = annotations(root / "gt.json", names, size)
    source = Coco(annotations=str(truth), images=str(folder))
    time.sleep(NEW / 1e9)  # younger files are not kept in the cache
    times = []
    for act in (read_in_turn, read_by_threads, partial(look, workspace=workspace)):
        forget(folder, names)
        times.append(seconds(partial(act, folder, names)))
    times.append(seconds(partial(look, folder, names, workspace)))
    times.append(seconds(partial(read_data_set, source, workspace)))
    in_turn, threads, first, second, checked = times
    megabytes = sum((folder / name).stat().st_size for name in names) / 1e6
    cells = (
        f"{in_turn:.1f} s | {threads:.1f} s | {first:.1f} s | {in_turn / first:.2f} | {second:.1f} s | {checked:.1f} s"
    )
    return f"| {count:,} | {megabytes:,.0f} | {cells} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=118_287, help="small ones")
    parser.add_argument("--large", type=int, default=6_000, help="larger ones")
    arguments = parser.parse_args()
    print(f"{THREADS} threads on {os.cpu_count()} cores")
    print("| files | MB | read in turn | by threads | first look | of the speed in turn | second look | checked |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as name:
        for count, size in ((arguments.files, SMALL), (arguments.large, LARGE)):
            print(measured(Path(name) / str(count), count, size), flush=True)


if __name__ == "__main__":
    main()
