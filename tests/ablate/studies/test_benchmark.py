"""Costs measured on real, very small detectors."""

import logging
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.config.schema import RunConfig
from ablate.config.yaml import dump_config
from ablate.detector.mask_rcnn import build_detector
from ablate.runs.folder import Status, Workspace
from ablate.studies.benchmark import Prober, _busy_elsewhere, probe_study
from ablate.studies.cost import COST_FILE, MeasuredCost, read_cost
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study
from ablate.train.checkpoint import save_checkpoint
from analysis.exceptions import BadInput
from tests.ablate.finished import begin, finish, probed
from tests.ablate.tiny import tiny_config, write_data

KEY = "model.backbone.attention.checkpoint"


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> "object":
    """And one short round, where a test does not say otherwise."""
    monkeypatch.setattr("ablate.studies.benchmark.ROUNDS", 1)
    monkeypatch.setattr("ablate.studies.benchmark.LEAST", 0.0)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Checkpointing of global attention, on six painted images."""
    base = tiny_config(write_data(tmp_path / "data"), model__backbone__attention__pattern="global")
    (tmp_path / "base.yaml").write_text(dump_config(base))
    request = Request(base=str(tmp_path / "base.yaml"), seeds=(0, 1), device="cpu")
    return plan(axis_from_keys([f"{KEY}=none,all"]), request, Workspace(tmp_path))


def train(root: Path, study: Study, seed: int = 0) -> None:
    """Folders with weights, as trained runs leave them."""
    for run in study.runs:
        if run.seed == seed:
            folder = finish(root, study, run, 30.0)
            assert run.config is not None
            save_checkpoint(folder, 6, {"model": build_detector(run.config.model, 2).state_dict()})


def test_checkpointing_saves_memory_and_costs_nothing_else_that_it_should_not(
    study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(tmp_path, study)
    with caplog.at_level(logging.INFO):
        probe_study(Workspace(tmp_path), study, device="cpu")
    plain, saved = (read_cost(Workspace(tmp_path).run(run.run_id)) for run in study.runs if run.seed == 0)
    assert plain is not None
    assert saved is not None
    assert plain.peak_gib is not None
    assert saved.peak_gib is not None
    assert 0 < saved.peak_gib < plain.peak_gib
    assert (plain.device, plain.precision) == ("cpu", "fp32")
    assert plain.iterations >= 10
    assert plain.images >= 6
    assert (plain.iterations % 10, plain.images % 6) == (0, 0)  # all images equally often
    assert plain.spread is not None
    assert plain.rounds == saved.rounds == 1
    assert plain.session == saved.session != ""
    assert plain.other_cores is not None
    assert plain.iteration_range is not None
    assert plain.iteration_range[0] <= (plain.seconds_per_iteration or 0) <= plain.iteration_range[1]
    assert plain.seconds_per_iteration is not None
    assert plain.seconds_per_image is not None
    assert plain.seconds_per_iteration > 0 < plain.seconds_per_image
    assert plain.place == saved.place
    said = [line for line in caplog.messages if line.startswith("measured ")]
    assert [line.partition(":")[0] for line in said] == ["measured checkpoint=none", "measured checkpoint=all"]
    assert not any(
        (Workspace(tmp_path).run(run.run_id).path / COST_FILE).exists() for run in study.runs if run.seed == 1
    )


def test_the_memory_is_the_same_every_time(study: Study, tmp_path: Path) -> None:
    train(tmp_path, study)
    run = study.runs[0]
    assert run.config is not None
    prober = Prober(torch.device("cpu"), Workspace(tmp_path))
    # The input does not depend on the seed of the run.
    other = msgspec.structs.replace(run.config, seed=7)
    folder = Workspace(tmp_path).run(run.run_id)
    first, second, third = prober.measure([(run.config, folder), (run.config, folder), (other, folder)])
    assert first.peak_gib == second.peak_gib == third.peak_gib


def test_variants_are_measured_in_turn(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, study)
    order: list[object] = []
    pace = iter([1.0, 10.0, 4.0, 20.0, 2.0, 90.0])  # seconds a step, by round and variant

    def timed(self: Prober, act: Callable[[int], None], places: range) -> list[float]:
        act(places[0])
        return [seconds] * 4

    def a_round(self: Prober, config: RunConfig, *rest: Any) -> None:
        nonlocal seconds
        order.append(config.model.backbone.attention.checkpoint)  # type: ignore[union-attr]
        seconds = next(pace)
        plain_round(self, config, *rest)

    seconds, plain_round = 0.0, Prober._round
    monkeypatch.setattr(Prober, "_timed", timed)
    monkeypatch.setattr(Prober, "_round", a_round)
    monkeypatch.setattr("ablate.studies.benchmark.ROUNDS", 3)
    probe_study(Workspace(tmp_path), study, device="cpu")
    assert order == ["none", "all"] * 3
    first, second = (read_cost(Workspace(tmp_path).run(run.run_id)) for run in study.runs if run.seed == 0)
    assert first is not None
    assert second is not None
    assert (first.seconds_per_iteration, first.iteration_range) == (2.0, (1.0, 4.0))
    assert (second.seconds_per_iteration, second.iteration_range) == (20.0, (10.0, 90.0))


LINUX = namedtuple("LINUX", "user nice system idle iowait irq softirq steal guest guest_nice")
MACOS = namedtuple("MACOS", "user nice system idle")


@pytest.mark.parametrize(
    ("times", "elsewhere"),
    [(LINUX(40.0, 1.0, 5.0, 900.0, 30.0, 0.5, 0.5, 2.0, 7.0, 1.0), 49.0 - 12.0), (MACOS(40.0, 1.0, 5.0, 900.0), 34.0)],
)
def test_what_this_process_uses_and_what_is_idle_is_no_load_of_others(
    times: Any, elsewhere: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ablate.studies.benchmark.psutil.cpu_times", lambda: times)
    monkeypatch.setattr("ablate.studies.benchmark.time.process_time", lambda: 12.0)
    assert _busy_elsewhere() == pytest.approx(elsewhere)


def test_what_was_measured_here_is_kept_and_elsewhere_is_not(study: Study, tmp_path: Path) -> None:
    train(tmp_path, study)
    probe_study(Workspace(tmp_path), study, device="cpu")
    folder = Workspace(tmp_path).run(study.runs[0].run_id)
    before = (folder.path / COST_FILE).read_bytes()
    probe_study(Workspace(tmp_path), study, device="cpu")
    assert (folder.path / COST_FILE).read_bytes() == before
    probed(folder, name="Another CPU")
    probe_study(Workspace(tmp_path), study, device="cpu")
    cost = read_cost(folder)
    assert cost is not None
    assert cost.device_name != "Another CPU"
    probe_study(Workspace(tmp_path), study, device="cpu", again=True)
    assert (folder.path / COST_FILE).read_bytes() != before


def test_without_weights_prediction_is_not_timed_until_there_are_some(study: Study, tmp_path: Path) -> None:
    for run in study.runs:
        begin(tmp_path, study, run, Status(state="out_of_memory", message="full"))
    probe_study(Workspace(tmp_path), study, device="cpu")
    cost = read_cost(Workspace(tmp_path).run(study.runs[0].run_id))
    assert cost is not None
    assert cost.peak_gib is not None
    assert cost.seconds_per_image is None
    train(tmp_path, study)
    probe_study(Workspace(tmp_path), study, device="cpu")
    cost = read_cost(Workspace(tmp_path).run(study.runs[0].run_id))
    assert cost is not None
    assert cost.seconds_per_image is not None


def test_running_out_of_memory_is_a_cost(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tmp_path, study)

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Prober, "_train", full)
    probe_study(Workspace(tmp_path), study, device="cpu")
    cost = read_cost(Workspace(tmp_path).run(study.runs[0].run_id))
    assert cost is not None
    assert (cost.peak_gib, cost.seconds_per_iteration, cost.seconds_per_image) == (None, None, None)
    assert cost.message == "CUDA out of memory. Tried to allocate 2.00 GiB"


def test_quick_acts_go_on_for_half_a_second_and_slow_ones_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prober = Prober(torch.device("cpu"), Workspace(tmp_path))
    now = 0.0
    seen: list[int] = []
    pace = 0.0

    def act(place: int) -> None:
        nonlocal now
        now += pace
        seen.append(place)

    monkeypatch.setattr("ablate.studies.benchmark.time.perf_counter", lambda: now)
    monkeypatch.setattr("ablate.studies.benchmark.LEAST", 0.5)
    for pace, measured in ((0.125, 4), (0.0625, 8), (1.0, 4), (30.0, 1)):
        seen.clear()
        assert prober._timed(act, range(4)) == [pace] * measured
        assert seen == [0, 0, 0, *([0, 1, 2, 3] * 4)[:measured]]  # warm-up, then all of them equally often


def test_a_cap_on_memory_holds_for_the_probe(study: Study, tmp_path: Path) -> None:
    train(tmp_path, study)
    run = study.runs[0]
    assert run.config is not None
    folder, prober = Workspace(tmp_path).run(run.run_id), Prober(torch.device("cpu"), Workspace(tmp_path))
    (free,) = prober.measure([(run.config, folder)])
    assert free.peak_gib is not None
    for share, fits in ((1.5, True), (0.5, False)):
        capped = msgspec.structs.replace(run.config.train, memory_cap_gib=share * free.peak_gib)
        (cost,) = prober.measure([(msgspec.structs.replace(run.config, train=capped), folder)])
        assert (cost.peak_gib == free.peak_gib) is fits
        assert ("one image does not fit into the" in cost.message) is not fits


def test_a_study_that_never_ran_is_refused_and_a_torn_file_is_no_cost(study: Study, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no run of study .* has started yet"):
        probe_study(Workspace(tmp_path), study, device="cpu")
    folder = finish(tmp_path, study, study.runs[0], 30.0)
    probed(folder)
    assert isinstance(read_cost(folder), MeasuredCost)
    (folder.path / COST_FILE).write_text("{")
    assert read_cost(folder) is None


@pytest.mark.gpu
def test_a_gpu_tells_what_it_allocated(study: Study, tmp_path: Path) -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    train(tmp_path, study)
    probe_study(Workspace(tmp_path), study, device="cuda")
    cost = read_cost(Workspace(tmp_path).run(study.runs[0].run_id))
    assert cost is not None
    assert cost.device == "cuda"
    assert cost.peak_gib is not None
    assert cost.peak_gib > 0
