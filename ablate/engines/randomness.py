"""Where every random draw of training comes from: the seed and the place in the run, which is all a resume needs."""

import torch

# What is drawn: the first number of a place.
WEIGHTS, MODEL, SAMPLES = 1, 2, 3


def derived(seed: int, *place: int) -> int:
    """A 63-bit seed that belongs to a place, such as (iteration, step, rank); other places give unrelated ones."""
    state = seed & (2**64 - 1)
    for number in place:
        state = _mixed(state ^ _mixed(number & (2**64 - 1)))
    return _mixed(state) >> 1


def _mixed(value: int) -> int:
    """The finaliser of splitmix64: every bit of the input reaches every bit of the output."""
    value = (value + 0x9E3779B97F4A7C15) & (2**64 - 1)
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
    return value ^ (value >> 31)


def generator(device: torch.device, seed: int, *place: int) -> torch.Generator:
    """A generator on a device, seeded for a place."""
    return torch.Generator(device).manual_seed(derived(seed, *place))
