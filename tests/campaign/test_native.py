"""The compiled core under AddressSanitizer and UBSan, fed with millions of damaged bytes."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "analysis" / "native"
MINUTES = 2.0
FUZZER = """
    import random, struct, sys, time
    from contextlib import suppress
    sys.path[:0] = [sys.argv[1], sys.argv[2]]
    import _core
    import numpy as np
    from analysis.native import powers_of_five

    _core.take_powers(powers_of_five())
    rng = random.Random(int(sys.argv[3]))
    RECORD = (b'{"image_id": 1, "category_id": -2, "score": 0.98765432101234567, "bbox": [1, 2.5e0, 3, 4], "id": 7, '
              b'"area": 12, "iscrowd": 0, "ignore": false, "x": [{}, ""], '
              b'"segmentation": {"size": [4, 6], "counts": "52203"}}')
    BYTES = b'[]{}",:0123456789.eE+-\\\\ntf \\n\\x00\\xff'

    def damaged(text):
        text = bytearray(text)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(text) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                del text[at:]
            elif kind == 1:
                text[at:at] = bytes(rng.choices(BYTES, k=rng.randrange(1, 9)))
            elif kind == 2:
                del text[at : at + rng.randrange(1, 20)]
            elif at < len(text):
                text[at] = rng.randrange(256)
        return bytes(text)

    def spans(parts):
        ends = np.cumsum([0, *map(len, parts)])
        return b"".join(parts), np.column_stack([ends[:-1], ends[1:]]).astype(np.int64)

    until, done, paired = time.monotonic() + float(sys.argv[4]), 0, 0
    while time.monotonic() < until:
        text = b"[" + b",".join([damaged(RECORD) for _ in range(rng.randrange(1, 4))]) + b"]"
        columns, before = tuple(bytearray() for _ in range(9)), 0
        for _ in range(3):  # the next part is appended where the one before could be read
            with suppress(ValueError):
                found = _core.read_records(damaged(text), rng.randrange(3), columns, before)
                before = rng.choice([before + (found[0] if found else 0), rng.randrange(-1, 9)])
        _core.split_object(damaged(b'{"images": [], "annotations": ' + text + b"}"))
        _core.parse_number(damaged(str(rng.uniform(-1e3, 1e3)).encode() + b"e%d" % rng.randrange(-400, 400)))
        codes = [bytes(rng.choices(range(40, 115), k=8)) for _ in range(3)]
        _core.decode_masks(*spans([damaged(b'{"size": [4, 6], "counts": "' + code + b'"}') for code in codes]), None)
        counts = [bytes(rng.choices(range(45, 113), k=rng.randrange(12))) for _ in range(rng.choice([0, 4]))]
        counts += [b"5c0", b"0h0", b"h0"]
        sides = [4, 6, 2**31, 2**33, 0, -1, 65536]
        sizes = np.array([rng.choices(sides, k=2) if rng.random() < 0.3 else [4, 6] for _ in counts])
        content, places = spans(counts)
        masks = _core.decode_masks(content, places, sizes)
        state = np.frombuffer(masks[5], np.uint8)
        if (state == 3).all():
            rows, starts, parts = np.arange(len(counts)), np.array([0, len(counts)]), tuple(masks[:5])
            _core.pair_masks(1, starts, starts, rows, rows, parts, parts, np.zeros(len(counts), bool))
            paired += 1
        boxes = np.array([[struct.unpack("d", rng.randbytes(8))[0] for _ in range(4)] for _ in range(5)])
        _core.order_descending(boxes.ravel())
        ends, boxed = (np.array([0, 2, 5]), np.array([0, 4, 5])), np.array(rng.choices(range(-1, 6), k=10))
        with suppress(ValueError):
            _core.order_by_index(boxed, rng.choice([0, 5, 6, 1 << 16, 1 << 40]))
        boxed = boxed if rng.random() < 0.1 else boxed.clip(0, 4)
        with suppress(ValueError):
            _core.pair_boxes(2, *ends, boxed[:5], boxed[5:], boxes, boxes[::-1].copy(), np.zeros(5, bool))
        count = rng.randrange(6)
        rows = range(-1, 4) if rng.random() < 0.1 else range(3)
        pairs = [np.array(rng.choices(rows, k=count), int) for _ in range(2)]
        iou, flags = np.array([rng.random() for _ in range(count)]), np.array([rng.random() < 0.5 for _ in range(3)])
        used = np.array([rng.random() < 0.5 for _ in range(count)], bool)
        place, steps = np.arange(3), np.array([[rng.randrange(0, 9) or 1 for _ in range(4)] for _ in range(2)])
        if rng.random() < 0.9:
            steps.sort()
        lanes = np.repeat(np.arange(count + 1, dtype=np.int32)[:, None], 4, axis=1)
        parts = [tuple(np.array(rng.choices(rows, k=size), np.int32) for _ in range(2)) for size in (count, 2)]
        recalls = np.linspace(0, 1, 101)
        for call in (
            lambda: _core.running_weights(lanes[:3], pairs[0].astype(np.int32)),
            lambda: _core.weigh_peaks(
                lanes[:3], lanes, np.sort(pairs[0]).astype(np.int32),
                np.array([0, count // 2, count]), np.array(rng.choices(rows, k=2)), np.array([1.0, 0.0]),
                np.array([[0, 1], [rng.randrange(-1, 3), 3]]),
                (np.arange(12), np.arange(12) % 5), *parts, recalls, recalls, 0.0
            ),
            lambda: _core.group_weights(place.astype(np.int32), pairs[0].astype(np.int32), np.array([0, 1, count])),
            lambda: _core.hit_aps_without(pairs[0] + 1, np.array([0, count // 2, count]), steps),
            lambda: _core.hit_aps_with_one(
                pairs[0] + 1, np.array([0, count // 2, count]), steps, pairs[1] % 2, pairs[1] + 1, rng.randrange(2)
            ),
            lambda: _core.hit_aps_moved(
                pairs[0] + 1, np.array([0, count // 2, count]), steps, 1e-16, place % 2, pairs[1],
                np.array([0, 0, count // 2, count]), rng.random() < 0.5
            ),
            lambda: _core.match_pairs(3, 3, *pairs, used, flags),
            lambda: _core.best_objects(3, 3, *pairs, iou, used),
            lambda: _core.match_coco(3, 3, np.sort(pairs[0]), pairs[1], iou, 0.5, flags, flags, flags),
            lambda: _core.interpolate(2, np.array([0, 1, 3]), rng.choice([place, pairs[0]]), flags, ~flags, steps,
                                      1e-16),
            lambda: _core.interpolate_hits(2, np.array([0, count // 2, count]), pairs[0], steps, 1e-16),
        ):
            with suppress(ValueError):
                call()
        done += 1
    print(done)
    assert paired
"""


@pytest.mark.campaign
def test_damaged_bytes_under_sanitizers(tmp_path: Path) -> None:
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("no gcc here")
    library = tmp_path / "_core.so"
    flags = ["-O1", "-g", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-fsanitize=address,undefined"]
    sources = [str(path) for path in sorted(SOURCES.glob("*.c"))]
    include = f"-I{sysconfig.get_paths()['include']}"
    subprocess.run(
        [compiler, *flags, "-fno-sanitize-recover=all", "-ffp-contract=off", include, *sources, "-o", str(library)],
        check=True,
    )
    asan = subprocess.run([compiler, "-print-file-name=libasan.so"], check=True, capture_output=True, text=True).stdout
    script = tmp_path / "fuzz.py"
    script.write_text("\n".join(line.removeprefix("    ") for line in FUZZER.splitlines()))
    for seed in range(2):
        done = subprocess.run(
            [sys.executable, str(script), str(tmp_path), str(ROOT), str(seed), str(MINUTES * 30)],
            env={**os.environ, "LD_PRELOAD": asan.strip(), "ASAN_OPTIONS": "detect_leaks=0", "DETABLATE_NATIVE": "0"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        assert int(done.stdout) > 1000
