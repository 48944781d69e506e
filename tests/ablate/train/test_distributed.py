from pathlib import Path

import pytest
import torch

from ablate.axes import AXES
from ablate.config.yaml import load_config
from ablate.execute.describe import describe
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.train.distributed import Layout, Processes, derived, device_of, generator, joined, lay_out
from ablate.train.optim import resolve
from analysis.exceptions import BadInput


@pytest.mark.parametrize(
    ("batch", "norm", "processes", "expected"),
    [
        (64, 64, 1, Layout(1, 64, 1, 1)),
        (64, 64, 8, Layout(8, 8, 8, 1)),
        (64, 8, 8, Layout(8, 1, 8, 8)),
        (64, 8, 1, Layout(1, 8, 1, 8)),
        (64, 8, 16, Layout(16, 1, 8, 4)),
        (8, 1, 2, Layout(2, 1, 1, 4)),
    ],
)
def test_a_batch_is_cut_by_statistics_and_processes(batch: int, norm: int, processes: int, expected: Layout) -> None:
    layout = lay_out(batch, norm, processes)
    assert layout == expected
    assert layout.processes * layout.images * layout.grad_accum_steps == batch
    assert layout.images * layout.group == norm


def test_processes_that_do_not_divide_the_work_are_refused() -> None:
    with pytest.raises(BadInput, match=r"3 processes cannot share batches of 64 .* start 1, 2, 4, 8 of them"):
        lay_out(64, 8, 3)


def test_alone_without_torchrun() -> None:
    with joined("cpu") as processes:
        assert (processes.rank, processes.count, processes.first) == (0, 1, True)
        values = torch.tensor([1.0, 2.0])
        assert processes.mean(values).tolist() == [1, 2]
        assert processes.workers(None) == 0
        assert processes.workers(3) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(BadInput, match="no CUDA device"), joined("cuda"):
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == device_of("cuda") == torch.device("cuda", 1)
    monkeypatch.setenv("LOCAL_RANK", "2")
    for wanted in ("auto", "cuda"):
        with pytest.raises(BadInput, match=r"process 2 \(LOCAL_RANK\) has no GPU: 2 visible"), joined(wanted):
            pass
    assert device_of("cpu") == torch.device("cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("precision", ["fp32", "auto", "bf16"])
def test_describing_for_a_gpu_that_is_not_there_is_refused(precision: str, tmp_path: Path) -> None:
    config = load_config("tiny-shapes", [f"train.precision={precision}"])
    with pytest.raises(BadInput, match="no CUDA device"):
        describe(config, Workspace(tmp_path), "cuda")
    with pytest.raises(BadInput, match="no CUDA device"):
        plan(AXES["head"], Request(settings=["train.precision=auto"], device="cuda"), Workspace(tmp_path), write=False)


def test_precision_is_resolved_for_the_device() -> None:
    cpu = torch.device("cpu")
    assert resolve("auto", cpu) == "fp32"
    assert resolve("bf16", cpu) == "bf16"
    with pytest.raises(BadInput, match="fp16 needs a CUDA device"):
        resolve("fp16", cpu)


def test_places_have_unrelated_seeds() -> None:
    seeds = {derived(seed, *place) for seed in (0, 1) for place in [(0,), (1,), (0, 0), (0, 1), (1, 0), (0, 0, 0)]}
    assert len(seeds) == 12
    assert all(0 <= seed < 2**63 for seed in seeds)
    first = torch.rand(3, generator=generator(torch.device("cpu"), 5, 1, 2))
    assert torch.equal(first, torch.rand(3, generator=generator(torch.device("cpu"), 5, 1, 2)))
    bits = [bin(derived(0, number) ^ derived(0, number + 1)).count("1") for number in range(100)]
    assert 28 < sum(bits) / len(bits) < 35


def test_loaders_share_the_cores_that_this_machine_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two machines of eight GPUs each; of this one's cores 24 may be used."""
    monkeypatch.setenv("WORLD_SIZE", "16")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "8")
    monkeypatch.setattr("ablate.train.distributed.usable_cores", lambda: 24)
    assert Processes(0, 16, torch.device("cuda", 0)).workers(None) == 3
    assert Processes(0, 16, torch.device("cpu")).workers(None) == 0
