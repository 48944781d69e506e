"""How the processes of `ablate.launch.ranks` find each other: in a file, without a listening socket."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

STORE = "DETABLATE_STORE"  # in the environment: the file in which the processes of one machine meet


def store_of_this_machine(count: int) -> "Store | None":
    """Where so many processes meet; none where torchrun or another starter says how."""
    path = os.environ.get(STORE)
    if path is None:
        return None
    from torch.distributed import FileStore  # type: ignore[attr-defined]

    return FileStore(path, count)
