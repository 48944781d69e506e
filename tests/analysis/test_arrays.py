"""Look-ups of ids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis import arrays

KEYS = st.lists(st.integers(-5, 60), max_size=20).map(lambda keys: np.array(keys, dtype=np.int64))


@pytest.mark.parametrize("largest", [arrays.LARGEST_TABLE, 0])  # by a table, and by a search
@given(keys=KEYS, among=KEYS)
def test_a_value_is_among_others(largest: int, keys: np.ndarray, among: np.ndarray) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays, "LARGEST_TABLE", largest)
        found = arrays.is_among(keys, np.unique(among))
    np.testing.assert_array_equal(found, np.isin(keys, among))
