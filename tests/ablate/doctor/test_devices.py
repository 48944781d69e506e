"""What is said of GPUs, with the driver's program and torch's answers faked at the process and module boundary."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ablate.doctor import machine as devices
from ablate.doctor.machine import Driver, ask_driver, check_torch


@pytest.fixture
def driver_program(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Makes an nvidia-smi of a shell script, the only one on the PATH."""

    def make(script: str) -> None:
        place = tmp_path / "bin with blank"
        place.mkdir()
        program = place / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(place))

    return make


def test_the_driver_is_asked(driver_program: Any) -> None:
    driver_program("echo 'NVIDIA H100 80GB HBM3, 570.86.10'; echo 'NVIDIA H100 80GB HBM3, 570.86.10'")
    assert ask_driver() == Driver("570.86.10", ("NVIDIA H100 80GB HBM3",) * 2)


def test_no_driver_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert ask_driver() is None


def test_a_driver_that_fails_says_why(driver_program: Any) -> None:
    driver_program("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18")
    assert ask_driver() == Driver("", (), "Failed to initialize NVML: Driver/library version mismatch")


@pytest.mark.parametrize(
    ("built_for", "driver", "complaint", "words", "remedy"),
    [
        ("13.2", None, "", "none: training runs on the CPU", ""),
        (None, Driver("570", ("A100",)), "", "1 x A100, but this torch is built for CPUs only", "for CUDA"),
        ("13.2", Driver("470", ("V100",) * 8), "The NVIDIA driver is too old", "8 x V100", "update the driver"),
        ("13.2", Driver("570", ("A100",)), "", "cannot use with driver 570", "CUDA_VISIBLE_DEVICES"),
        ("13.2", Driver("", (), "NVML mismatch"), "", "does not answer (NVML mismatch)", "reload the driver"),
    ],
)
def test_no_gpu_has_its_reason(
    monkeypatch: pytest.MonkeyPatch,
    built_for: str | None,
    driver: Driver | None,
    complaint: str,
    words: str,
    remedy: str,
) -> None:
    def is_available() -> bool:
        if complaint:
            import warnings

            warnings.warn(complaint, UserWarning, stacklevel=1)
        return False

    monkeypatch.setattr(devices, "ask_driver", lambda: driver)
    monkeypatch.setattr(torch.version, "cuda", built_for)
    monkeypatch.setattr(torch.cuda, "is_available", is_available)
    (check,), where = check_torch()
    assert where == "CPU, fp32"
    assert words in check.found
    assert remedy in check.remedy
    assert (check.state == "warning") == (driver is not None)
    assert complaint in check.found


@pytest.mark.parametrize(("bf16", "precision"), [(True, "bf16"), (False, "fp16")])
def test_gpus_are_told_with_their_memory(monkeypatch: pytest.MonkeyPatch, bf16: bool, precision: str) -> None:
    free = [75, 3]

    def mem_get_info(index: int) -> tuple[int, int]:
        if index == 2:
            raise RuntimeError("CUDA error: all CUDA-capable devices are busy or unavailable\nCompile with ...")
        return free[index] * 2**30, 80 * 2**30

    fake = SimpleNamespace(
        __version__="2.15.0",
        version=SimpleNamespace(cuda="13.2"),
        cuda=SimpleNamespace(
            device_count=lambda: 3,
            get_device_properties=lambda _: SimpleNamespace(name="H100", total_memory=80 * 2**30),
            mem_get_info=mem_get_info,
            is_bf16_supported=lambda including_emulation: bf16 and not including_emulation,
        ),
    )
    monkeypatch.setattr(devices, "ask_driver", lambda: Driver("570", ("H100",) * 3))
    checks, where = devices._gpus(fake)
    assert where == f"3 GPUs, {precision}"
    assert [check.name for check in checks] == ["GPU 0", "GPU 1", "GPU 2", "driver", "bf16"]
    assert [check.state for check in checks] == ["ok", "warning", "warning", "ok", "ok" if bf16 else "absent"]
    assert checks[0].found == "H100, 80 GiB, 75 GiB free"
    assert "nvidia-smi -i 1" in checks[1].remedy
    assert checks[2].found.endswith("busy or unavailable")
    assert "570; torch 2.15.0 is built for CUDA 13.2" in checks[3].found


def test_a_torchvision_of_another_torch_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(devices.importlib, "import_module", broken)
    (check,), where = check_torch()
    assert where == ""
    assert check.state == "broken"
    assert check.found == "RuntimeError: operator torchvision::nms does not exist"
    assert "install matching releases" in check.remedy


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_real_gpu_is_found() -> None:
    checks, where = check_torch()
    assert "GPU" in where
    assert torch.cuda.get_device_name(0) in checks[0].found
    assert ask_driver() is not None
