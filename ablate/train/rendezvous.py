"""How the processes of `ablate.launch.ranks` find each other: in a file, without a listening socket."""

import os
from typing import Any

STORE = "DETABLATE_STORE"  # in the environment: the file in which the processes of one machine meet


def store_of_this_machine(rank: int, count: int) -> dict[str, Any]:
    """Arguments of ``init_process_group``; none where torchrun or another starter says how to meet."""
    path = os.environ.get(STORE)
    if path is None:
        return {}
    from torch.distributed import FileStore  # type: ignore[attr-defined]

    return {"store": FileStore(path, count), "rank": rank, "world_size": count}
