import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

from ablate.detector import batch_norm
from ablate.detector.batch_norm import GroupBatchNorm2d, use_group_batch_norm


def test_alone_it_is_batch_norm() -> None:
    torch.manual_seed(0)
    ours, theirs = GroupBatchNorm2d(3), nn.BatchNorm2d(3)
    x = torch.randn(4, 3, 5, 5, requires_grad=True)
    for norm in (ours, theirs):
        for _ in range(2):
            norm(x)
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())


@pytest.mark.parametrize("training", [True, False])
def test_no_roi_leaves_the_statistics_and_gives_zero_gradients(training: bool) -> None:
    norm = GroupBatchNorm2d(3).train(training)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    out = norm(torch.zeros(0, 3, 7, 7))
    out.sum().backward()
    assert out.shape == (0, 3, 7, 7)
    torch.testing.assert_close(norm.state_dict(), before)
    assert norm.weight.grad is not None
    assert norm.weight.grad.tolist() == [0, 0, 0]


def test_conversion_keeps_weights_and_names() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.BatchNorm2d(4)))
    state = {name: value.clone() for name, value in model.state_dict().items()}
    use_group_batch_norm(model, None)
    assert [type(module) for module in model.modules()].count(GroupBatchNorm2d) == 2
    torch.testing.assert_close(model.state_dict(), state)


PARTNERS = """
    import sys, torch
    import torch.distributed as dist
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from ablate.detector.batch_norm import GroupBatchNorm2d, use_group_batch_norm
    rank = int(sys.argv[3])
    dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}/meet", rank=rank, world_size=2)
    given = torch.load(sys.argv[2] + "/given.pt")
    for fused in (False, True):
        norm = GroupBatchNorm2d(3)
        norm.load_state_dict(given["state"])
        use_group_batch_norm(norm, dist.group.WORLD)
        norm.fused = fused
        found = []
        for share, wanted in zip(given["samples"], given["gradients"]):
            x = share[rank].clone().requires_grad_()
            out = norm(x)
            out.backward(wanted[rank])
            found.append((out.detach(), x.grad))
        left = {"found": found, "state": norm.state_dict(), "weight": norm.weight.grad, "bias": norm.bias.grad}
        torch.save(left, f"{sys.argv[2]}/{rank}-{fused}.pt")
    dist.barrier()
    dist.destroy_process_group()
    assert norm.group() is None, "a group that outlives its processes aborts the interpreter's end"
"""


@pytest.fixture(scope="module")
def partners(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes have left: unequal shares, one process without any sample, and at last none in either."""
    folder = tmp_path_factory.mktemp("partners")
    torch.manual_seed(0)
    alone = nn.BatchNorm2d(3)
    alone.weight.data.uniform_(0.5, 2)
    alone.bias.data.normal_()
    samples = [[torch.randn(count, 3, 2, 2) * 2 + 1 for count in counts] for counts in ((3, 1), (4, 0), (0, 5), (0, 0))]
    gradients = [[torch.randn_like(share) for share in shares] for shares in samples]
    torch.save({"state": alone.state_dict(), "samples": samples, "gradients": gradients}, folder / "given.pt")
    command = [sys.executable, "-c", textwrap.dedent(PARTNERS), str(Path(__file__).parents[3]), str(folder)]
    processes = [subprocess.Popen([*command, rank], stderr=subprocess.PIPE, text=True) for rank in "01"]
    ended = [(process.communicate(timeout=300)[1], process.returncode) for process in processes]
    assert [code for _, code in ended] == [0, 0], ended
    return folder


@pytest.mark.parametrize("fused", [False, True])
def test_a_group_is_batch_norm_over_all_its_samples(partners: Path, fused: bool) -> None:
    given = torch.load(partners / "given.pt")
    alone = nn.BatchNorm2d(3)
    alone.load_state_dict(given["state"])
    first, second = (torch.load(partners / f"{rank}-{fused}.pt") for rank in "01")
    for step in range(3):
        x = torch.cat(given["samples"][step]).requires_grad_()
        expected = alone(x)
        expected.backward(torch.cat(given["gradients"][step]))
        out, gradient = (torch.cat([one["found"][step][part] for one in (first, second)]) for part in (0, 1))
        torch.testing.assert_close(out, expected.detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, x.grad, rtol=1e-4, atol=1e-5)
    for one in (first, second):
        assert one["found"][3][0].shape == (0, 3, 2, 2)
        torch.testing.assert_close(one["state"], alone.state_dict(), rtol=1e-5, atol=1e-5)
    for name in ("weight", "bias"):
        wanted = getattr(alone, name).grad
        torch.testing.assert_close(first[name] + second[name], wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_fused_operators_of_a_gpu_compute_what_the_steps_on_a_cpu_do(
    dtype: torch.dtype, layout: torch.memory_format, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_norm, "gather_over_group", lambda value, _: value[None])
    torch.manual_seed(0)
    value, wanted = torch.randn(6, 8, 5, 7) * 3 + 2, torch.randn(6, 8, 5, 7)
    found = {}
    for device in ("cpu", "cuda"):
        norm = nn.BatchNorm2d(8).to(device)
        x = value.to(device, dtype if device == "cuda" else torch.float32).contiguous(memory_format=layout)
        x.requires_grad_()
        out, mean, variance, _ = batch_norm._Fused.apply(x, norm.weight, norm.bias, norm.eps, None)
        out.backward(wanted.to(out))
        found[device] = [one.detach().float().cpu() for one in (out, mean, variance, x.grad, norm.weight.grad)]  # type: ignore[union-attr]
    near = 1e-4 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(found["cuda"], found["cpu"], rtol=near, atol=near)
