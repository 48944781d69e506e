"""How the processes of a run find each other: in a file, without a listening socket.

On one machine it lies in a folder of this user alone; between machines on the disk that they share.
"""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.distributed import Store  # type: ignore[attr-defined]

# In the environment:
STORE = "DETABLATE_STORE"  # the file in which the processes meet
NODE, NODES = "DETABLATE_NODE", "DETABLATE_NODES"  # this machine among those of the run, and their number


@dataclass(frozen=True, slots=True)
class Machines:
    """The machines that train one run together; this one alone by default.

    Attributes:
        count: of them.
        this: the number of this one, from 0.
        store: the file on the shared disk in which their processes meet; empty for one machine.
    """

    count: int = 1
    this: int = 0
    store: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that `ablate.launch.ranks` reads."""
        return {} if self.count == 1 else {NODES: str(self.count), NODE: str(self.this), STORE: self.store}

    @classmethod
    def of_environment(cls) -> "Machines":
        """The machines that the environment of this process names."""
        if NODES not in os.environ:
            return cls()
        return cls(int(os.environ[NODES]), int(os.environ[NODE]), os.environ[STORE])


def store_of_this_run(count: int) -> "Store | None":
    """The store in which this many processes meet; None if torchrun or another launcher provides one."""
    path = os.environ.get(STORE)
    if path is None:
        return None
    from torch.distributed import FileStore  # type: ignore[attr-defined]

    return FileStore(path, count)
