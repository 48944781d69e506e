"""The blocks of a ViT compiled by ``torch.compile``.

One function is compiled, which takes the block as an argument: weights are its inputs, so all blocks of a kind share a
graph, and no module is wrapped, so weights keep their names. A call that would not be compiled raises instead of
running uncompiled in silence.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

BACKEND = "inductor"
# Graphs of one process: a kind of block (windowed, global; frozen) has one each for training, for measuring the
# validation set and for predictions. torch allows 8, for all models together.
MOST_GRAPHS = 64

RunBlock = Callable[[nn.Module, Tensor, Any, Tensor | None], Tensor]


def run_block(block: nn.Module, x: Tensor, bias: Any, keep: Tensor | None) -> Tensor:
    """A block of a ViT on its arguments."""
    return block(x, bias, keep)  # type: ignore[no-any-return]


def compiled_run(backend: str | None = None) -> RunBlock:
    """`run_block` compiled by a backend, by default ``BACKEND``; each shape has a graph of its own."""
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(MOST_GRAPHS, torch._dynamo.config.recompile_limit)
    return torch.compile(run_block, fullgraph=True, dynamic=False, backend=backend or BACKEND)


def check_compiler(device: torch.device, backend: str | None = None) -> None:
    """Compile and run three operations.

    Raises:
        RuntimeError: ``torch.compile`` does not work on this machine, with the reason.
    """
    try:
        x = torch.ones(8, 8, device=device, requires_grad=True)
        torch.compile(_some, fullgraph=True, backend=backend or BACKEND)(x).backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # of the compiler, of its backend or of the processes that they start
        lines = [line.strip() for line in str(error).splitlines()]
        reasons = [line for line in lines if line and not line.startswith("backend=")]  # which it says first
        raise RuntimeError(reasons[0] if reasons else type(error).__name__) from error


def _some(x: Tensor) -> Tensor:
    return (x * 2 + 1).sum()
