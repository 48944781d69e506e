"""Batch normalisation whose statistic covers the processes of a group, and that survives a batch of no RoIs.

Over a group it is computed in one of two ways: on a CPU as differentiable steps, on a GPU by torch's fused operators
(`_Fused`), which keep the input alone for the backward pass, in its own precision.
"""

import weakref
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function

# Torch holds a group as long as its processes are joined. Held for longer, its threads would meet the end of the
# interpreter, which aborts the process.
Group = weakref.ref[dist.ProcessGroup]


def reference_to(group: dist.ProcessGroup | None) -> Group | None:
    """A group as modules hold it."""
    return None if group is None else weakref.ref(group)


class _SumOverGroup(torch.autograd.Function):
    """All-reduced sum, differentiable: the gradient of a sum over processes is the sum of their gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, group: Group) -> Tensor:
        ctx.group = group
        total = value.clone()
        dist.all_reduce(total, group=group())
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        total = gradients[0].clone()
        dist.all_reduce(total, group=ctx.group())
        return total, None


def sum_over_group(value: Tensor, group: Group | None) -> Tensor:
    """The sum of value over the processes of a group, differentiable; value itself without a group.

    A `torch.overrides.TorchFunctionMode` may stand in for the other processes.
    """
    if group is None:
        return value
    if has_torch_function((value,)):
        return handle_torch_function(sum_over_group, (value,), value, group)
    return _SumOverGroup.apply(value, group)  # type: ignore[no-any-return]


def gather_over_group(value: Tensor, group: Group) -> Tensor:
    """The values of all processes of a group, one after another: [n] -> [processes, n]; not differentiable."""
    if has_torch_function((value,)):
        return handle_torch_function(gather_over_group, (value,), value, group)
    rows = value.new_zeros(dist.get_world_size(group()), len(value))
    rows[dist.get_rank(group())] = value
    dist.all_reduce(rows, group=group())  # which gloo has for GPUs too
    return rows


def has_fused_operators(value: Tensor) -> bool:
    """Whether the device of a tensor has torch's fused operators; a `TorchFunctionMode` may answer for another one."""
    if has_torch_function((value,)):
        return bool(handle_torch_function(has_fused_operators, (value,), value))
    return value.is_cuda


class _Fused(torch.autograd.Function):
    """Normalise by the statistic of a group -> output, mean f32[C], variance f32[C] and how many values it is of.

    On a CPU the same is computed by plain operators, so that it can be tested there.
    """

    @staticmethod
    def forward(
        ctx: Any, value: Tensor, weight: Tensor, bias: Tensor, eps: float, group: Group
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = value.shape[1]
        value = _dense(value)
        if value.numel() == 0:
            mean = variance = torch.zeros(channels, device=value.device)
        elif value.is_cuda:
            mean, deviation = torch.batch_norm_stats(value, eps)  # 1 / the standard deviation
            variance = (deviation**-2 - eps).clamp(min=0)
        else:
            variance, mean = torch.var_mean(value.float(), dim=(0, 2, 3), correction=0)
        local = torch.cat([mean, variance, mean.new_full((1,), value.numel() / channels)])
        rows = gather_over_group(local, group)
        means, variances, counts = rows[:, :channels], rows[:, channels:-1], rows[:, -1:]
        count = counts.sum()
        share = counts / count.clamp(min=1)
        mean = (share * means).sum(dim=0)
        variance = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        ctx.save_for_backward(value, weight, mean, torch.rsqrt(variance + eps), counts[:, 0])
        ctx.group = None if has_torch_function((value,)) else group
        ctx.mark_non_differentiable(mean, variance, count)
        return F.batch_norm(value, mean, variance, weight, bias, False, 0.0, eps), mean, variance, count

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        value, weight, mean, deviation, counts = ctx.saved_tensors
        given = _dense(gradients[0])
        if value.numel() == 0:
            total = product = torch.zeros_like(mean)
            of_weight, of_bias = total, total
        elif value.is_cuda:
            total, product, of_weight, of_bias = torch.batch_norm_backward_reduce(
                given, value, mean, deviation, weight, True, True, True
            )
        else:
            wide, away = given.float(), value.float() - mean[:, None, None]
            total, product = wide.sum(dim=(0, 2, 3)), (wide * away).sum(dim=(0, 2, 3))
            of_weight, of_bias = product * deviation, total
        both = torch.cat([total, product])
        if ctx.group is not None:
            dist.all_reduce(both, group=ctx.group())
        total, product = both.chunk(2)
        if value.numel() == 0:
            of_value = torch.zeros_like(value)
        elif value.is_cuda:
            of_value = torch.batch_norm_backward_elemt(
                given, value, mean, deviation, weight, total, product, counts.to(torch.int32)
            )
        else:
            count = counts.sum()
            slope = (product / count * deviation**2)[:, None, None]
            of_value = wide - (total / count)[:, None, None] - away * slope
            of_value = (of_value * (deviation * weight)[:, None, None]).to(value.dtype)
        return of_value, of_weight, of_bias, None, None


def _dense(value: Tensor) -> Tensor:
    """The tensor in one of the two memory layouts that the fused operators read."""
    return value if value.is_contiguous(memory_format=torch.channels_last) else value.contiguous()


class GroupBatchNorm2d(nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` over all samples of a process group, each sample weighing the same.

    A process may bring no sample at all (an image without RoIs): detectron2's NaiveSyncBatchNorm with
    stats_mode "N" is for the same case. Where the whole group has none, the running statistic is left as it is.
    """

    group: Group | None = None
    fused: bool | None = None  # None: where the device has fused operators
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (the name is torch's)
        """Normalise f[n, C, h, w]; n may be 0."""
        if not self.training or self.group is None:
            # Of each channel torch wants two values in training, else one.
            enough = input.numel() // self.num_features >= (2 if self.training else 1)
            return super().forward(input) if enough else self._scaled(input)
        if has_fused_operators(input) if self.fused is None else self.fused:
            out, mean, variance, count = _Fused.apply(input, self.weight, self.bias, self.eps, self.group)
            self._update(mean, variance * count / (count - 1).clamp(min=1), count > 1)
            return out  # type: ignore[no-any-return]
        value = input.float()
        local = torch.cat(
            [
                value.sum(dim=(0, 2, 3)),
                (value * value).sum(dim=(0, 2, 3)),
                value.new_full((1,), value.numel() / self.num_features),
            ]
        )
        total = sum_over_group(local, self.group)
        count = total[-1].detach()
        sums, squares = total[:-1].chunk(2)
        mean = sums / count.clamp(min=1)
        variance = (squares / count.clamp(min=1) - mean * mean).clamp(min=0)
        self._update(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1), count > 1)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return (value * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    def _update(self, mean: Tensor, variance: Tensor, some: Tensor) -> None:
        """Blend a statistic in where there is one; some: bool[], left on the device, so that nothing waits for it."""
        weight = torch.where(some, 0.1 if self.momentum is None else self.momentum, 0.0)
        self.running_mean.lerp_(mean, weight)
        self.running_var.lerp_(variance, weight)
        self.num_batches_tracked.add_(some)

    def _scaled(self, value: Tensor) -> Tensor:
        """The affine part and the running statistic alone; keeps the gradients of weight and bias defined (zero)."""
        scale = torch.rsqrt(self.running_var + self.eps) * self.weight
        shift = self.bias - self.running_mean * scale
        return value * scale[:, None, None] + shift[:, None, None]


def share_statistics(module: nn.Module) -> None:
    """Give the running statistics of the first process to all: where groups are smaller than all processes they differ.

    A checkpoint has those of the first, so only with them live predictions are those of the checkpoint.
    """
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            for statistic in child.buffers():
                dist.broadcast(statistic, src=0)


def use_group_batch_norm(module: nn.Module, group: dist.ProcessGroup | None) -> None:
    """Turn every BatchNorm2d inside module, in place, into one whose statistic covers a process group."""
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.__class__ = GroupBatchNorm2d
            child.group = reference_to(group)  # type: ignore[assignment]
