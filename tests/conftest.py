"""For all tests: they run side by side, one process a core, so each computes on one thread, and so do its children.

The embedded data set is made once for all of them.
"""

import fcntl
import logging
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import settings

import analysis.files
from ablate.runs.folder import Workspace
from tests.slurm_cluster import SlurmCluster, must_work, running, why_not

# The same examples in every run, without a time limit, so that a run that passes passes again. Other examples:
# pytest --hypothesis-profile=exploring
settings.register_profile("repeatable", derandomize=True, database=None, deadline=None)
settings.register_profile("exploring", derandomize=False)
settings.load_profile("repeatable")

# What the tests start inherits it; so they pass in a shell that ignores them too (nohup, or in the background).
signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# pytest's workers have it, and so has what a Python with readline starts: output would be folded to that width.
os.environ.pop("COLUMNS", None)
os.unsetenv("COLUMNS")

os.environ["OMP_NUM_THREADS"] = "1"  # is read when torch is imported, which comes later
analysis.files.SETTLED = 0  # tests read at once what they have just written


@pytest.fixture(autouse=True)
def _messages_as_before() -> Iterator[None]:
    """A command prints what is logged, from then on in its whole process: the next test begins without."""
    packages = [logging.getLogger(name) for name in ("ablate", "analysis")]
    before = [(package.handlers[:], package.level) for package in packages]
    yield
    for package, (handlers, level) in zip(packages, before, strict=True):
        package.handlers[:] = handlers
        package.setLevel(level)


@pytest.fixture(scope="session")
def shapes_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``results/data`` with the embedded data set."""
    from ablate.data.shapes import write_shapes
    from ablate.data.sources import shapes_folder

    base = tmp_path_factory.getbasetemp()
    together = base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base  # for all workers of this call
    root = together / "shapes"
    with (together / "shapes.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
        if not root.exists():
            part = together / "shapes.part"
            write_shapes(shapes_folder(Workspace(part)))
            part.rename(root)
    return root / "results" / "data"


@pytest.fixture
def shapes_root(shapes_data: Path, tmp_path: Path) -> Path:
    """A root, with a space in its name, under which the embedded data set lies already."""
    folder = tmp_path / "röot with space"
    (folder / "results").mkdir(parents=True)
    (folder / "results" / "data").symlink_to(shapes_data)
    cache = shapes_data.parent / "cache"  # so that its images are read once
    cache.mkdir(exist_ok=True)
    (folder / "results" / "cache").symlink_to(cache)
    return folder


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    """A real Slurm of two nodes; skips, and says why, where it cannot be."""
    reason = why_not()
    if reason:
        (pytest.fail if must_work() else pytest.skip)(f"no Slurm here: {reason}")
    with ExitStack() as stack:
        try:
            cluster = stack.enter_context(running(tmp_path_factory.mktemp("slurm")))
        except (OSError, RuntimeError) as error:
            (pytest.fail if must_work() else pytest.skip)(f"no Slurm here: {error}")
        yield cluster
