"""`benchmarks/gpu.py`: its stages on a CPU, with toy sizes, and what it says of time and of what is missing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu
from benchmarks.gpu_results import show

QUICK = "machine,attention,steps,inference,levers,backbone"


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rehearsal.jsonl").read_text().splitlines()]


def rehearse(folder: Path, stages: str) -> list[dict[str, Any]]:
    """All results, none of which may be a failure; each stage has one at least."""
    assert gpu.main(["--tiny", "--minutes", "30", "--out", str(folder), "--stages", stages]) == 0
    found = lines(folder)
    assert not [line for line in found if "failed" in line]
    assert {line["stage"] for line in found} == set(stages.split(","))
    missing = {line["stage"] for line in found if "missing" in line}
    assert missing <= {"backbone"}, "detectron2 may be missing, and nothing else"
    return found


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In this process, where everything is imported already."""

    def at_once(seconds: int, process: Any, stage: str, lines: Path) -> None:
        gpu.carry_out(*process._args)

    threads = torch.get_num_threads()
    monkeypatch.setattr(gpu.os, "setsid", lambda: None)
    monkeypatch.setattr(gpu, "_within", at_once)
    yield
    torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch looks at it itself while it compiles
@pytest.mark.usefixtures("quickly")
def test_stages_are_rehearsed_on_a_cpu(tmp_path: Path) -> None:
    found = rehearse(tmp_path, QUICK)
    rows = {(line["stage"], line["row"]): line for line in found}
    assert all(line["finite"] for line in found if line["stage"] == "attention")
    errors = [
        float(error)
        for line in found
        if line["stage"] == "attention"
        for error in (line["relative_errors"] | line.get("fused_table_errors", {})).values()
    ]
    assert 0 < max(errors) < 1e-5
    step = rows["steps", "ViT-B hybrid"]
    assert step["images"] == 2
    assert step["ms"] > 0
    assert "utilisation" not in step, "the peak of a CPU is not known"
    levers = {name: line["loss"] for (stage, name), line in rows.items() if stage == "levers"}
    for name in levers.keys() - {"the host waits often"}:  # which draws other anchors
        assert levers[name] == pytest.approx(levers["as it is"], rel=1e-2), name
    assert {"channels_last after the backbone", "tables by a kernel of their own", "all options"} < levers.keys()
    assert rows["inference", "vit-b-coco"]["detections"] > 0
    table = (tmp_path / "rehearsal.md").read_text()
    assert "## steps" in table
    assert (tmp_path / "rehearsal.png").stat().st_size > 1000


@pytest.mark.campaign
@pytest.mark.filterwarnings("default")  # processes that are forked would inherit that warnings are errors
def test_every_stage_is_rehearsed_by_the_command_itself(tmp_path: Path) -> None:
    """Each in a process of its own; training is stopped by SIGTERM and continued."""
    found = {line["stage"]: line for line in rehearse(tmp_path, ",".join(gpu.NAMES))}
    for stage in ("training", "fp16"):
        assert found[stage]["state"] == "finished"
        assert found[stage]["ended"][-1][0] == 0
    assert found["processes"]["ended"] == [[0], [0, 0]]
    assert float(found["processes"]["largest_difference"]) < 1e-5
    assert found["tests"]["exit_code"] == 0
    assert found["memory"]["forecast_gib"] > 0


def test_no_stage_is_begun_that_cannot_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begun: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(gpu, "_within", lambda seconds, process, stage, lines: begun.append(stage))
    gpu.main(["--minutes", "1.6", "--out", str(tmp_path), "--stages", "machine,attention,steps,loading"])
    assert begun == ["machine", "attention", "loading"], "96 seconds, 10 of them for tables"
    assert "not begun, for want of time: steps (130 s)" in capsys.readouterr().out


def test_what_takes_too_long_is_ended_and_its_results_count(tmp_path: Path) -> None:
    import multiprocessing

    process = multiprocessing.get_context("fork").Process(target=_waits_for_ever, args=(tmp_path / "begun",))
    gpu._within(1, process, "steps", tmp_path / "rehearsal.jsonl")
    assert process.exitcode == -9
    (line,) = lines(tmp_path)
    assert line["failed"] == "ended after 1 s, what it measured before counts"


def _waits_for_ever(begun: Path) -> None:
    import os
    import time

    os.setsid()
    begun.touch()
    time.sleep(100)


def test_what_is_missing_is_told_and_the_command_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {"tiny": True, "out": tmp_path / "rehearsal.jsonl", "until": 1e9, "coco": None, "work": tmp_path}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gpu.os, "setsid", lambda: None)
        gpu.carry_out(gpu.Stage("steps", 10, "benchmarks.no_such_module"), options)
    (line,) = lines(tmp_path)
    assert line["missing"] == "benchmarks.no_such_module (pip install it)"
    show(tmp_path / "rehearsal.jsonl")
    assert "## steps" in (tmp_path / "rehearsal.md").read_text()
    assert "failed" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--stages", "steps,stepz"], "no stage stepz; there are machine, steps"),
        (["--minutes", "0"], "--minutes must be more than 0"),
        (["--tiny", "--coco", "nowhere"], "--coco nowhere: no such folder"),
        ([], "no CUDA device is visible to PyTorch; --tiny rehearses on the CPU"),
    ],
)
def test_what_cannot_be_done_is_refused(
    words: list[str], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        gpu.main(["--out", str(tmp_path), *words])
    assert ended.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
