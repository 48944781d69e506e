"""The forecast of memory against CUDA's own autocast, torch's memory tracker, and what a CPU really keeps."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ablate.config.schema import Model
from ablate.config.yaml import load_config
from ablate.detector import memory_forecast as forecast
from ablate.detector.mask_rcnn import build_detector
from ablate.detector.memory import MemoryForecast, largest_fitting
from ablate.runs.folder import Workspace
from ablate.train.memory import GIB, SavedForBackward

ATTENTION = "model.backbone.attention"
SMALL = [
    "model.backbone.width=96",
    "model.backbone.heads=3",
    "model.backbone.depth=4",
    f"{ATTENTION}.global_count=2",
    "model.backbone.image_size=256",
    f"{ATTENTION}.window_size=8",
]
VARIANTS = {  # each differs from the others in what autocast casts
    "hybrid, simple pyramid": ["model.pyramid.type=simple"],
    "global, naive": [f"{ATTENTION}.pattern=global", f"{ATTENTION}.kernel=naive"],
    "no bias": ["model.backbone.position.relative=none", "model.detector.masks=false"],
}
CHECKPOINTED = [f"{ATTENTION}.pattern=global", f"{ATTENTION}.checkpoint=all"]


def model_of(*changes: str, base: str = "vit-b-coco") -> Model:
    return load_config(base, [*SMALL, *changes]).model


@contextmanager
def autocast_of_cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """CUDA's autocast, which torch would switch off where there is no GPU."""
    import torch.cuda.amp.common as common

    monkeypatch.setattr(common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, **__: True)
    with torch.autocast("cuda", torch.bfloat16):
        yield


@pytest.mark.skipif(not torch.backends.cuda.is_built(), reason="this torch knows no CUDA")
@pytest.mark.parametrize("name", VARIANTS)
def test_a_forward_pass_keeps_as_much_as_under_the_autocast_of_cuda(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fake tensors of a GPU can run forward, not backward: what they keep then is counted by torch's own rules."""
    model, kept = model_of(*VARIANTS[name]), {}
    for device in ("cpu", "cuda"):
        with FakeTensorMode():
            with torch.device(device):
                detector = build_detector(model, 80).train()
            casting = (
                autocast_of_cuda(monkeypatch) if device == "cuda" else forecast.autocast("bf16", torch.device("cpu"))
            )
            with forecast._LiveBytes([*detector.parameters(), *detector.buffers()]) as live, torch.device(device):
                with forecast._OnGpu(), casting:
                    loss = forecast._loss(detector, model, 1)
                gc.collect()
                kept[device] = live.bytes
            del loss
    assert kept["cpu"] == pytest.approx(kept["cuda"], rel=0.01)
    assert kept["cpu"] > 10e6


@pytest.mark.parametrize("name", [*VARIANTS, "checkpointed"])
def test_the_peak_is_that_of_torch_s_own_memory_tracker(name: str) -> None:
    from torch.distributed._tools.mem_tracker import MemTracker

    changes = (
        [f"{ATTENTION}.pattern=global", f"{ATTENTION}.checkpoint=all"] if name == "checkpointed" else VARIANTS[name]
    )
    model = model_of(*changes)
    own = forecast._peak_bytes(model, 80, "bf16", 1, shared=False)
    with FakeTensorMode():
        detector = build_detector(model, 80).train()
        for weight in detector.parameters():
            weight.grad = torch.zeros_like(weight)
        gpu = forecast._OnGpu()
        gpu.follow_into_recomputation(detector)
        tracker = MemTracker()
        tracker.track_external(detector)
        with tracker:
            with gpu, forecast.autocast("bf16", torch.device("cpu")):
                loss = forecast._loss(detector, model, 1)
            loss.backward()  # type: ignore[no-untyped-call]
        peak = tracker.get_tracker_snapshot("peak")[torch.device("cpu")]
    state = sum(
        size for kind, size in peak.items() if getattr(kind, "value", kind) in ("Parameter", "Buffer", "Gradient")
    )
    assert own == pytest.approx(peak["Total"] - state, rel=0.02)


def test_in_fp32_the_forward_pass_keeps_what_a_cpu_keeps() -> None:
    """Real tensors, counted by the hooks of autograd, without attention's kernels of a GPU."""
    model = model_of(
        "model.backbone.position.relative=none", f"{ATTENTION}.kernel=naive", "model.detector.rois_per_image=16"
    )
    torch.manual_seed(0)
    detector = build_detector(model, 80).train()
    saved = SavedForBackward(detector, None)
    with saved.counting():
        loss = forecast._loss(detector, model, 1)
        real = saved.bytes
    del loss
    with FakeTensorMode():
        fake = build_detector(model, 80).train()
        with forecast._LiveBytes([*fake.parameters(), *fake.buffers()]) as live:
            loss = forecast._loss(fake, model, 1)
            gc.collect()
            kept = live.bytes
    del loss
    assert kept == pytest.approx(real, rel=0.05)


def test_the_rows_of_the_paper() -> None:
    """ViT-L with global attention by explicit logits, one image: too much for 32 GiB (the paper) and 40, not for 80."""

    attention = [f"{ATTENTION}.pattern=global", f"{ATTENTION}.kernel=naive"]
    naive = forecast.forecast_memory(load_config("vit-l-coco", attention).model, 80, "bf16")
    assert 45 < naive.peak_gib(1) < 50
    assert [naive.images_that_fit(gib) for gib in (32, 40, 80)] == [0, 0, 1]
    logits = 24 * 16 * 4096**2  # blocks, heads, tokens squared; softmax is kept in fp32 and in bf16
    assert naive.further_gib > logits * (4 + 2) / GIB


def test_how_many_images_share_a_statistic() -> None:
    """By hand: the tightest of those that fit at all decides, and every GPU has an equal share."""
    small, large = MemoryForecast(1, 1, 1), MemoryForecast(1, 30, 30)
    usable = 32 * 0.95 - 1  # 29.4 GiB
    assert (small.images_that_fit(32), large.images_that_fit(32)) == (int(usable - 2) + 1, 0)
    assert largest_fitting([(small, 32), (large, 32)], 64, 1) == 16  # of 28 that fit
    assert largest_fitting([(small, 32)], 64, 8) == 64
    assert largest_fitting([(small, 32), (large, 80)], 64, 1) == 2
    assert largest_fitting([(large, 32)], 64, 1) is None
    assert largest_fitting([(small, 4)], 64, 8) == 8  # one on each


def test_forecasts_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace, model = Workspace(tmp_path), model_of()
    first = forecast.stored_forecast(workspace, model, 80, "bf16", 1, write=False)
    assert not workspace.results.exists()
    assert forecast.stored_forecast(workspace, model, 80, "bf16", 1) == first
    (kept,) = (workspace.results / "cache" / "memory").iterdir()
    made: list[object] = []
    monkeypatch.setattr(forecast, "forecast_memory", lambda *given: made.append(given) or first)
    assert forecast.stored_forecast(workspace, model, 80, "bf16", 1) == first
    assert not made
    kept.write_text("{")
    assert forecast.stored_forecast(workspace, model, 80, "bf16", 1) == first
    assert forecast.stored_forecast(workspace, model, 80, "bf16", 8) == first  # another question
    assert len(made) == 2
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "results").write_text("no folder")
    assert forecast.stored_forecast(Workspace(tmp_path / "full"), model, 80, "bf16", 1) == first
