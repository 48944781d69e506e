"""Studies planned for GPUs of a known memory: what fits, one images_per_norm for all variants, and what is refused."""

from pathlib import Path

import pytest

from ablate.axes import AXES
from ablate.axes.custom import axis_from_keys
from ablate.config.schema import Model, ViT
from ablate.config.yaml import load_config
from ablate.detector import memory_forecast
from ablate.detector.memory import MemoryForecast
from ablate.launch.base import LaunchOptions
from ablate.launch.estimate import check_memory
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.studies.study import Study, write_study
from analysis.exceptions import BadInput
from tests.command_line import run

LIGHT, HEAVY = MemoryForecast(2, 3, 2), MemoryForecast(2, 40, 39)  # GiB


@pytest.fixture(autouse=True)
def _forecasts_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """The explicit logits of the naive kernel are heavy."""

    def forecast(model: Model, *_: object) -> MemoryForecast:
        assert isinstance(model.backbone, ViT)
        return HEAVY if model.backbone.attention.kernel == "naive" else LIGHT

    monkeypatch.setattr(memory_forecast, "forecast_memory", forecast)


def attention(root: Path, **wishes: object) -> Study:
    only = ("window", "global", "global, checkpointed", "global, naive kernel")  # on the embedded data they are named
    request = Request(base="vit-b-coco", data=["shapes"], device="cpu", only=only, **wishes)  # type: ignore[arg-type]
    return plan(AXES["attention"], request, Workspace(root))


def images_per_norm(study: Study) -> set[object]:
    return {run.config.train.images_per_norm for run in study.runs if run.config is not None}


def test_all_variants_share_what_fits_the_tightest_that_fits_at_all(shapes_root: Path) -> None:
    study = attention(shapes_root, device_gib=32.0)  # 29.4 usable: 13 light images, no heavy one
    assert images_per_norm(study) == {8}
    assert study.settings["train.images_per_norm"] == 8
    fits = {run.variant: run.images_that_fit for run in study.runs}
    assert fits == dict.fromkeys(study.variants, 13) | {"global, naive kernel": 0}
    assert all(not run.confounders for run in study.runs)
    assert images_per_norm(attention(shapes_root, device_gib=80.0)) == {1}  # one heavy image
    assert images_per_norm(attention(shapes_root, device_gib=32.0, gpus=8)) == {64}
    assert len({run.run_id for run in study.runs} | {run.run_id for run in attention(shapes_root).runs}) == 10


def test_without_a_known_gpu_it_is_the_whole_batch(shapes_root: Path) -> None:
    study = attention(shapes_root)
    assert images_per_norm(study) == {64}
    assert {run.images_that_fit for run in study.runs} == {None}


def test_written_configs_are_those_of_the_runs(shapes_root: Path) -> None:
    study = attention(shapes_root, device_gib=32.0)
    write_study(Workspace(shapes_root), study)
    for one in study.runs:
        assert load_config(shapes_root / one.config_path) == one.config


def test_a_study_none_of_whose_variants_fits_is_refused(shapes_root: Path) -> None:
    with pytest.raises(
        BadInput, match=r"more than the 32 GiB of a GPU .*hybrid 131.0 GiB for 64.*images_per_norm=auto"
    ):
        attention(shapes_root, device_gib=32.0, settings=["train.images_per_norm=64"])
    with pytest.raises(BadInput, match="would need more than the 4 GiB"):
        attention(shapes_root, device_gib=4.0)


def test_gpus_that_cannot_share_the_batches_are_refused(shapes_root: Path) -> None:
    for device_gib in (None, 32.0):
        with pytest.raises(BadInput, match="--gpus-per-run 3: 3 processes cannot share batches of 64"):
            attention(shapes_root, device_gib=device_gib, gpus=3)


def test_auto_is_one_value_for_all(shapes_root: Path) -> None:
    axis = axis_from_keys(["train.images_per_norm=auto,8"])
    with pytest.raises(BadInput, match="auto in some variants and a number in others"):
        plan(axis, Request(base="vit-b-coco", data=["shapes"], device="cpu"), Workspace(shapes_root))


def test_the_paper_s_memory_is_a_cap_on_its_row_alone(shapes_root: Path) -> None:
    study = attention(shapes_root, device_gib=80.0, paper_hardware=True)
    caps = {run.variant: run.config.train.memory_cap_gib for run in study.runs if run.config is not None}
    assert caps == dict.fromkeys(study.variants, "none") | {"global, naive kernel": 32.0}
    assert images_per_norm(study) == {32}  # 35 light images; under the cap not one heavy image fits
    assert all(not run.confounders for run in study.runs)


def test_a_launch_none_of_whose_runs_fits_the_gpus_here_is_refused(
    shapes_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after planning on a machine without a GPU."""
    study, workspace = attention(shapes_root), Workspace(shapes_root)
    write_study(workspace, study)
    check_memory(workspace, study, LaunchOptions())  # no GPU is visible here
    monkeypatch.setattr(memory_forecast, "visible_memory_gib", lambda: 80.0)
    check_memory(workspace, study, LaunchOptions(gpus_per_run=8))
    check_memory(workspace, study, LaunchOptions(device="cpu"))
    with pytest.raises(BadInput, match=r"would need more than the 80 GiB of a GPU .*hybrid 131.0 GiB for 64"):
        check_memory(workspace, study, LaunchOptions())


def test_the_screen(shapes_root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    plan_it = ("ablate", "attention", "--base", "vit-b-coco", "--data", "shapes", "--root", shapes_root, "--dry-run")
    plan_it += ("--only", "global, naive kernel")
    assert run(monkeypatch, *plan_it, "--device-memory", "0") == 4
    assert "every variant would need more than the 0 GiB of a GPU" in capsys.readouterr().err
    assert run(monkeypatch, *plan_it, "--device-memory", "32") == 0
    screen = " ".join(capsys.readouterr().out.split())
    assert "BatchNorm statistics cover 8 of the 64 images of a batch, in the paper they cover all" in screen
    assert "forecast for one GPU of 32 GiB" in screen
    assert "none: will run out of memory (315.0 GiB for 8)" in screen
    assert run(monkeypatch, *plan_it, "--device", "cpu") == 0
    assert "no GPU is visible here: for a forecast for another machine give --device-memory GIB" in " ".join(
        capsys.readouterr().out.split()
    )
    assert run(monkeypatch, *plan_it, "--retry") == 2
