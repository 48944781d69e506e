"""The smallest data set that a detector can be trained on, written once."""

import pytest

from ablate.config.schema import Coco


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Coco:
    from tests.ablate.tiny import write_data

    return write_data(tmp_path_factory.mktemp("tiny"))
