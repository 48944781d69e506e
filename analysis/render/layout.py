"""How the columns of a table share the width of a terminal: side by side, wrapped, or in parts below each other."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

TEXT_WIDTH = 20  # to which words are wrapped before a table is folded
NAME_WIDTH = 8  # of a name in the narrowest terminal


class Width(NamedTuple):
    """The characters that a column needs.

    Attributes:
        full: with head and cells each on one line.
        wrapped: with its head on several lines.
        words: whether its cells can be wrapped too; numbers cannot.
        attached: whether it stays beside the column before it.
    """

    full: int
    wrapped: int
    words: bool = False
    attached: bool = False


def side_by_side(columns: Mapping[int, Width], names: int, room: int, gap: int) -> list[dict[int, int]]:
    """The widths of the columns that stand side by side, for each part of a table.

    First heads are wrapped, then words; where that is not enough, the columns are dealt out to several parts, those
    that name the rows, in at most half of the room, to each of them. A column of numbers is never too narrow for them.

    Args:
        columns: by their place.
        names: how many of them name the rows.
        room: characters of a line.
        gap: characters between two columns.

    >>> number = Width(8, 8)
    >>> side_by_side({0: Width(12, 12, words=True), 1: number, 2: number}, 1, 80, 2)
    [{0: 12, 1: 8, 2: 8}]
    >>> side_by_side({0: Width(40, 40, words=True), 1: number, 2: number}, 1, 50, 2)
    [{0: 30, 1: 8, 2: 8}]
    >>> side_by_side({0: Width(40, 40, words=True), 1: number, 2: number}, 1, 30, 2)
    [{0: 13, 1: 8}, {0: 13, 2: 8}]
    """
    full = {place: column.full for place, column in columns.items()}
    if across(full, gap) <= room:
        return [full]
    widths = {place: column.wrapped for place, column in columns.items()}
    words = [place for place, column in columns.items() if column.words]
    wrapped = _narrowed(widths, words, across(widths, gap) - room, TEXT_WIDTH)
    if across(wrapped, gap) <= room:
        return [wrapped]
    naming, others = list(columns)[:names], list(columns)[names:]
    widths |= {place: min(widths[place], max(room // 2 - gap, TEXT_WIDTH)) for place in others if place in words}
    most = room - sum(min(widths[place], NAME_WIDTH) + gap for place in naming)
    blocks: list[list[int]] = []
    needed: list[int] = []  # by each block, the gap behind it included
    for place in others:
        width = widths[place] + gap
        if not blocks or not columns[place].attached or needed[-1] + width - gap > most:
            blocks.append([])
            needed.append(0)
        blocks[-1].append(place)
        needed[-1] += width
    excess = sum(widths[place] + gap for place in naming) - min(room // 2, room - max(needed, default=0))
    widths = _narrowed(widths, [place for place in naming if place in words], excess, NAME_WIDTH)
    taken = sum(widths[place] + gap for place in naming)
    return [
        {place: widths[place] for place in [*naming, *(place for number in group for place in blocks[number])]}
        for group in _dealt_out(needed, room - taken, gap)
    ]


def row_lines(
    console: Console, widths: Mapping[int, int], cells: Mapping[int, Text], *, right: Collection[int], gap: int
) -> Iterator[Text]:
    """The lines of one row, its cells wrapped to the widths of their columns; those in ``right`` stand to the right."""
    wrapped = {
        place: list(cells.get(place, Text("")).wrap(console, width, overflow="fold")) for place, width in widths.items()
    }
    for number in range(max(map(len, wrapped.values()))):
        line = Text(no_wrap=True, overflow="ignore")
        for place, width in widths.items():
            cell = wrapped[place][number] if number < len(wrapped[place]) else Text("")
            cell.rstrip()
            cell.align("right" if place in right else "left", width)
            line.append_text(cell).append(" " * gap)
        line.rstrip()
        yield line


def across(widths: Mapping[int, int], gap: int) -> int:
    """Characters of a line with columns of these widths side by side."""
    return sum(widths.values()) + gap * (len(widths) - 1)


def _narrowed(widths: Mapping[int, int], places: Sequence[int], excess: int, least: int) -> dict[int, int]:
    """Widths with so many characters less in some places; the widest gives way first, none below the least.

    >>> _narrowed({0: 30, 1: 24, 2: 7}, [0, 1], 10, 20)
    {0: 22, 1: 22, 2: 7}
    """
    narrowed = dict(widths)
    for _ in range(excess if places else 0):
        widest = max(places, key=narrowed.__getitem__)
        if narrowed[widest] > least:
            narrowed[widest] -= 1
    return narrowed


def _dealt_out(widths: Sequence[int], room: int, gap: int) -> list[list[int]]:
    """Blocks that stand side by side, by their number: in as few groups as fit, as even as can be.

    Args:
        widths: of the blocks, each with a gap behind it.
        room: for one group, the gap behind its last block left out.
        gap: characters between two blocks.

    >>> _dealt_out([8, 8, 8, 8], 24, 2)
    [[0, 1], [2, 3]]
    >>> _dealt_out([8, 8], 14, 2)
    [[0, 1]]
    """
    dealt = _filled(widths, room + gap)
    for narrower in range(room + gap - 1, 0, -1):
        tried = _filled(widths, narrower)
        if len(tried) > len(dealt):
            break
        dealt = tried
    return dealt


def _filled(widths: Sequence[int], room: int) -> list[list[int]]:
    groups: list[list[int]] = [[]]
    for number, width in enumerate(widths):
        if groups[-1] and sum(widths[other] for other in groups[-1]) + width > room:
            groups.append([])
        groups[-1].append(number)
    return groups
