import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from torch import nn

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
    norm = GroupBatchNorm2d(3)
    norm.load_state_dict(given["state"])
    use_group_batch_norm(norm, dist.group.WORLD)
    found = []
    for share, wanted in zip(given["samples"], given["gradients"]):
        x = share[rank].requires_grad_()
        out = norm(x)
        out.backward(wanted[rank])
        found.append((out.detach(), x.grad))
    torch.save({"found": found, "state": norm.state_dict(), "weight": norm.weight.grad}, f"{sys.argv[2]}/{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
    assert norm.group() is None, "a group that outlives its processes aborts the interpreter's end"
"""


def test_a_group_is_batch_norm_over_all_its_samples(tmp_path: Path) -> None:
    """Unequal shares, one process without any sample, and at last none in either: the statistics stay."""
    torch.manual_seed(0)
    alone = nn.BatchNorm2d(3)
    alone.weight.data.uniform_(0.5, 2)
    alone.bias.data.normal_()
    samples = [[torch.randn(count, 3, 2, 2) * 2 + 1 for count in counts] for counts in ((3, 1), (4, 0), (0, 5), (0, 0))]
    gradients = [[torch.randn_like(share) for share in shares] for shares in samples]
    torch.save({"state": alone.state_dict(), "samples": samples, "gradients": gradients}, tmp_path / "given.pt")
    command = [sys.executable, "-c", textwrap.dedent(PARTNERS), str(Path(__file__).parents[3]), str(tmp_path)]
    partners = [subprocess.Popen([*command, rank], stderr=subprocess.PIPE, text=True) for rank in "01"]
    ended = [(partner.communicate(timeout=120)[1], partner.returncode) for partner in partners]
    assert [code for _, code in ended] == [0, 0], ended
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in "01")
    for step in range(3):
        x = torch.cat(samples[step]).requires_grad_()
        expected = alone(x)
        expected.backward(torch.cat(gradients[step]))
        out, gradient = (torch.cat([one["found"][step][part] for one in (first, second)]) for part in (0, 1))
        torch.testing.assert_close(out, expected.detach(), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(gradient, x.grad, rtol=1e-4, atol=1e-5)
    for one in (first, second):
        assert one["found"][3][0].shape == (0, 3, 2, 2)
        torch.testing.assert_close(one["state"], alone.state_dict(), rtol=1e-5, atol=1e-5)
    assert alone.weight.grad is not None
    torch.testing.assert_close(first["weight"] + second["weight"], alone.weight.grad, rtol=1e-4, atol=1e-4)
