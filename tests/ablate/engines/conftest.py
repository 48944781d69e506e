from collections.abc import Iterator

import pytest
import torch

from ablate.config import Coco
from tests.ablate.engines.tiny import write_data


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small are slower on more threads, and far slower where other tests run beside them."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Coco:
    return write_data(tmp_path_factory.mktemp("tiny"))
