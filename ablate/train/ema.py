"""The average of the weights over the steps of a training (EMA), which is evaluated in the place of the last ones."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def decay_at(step: int, decay: float) -> float:
    """The decay of a step, counted from 0: less at first, so that the first weights do not weigh in a short run.

    It is that of TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``.

    >>> decay_at(0, 0.999), decay_at(90, 0.999), decay_at(10**6, 0.999)
    (0.1, 0.91, 0.999)
    """
    return min(decay, (1 + step) / (10 + step))


class WeightAverage:
    """An exponential moving average of all floating-point weights and buffers of a module; the others are copied.

    Args:
        module: with its initial weights, on its device.
        decay: of the average, between 0 and 1.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {name: value.clone() for name, value in _state(module).items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        share = 1 - decay_at(step, self.decay)
        averages, latest = [], []
        for name, value in _state(module).items():
            if value.is_floating_point():
                averages.append(self.values[name])
                latest.append(value)
            else:
                self.values[name].copy_(value)
        torch._foreach_lerp_(averages, latest, share)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Go on from stored values.

        Raises:
            ValueError: they are of another module.
        """
        if values.keys() != self.values.keys():
            raise ValueError("its average belongs to other weights")
        for name, value in self.values.items():
            value.copy_(values[name])

    @torch.no_grad()
    def copy_to(self, module: nn.Module) -> None:
        """Put the average in the place of the weights of a module."""
        for name, value in _state(module).items():
            value.copy_(self.values[name])

    @contextmanager
    def in_place(self, module: nn.Module) -> Iterator[None]:
        """The module has the average inside, and afterwards its own weights again."""
        own = {name: value.clone() for name, value in _state(module).items()}
        self.copy_to(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, value in _state(module).items():
                    value.copy_(own[name])


def _state(module: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers by name, without their history."""
    return {name: value.detach() for name, value in module.state_dict().items()}
