import pytest
import torch
from torch import nn

from ablate.engines.norm import GroupBatchNorm2d, use_group_batch_norm


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
