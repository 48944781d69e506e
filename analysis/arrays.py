"""Rows that belong together (an image, a category, a detection's pairs), without a loop over the groups."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from analysis import native

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_DIGIT = 16


def order_by_index(index: Ints, limit: int) -> Ints:
    """The stable ascending order i64[N] of indices i64[N] in ``0 .. limit - 1``, in linear time.

    numpy sorts 16-bit keys by radix; larger indices take one pass for every 16 bits.
    """
    if native.core is not None:
        columns = np.ascontiguousarray(index, dtype=np.int64), max(limit, 1)
        return np.frombuffer(native.core.order_by_index(*columns), dtype=np.int64)
    order = np.argsort(index.astype(np.uint16), kind="stable")
    for shift in range(_DIGIT, max(limit - 1, 1).bit_length(), _DIGIT):
        order = order[np.argsort((index[order] >> shift).astype(np.uint16), kind="stable")]
    return order


def order_descending(values: Floats) -> Ints:
    """The order i64[N] of values f64[N] without NaN from high to low; equal ones stay in the order that they have.

    NumPy sorts several times as fast where equal values may change places; these are put back afterwards.

    >>> order_descending(np.array([0.5, 0.9, 0.5])).tolist()
    [1, 0, 2]
    """
    if native.core is not None:
        return np.frombuffer(native.core.order_descending(np.ascontiguousarray(values)), dtype=np.int64)
    order = np.argsort(-values)
    falling = values[order]
    equal = falling[1:] == falling[:-1]
    if equal.any():
        tied = np.flatnonzero(np.append(equal, False) | np.append(False, equal))
        run = np.cumsum(~np.append(False, equal))[tied]
        order[tied] = np.sort(run * len(values) + order[tied]) % len(values)
    return order


def group_starts(group: Ints, groups: int) -> Ints:
    """i64[groups + 1] where each group begins when rows of groups i64[N] (numbered from 0) stand in their order.

    >>> group_starts(np.array([2, 0, 2]), 3).tolist()
    [0, 1, 1, 3]
    """
    return np.concatenate([[0], np.cumsum(np.bincount(group, minlength=groups))])


def inverse(order: Ints, count: int) -> Ints:
    """The place i64[count] of each row in an order of rows i64[n]; undefined for rows that are not in it.

    >>> inverse(np.array([2, 0, 1]), 3).tolist()
    [1, 2, 0]
    """
    place = np.empty(count, dtype=np.int64)
    place[order] = np.arange(len(order))
    return place


def place_in_group(group: Ints) -> Ints:
    """i64[N] how many earlier rows are in the same group, for groups i64[N] numbered from 0."""
    order = order_by_index(group, int(group.max(initial=0)) + 1)
    start = np.flatnonzero(np.diff(group[order], prepend=-1))
    place = np.empty(len(group), dtype=np.int64)
    place[order] = np.arange(len(group)) - np.repeat(start, np.diff(np.append(start, len(group))))
    return place


def best_in_group(group: Ints, value: Floats) -> tuple[Ints, Ints]:
    """The groups that occur, ascending, and for each the first row with its highest value; ``group`` is ascending."""
    start = np.flatnonzero(np.diff(group, prepend=-1))
    size = np.diff(np.append(start, len(group)))
    equal = np.flatnonzero(value == np.repeat(np.maximum.reduceat(value, start), size))
    return group[start], equal[np.flatnonzero(np.diff(group[equal], prepend=-1))]


def distinct(values: Ints) -> Ints:
    """The different values, ascending.

    `np.unique` of NumPy 2.3 and later hashes them first, which takes longer, and imports `numpy.ma`.
    """
    ascending = np.sort(values)
    first = np.ones(len(values), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=first[1:])
    return ascending[first]


def occurring(count: int, *indices: Ints) -> Ints:
    """Which of ``count`` indices occur in some arrays of them, ascending.

    >>> occurring(4, np.array([3, 1]), np.array([1])).tolist()
    [1, 3]
    """
    found = np.zeros(count, dtype=np.bool_)
    for some in indices:
        found[some] = True
    return np.flatnonzero(found)


BLOCK = 1 << 16  # rows


def blocks(rows: int) -> Iterator[slice]:
    """The rows in blocks of 65,536: what is computed of one stays in the cache, and no array of all rows is made.

    >>> [block.stop for block in blocks(100_000)]
    [65536, 100000]
    """
    return (slice(low, min(low + BLOCK, rows)) for low in range(0, rows, BLOCK))


LARGEST_TABLE = 16  # bytes for each value that is looked up in a table of flags


def is_among(values: Ints, ascending: Ints) -> Bools:
    """bool[N] whether each value is one of some ascending ids.

    >>> is_among(np.array([3, 4]), np.array([1, 3])).tolist()
    [True, False]
    """
    return look_up(len(values), ascending, lambda block: values[block])


def look_up(count: int, ascending: Ints, values: Callable[[slice], Ints]) -> Bools:
    """The same of values that are made block by block, bool[count]."""
    found = np.zeros(count, dtype=np.bool_)
    if not len(ascending):
        return found
    first, last = int(ascending[0]), int(ascending[-1])
    span = last - first + 1
    if span <= LARGEST_TABLE * count:  # one look-up a value, not a search
        table = np.zeros(span + 1, dtype=np.bool_)  # its last entry is for what lies outside
        table[ascending - first] = True
        for block in blocks(count):
            found[block] = table[_places(values(block), first, last)]
        return found
    for block in blocks(count):
        some = values(block)
        found[block] = ascending[np.minimum(np.searchsorted(ascending, some), len(ascending) - 1)] == some
    return found


def _places(values: Ints, first: int, last: int) -> Ints:
    """The places of values in a table from ``first`` to ``last``; behind its end for those outside."""
    return np.where((values >= first) & (values <= last), values - first, last - first + 1)


def index_of(values: Ints, ascending: Ints) -> Ints:
    """The index of each value in ascending ids, -1 where it is not among them."""
    if not len(ascending):
        return np.full(len(values), -1)
    first, last = int(ascending[0]), int(ascending[-1])
    span = last - first + 1
    if span <= len(values) + len(ascending):  # a table of all ids between: one look-up a value
        table = np.full(span + 1, -1)  # its last entry is for what lies outside
        table[ascending - first] = np.arange(len(ascending))
        found = np.empty(len(values), dtype=np.int64)
        for block in blocks(len(values)):
            found[block] = table[_places(values[block], first, last)]
        return found
    place = np.minimum(np.searchsorted(ascending, values), len(ascending) - 1)
    return np.where(ascending[place] == values, place, -1)
