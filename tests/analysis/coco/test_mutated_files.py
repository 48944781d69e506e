"""Thousands of damaged files: each is analysed, or refused in one sentence; nothing else ever happens."""

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from analysis import BadInput, break_down, coco_metrics, read_detections, read_ground_truth
from tests.analysis.mutations import KINDS, documents, mutate
from tests.campaign.peak import with_peak

MOST_MEMORY = 1 << 30  # bytes


def outcome(truth: Path, results: Path, rng: random.Random) -> str:
    """What an analysis of two files ends in; anything but numbers or a refusal raises."""
    done = []
    try:
        ignore, unknown, invalid = rng.random() < 0.2, rng.random() < 0.3, rng.random() < 0.3
        gt = read_ground_truth(truth, respect_ignore=ignore, drop_invalid=invalid, iou_type="segm")
        assert len(gt.digest) == 64
        dt = read_detections(results, gt, drop_unknown=unknown, drop_invalid=invalid, iou_type="segm")
        for iou_type in ("bbox", "segm"):
            for convention in ("coco", "tidecv"):
                result = break_down(gt, dt, convention=convention, iou_type=iou_type)
                assert 0 <= result.ap <= 100 + 1e-9
                assert all(abs(delta) <= 100 + 1e-9 for delta in result.delta_ap.values())
            assert all(-1 <= value <= 100 + 1e-9 for value in coco_metrics(gt, dt, iou_type=iou_type).values())
            done.append(iou_type)
    except BadInput as refusal:
        sentence = str(refusal)
        assert "\n" not in sentence
        assert sentence.startswith((f"{truth}: ", f"{results}: "))
        assert len(sentence) < 1000
    return " and ".join(done) or "refused"


def storm(folder: Path, kind: str, seeds: range) -> Counter[str]:
    """Analyse pairs of files of which one or both are damaged."""
    truth, results = folder / "gt.json", folder / "dt.json"
    sound = documents(kind)
    seen: Counter[str] = Counter()
    for seed in seeds:
        rng = random.Random(f"{kind} {seed}")
        which = rng.choice([(True, False), (False, True), (True, True)])
        for path, document, damaged in zip((truth, results), sound, which, strict=True):
            content = mutate(document, rng) if damaged else json.dumps(document).encode()
            if damaged and rng.random() < 0.05:
                content = gzip.compress(content)[: rng.choice([10**6, 30])]
            path.write_bytes(content)
        try:
            seen[outcome(truth, results, rng)] += 1
        except Exception as error:
            error.add_note(f"{kind}, seed {seed}, files {truth} and {results}")
            raise
    return seen


@pytest.mark.parametrize("kind", KINDS)
def test_the_sound_files_are_analysed(kind: str, tmp_path: Path) -> None:
    truth, results = tmp_path / "gt.json", tmp_path / "dt.json"
    for path, document in zip((truth, results), documents(kind), strict=True):
        path.write_text(json.dumps(document))
    gt = read_ground_truth(truth)
    dt = read_detections(results, gt)
    assert len(gt.warnings) == int(kind == "only-masks")
    assert dt.warnings == ()
    assert break_down(gt, dt).true_positives == 2
    if kind != "boxes":
        assert break_down(gt, dt, iou_type="segm").raw == break_down(gt, dt).raw


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample(kind: str, tmp_path: Path) -> None:
    seen = storm(tmp_path, kind, range(100))
    assert 5 < seen["refused"] < 99, seen
    if kind != "boxes":
        assert seen["bbox and segm"] > 5, seen


@pytest.mark.campaign
@pytest.mark.parametrize("kind", KINDS)
def test_many(kind: str, tmp_path: Path) -> None:
    seen, peak = with_peak(storm, tmp_path, kind, range(1000, 3000))
    print(f"{kind}: {dict(seen)}, peak {peak >> 20} MiB")  # the campaign's outcome, with -s
    assert peak < MOST_MEMORY
