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
from ablate.train.peers import Place, meeting_point, place_of_process
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


SLURM = {
    "SLURM_STEP_ID": "2",
    "SLURM_JOB_ID": "4711",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "gpu[07,09]",
}


def test_an_srun_step_says_who_is_who(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SLURM.items():
        monkeypatch.setenv(name, value)
    place = place_of_process()
    assert (place.rank, place.count, place.local_rank, place.local_count) == (5, 8, 1, 4)
    meeting = meeting_point(place)
    assert meeting["MASTER_ADDR"] == "gpu07"
    assert 20000 <= int(meeting["MASTER_PORT"]) < 30000
    # One GPU a task: each sees its own alone, as number 0; where all are visible, it is that of its place.
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for visible, own in ((1, 0), (4, 1)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)  # noqa: B023
        assert device_of("cuda") == torch.device("cuda", own)
    for name, value in meeting.items():  # as `joined` sets it: whoever joins again is still in the same place
        monkeypatch.setenv(name, value)
    assert place_of_process() == place
    assert Processes(5, 8, torch.device("cuda", 0)).on_this_machine == 4
    monkeypatch.setenv("SLURM_PROCID", "x")
    with pytest.raises(BadInput, match="SLURM_PROCID=x in the environment is not a number"):
        place_of_process()
    monkeypatch.delenv("SLURM_STEP_ID")  # a batch script: what it starts itself is alone
    assert place_of_process() == Place()


def test_torchrun_counts_before_slurm(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SLURM, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    assert place_of_process() == Place(1, 2, 1, 2)


def test_groups_of_some_processes_are_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four processes in twos; torch makes the groups, in every process all of them."""
    asked: list[int] = []

    def new_subgroups(size: int) -> tuple[str, list[str]]:
        asked.append(size)
        return "own", ["own", "other"]

    monkeypatch.setattr(torch.distributed, "new_subgroups", new_subgroups)
    assert Processes(2, 4, torch.device("cpu")).norm_group(lay_out(8, 2, 4)) == "own"
    assert Processes(2, 4, torch.device("cpu")).norm_group(lay_out(8, 1, 4)) is None
    assert asked == [2]
