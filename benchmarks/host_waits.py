"""How often the host would wait for a GPU, and copy numbers to it, counted on a CPU by the operators of torch.

Waits are operators whose result has no fixed size, and numbers that Python reads; copies are tensors that are made of
Python's numbers. What a kernel does inside, such as that of NMS, is one call.
"""

from types import TracebackType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

SIZED_BY_CONTENT = ("nonzero", "masked_select", "_unique", "unique_", "nms", "repeat_interleave.Tensor")
READ = ("_local_scalar_dense", "equal.default", "is_nonzero")
MADE_OF_NUMBERS = ("lift_fresh",)


class HostWaits(TorchDispatchMode):
    """While open, counts `waits` (the host reads what the device computes) and `copies` (constants that it sends).

    On a CPU `Tensor.tolist` reads memory as it is, which no operator shows: it is counted where Python calls it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits = self.copies = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(func)
        booleans = name.startswith(("aten.index.Tensor", "aten.index_put")) and any(
            isinstance(one, Tensor) and one.dtype == torch.bool for one in tree_leaves(args[1])
        )
        filled = booleans and name.startswith("aten.index_put") and args[2].numel() == 1  # becomes masked_fill
        self.waits += (booleans and not filled) or any(part in name for part in (*SIZED_BY_CONTENT, *READ))
        self.copies += any(part in name for part in MADE_OF_NUMBERS)
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> "HostWaits":
        self._tolist = Tensor.tolist

        def tolist(tensor: Tensor) -> Any:
            self.waits += 1
            return self._tolist(tensor)

        Tensor.tolist = tolist  # type: ignore[method-assign, assignment]
        super().__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        Tensor.tolist = self._tolist  # type: ignore[method-assign]
