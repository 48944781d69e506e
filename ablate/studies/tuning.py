"""The paper's tuning protocol (arXiv 2111.11429, appendix) as a pure function: from results to what is run next.

1. Without drop path, in short runs, a 3 x 3 grid of learning rates and weight decays, each halved and doubled. While
   the best lies on the border, the grid grows there by another halving or doubling.
2. With the best pair, in longer runs, the rate of drop path.
3. A larger model takes over learning rate and weight decay, and has its drop path tuned alike.

Equal results go to the smaller learning rate, then to the smaller weight decay or drop path. What is asked for depends
on the results alone, so a tuning that was stopped anywhere asks for the same again.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal, NamedTuple

import msgspec

DROP_PATHS = (0.0, 0.1, 0.2, 0.3)
Stage = Literal["grid", "drop path", "larger model", "done"]
Trouble = Literal["", "no result", "too many runs"]


class Protocol(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a tuning.

    Attributes:
        lr: at the centre of the first grid.
        weight_decay: likewise.
        unit: in which lengths are given, a key of ``train``.
        grid_length: of a run of the grid.
        drop_path_length: of a run that tunes drop path.
        drop_paths: the rates that are tried, rising.
        larger: the size of a larger model that is tuned too; empty: none.
    """

    lr: float
    weight_decay: float
    unit: Literal["epochs", "iterations"]
    grid_length: float
    drop_path_length: float
    drop_paths: tuple[float, ...] = DROP_PATHS
    larger: str = ""


class Point(msgspec.Struct, frozen=True, order=True):
    """One setting that is tried: how often the centre's values are doubled (halved, where negative), and the rest."""

    larger: bool
    lr_doublings: int
    weight_decay_doublings: int
    drop_path: float
    length: float

    def lr(self, protocol: Protocol) -> float:
        """The learning rate."""
        return protocol.lr * 2.0**self.lr_doublings

    def weight_decay(self, protocol: Protocol) -> float:
        """The weight decay."""
        return protocol.weight_decay * 2.0**self.weight_decay_doublings

    def name(self, protocol: Protocol) -> str:
        """Its name in tables.

        >>> protocol = Protocol(lr=1.6e-4, weight_decay=0.1, unit="epochs", grid_length=25, drop_path_length=50)
        >>> Point(False, -1, 0, 0.0, 25).name(protocol)
        'lr 8e-05, wd 0.1, drop path 0, 25 epochs'
        """
        parts = [protocol.larger] * self.larger
        parts += [
            f"lr {self.lr(protocol):.6g}",
            f"wd {self.weight_decay(protocol):.6g}",
            f"drop path {self.drop_path:g}",
        ]
        if protocol.grid_length != protocol.drop_path_length:
            parts.append(f"{self.length:g} {protocol.unit}")
        return ", ".join(parts)


class Tuning(msgspec.Struct, frozen=True, kw_only=True):
    """The record of a tuning in its study.

    Attributes:
        protocol: that it follows.
        initialisation: whose settings are tuned, as the weights of a config are called.
        held_out: the share of the training images on which settings are chosen; 0: they are chosen on the validation
            images.
        points: of its variants, in their order.
    """

    protocol: Protocol
    initialisation: str
    held_out: float
    points: tuple[Point, ...] = ()

    def same_as(self, other: "Tuning") -> bool:
        """Whether the two ask for the same, however far they are."""
        first, second = (msgspec.structs.replace(one, points=()) for one in (self, other))
        return first == second


Results = Mapping[Point, float | None]  # AP; None: the run diverged or ran out of memory


class Step(NamedTuple):
    """How far a tuning is, and what is run next.

    Attributes:
        stage: that is going on.
        points: all that were asked for up to here, in the order in which they were.
        missing: those of them that have no result yet.
        cells: the whole grid, as far as it has grown.
        best: of each stage that is over, its point.
        trouble: why it cannot go on.
    """

    stage: Stage
    points: tuple[Point, ...]
    missing: tuple[Point, ...]
    cells: tuple[Point, ...]
    best: Mapping[Stage, Point]
    trouble: Trouble = ""


def next_step(protocol: Protocol, results: Results, most_points: int) -> Step:
    """The next step of the protocol.

    Args:
        protocol: of the tuning.
        results: of what was run so far; others are ignored.
        most_points: how many settings may be tried in all.
    """
    points: dict[Point, None] = {}
    best: dict[Stage, Point] = {}
    cells: tuple[Point, ...] = ()

    def step(stage: Stage, trouble: Trouble = "") -> Step:
        missing = tuple(point for point in points if point not in results)
        return Step(stage, tuple(points), missing, cells, best, trouble)

    def ask(stage: Stage, wanted: Iterable[Point]) -> Step | None:
        """The step that ends here, because some of the wanted points have no result yet, or none has one."""
        wanted = tuple(wanted)
        before = tuple(points)
        points.update(dict.fromkeys(wanted))
        if len(points) > most_points:
            for point in set(points) - set(before):
                del points[point]
            return step(stage, "too many runs")
        if any(point not in results for point in wanted):
            return step(stage)
        chosen = best_of(wanted, results)
        if chosen is None:
            return step(stage, "no result")
        best[stage] = chosen
        return None

    for cells in _growing_grid(protocol, results):
        ended = ask("grid", cells)
        if ended is not None:
            return ended
    cell = best["grid"]
    stages: list[tuple[Stage, bool]] = [("drop path", False)]
    if protocol.larger:
        stages.append(("larger model", True))
    for stage, larger in stages:
        found = ask(
            stage,
            (
                Point(larger, cell.lr_doublings, cell.weight_decay_doublings, rate, protocol.drop_path_length)
                for rate in protocol.drop_paths
            ),
        )
        if found is not None:
            return found
    return step("done")


def best_of(points: Iterable[Point], results: Results) -> Point | None:
    """The point with the highest result; of equal ones that with the smaller learning rate, then with less of all else.

    None if there is no result.
    """
    found = [(-value, point) for point in points if (value := results.get(point)) is not None]
    return min(found)[1] if found else None


def _growing_grid(protocol: Protocol, results: Results) -> Iterator[tuple[Point, ...]]:
    """The first grid, and each grid that it grows to; the caller stops where results are missing."""
    low, high = [-1, -1], [1, 1]  # doublings of the learning rate and of the weight decay
    while True:
        cells = tuple(
            Point(False, i, j, 0.0, protocol.grid_length)
            for i in range(low[0], high[0] + 1)
            for j in range(low[1], high[1] + 1)
        )
        yield cells
        best = best_of(cells, results)
        assert best is not None
        equal = [_place(cell) for cell in cells if results[cell] == results[best]]
        grown = False
        for axis, place in enumerate(_place(best)):
            # If one inside is as good, the results do not go on rising beyond the border.
            if not any(low[axis] < other[axis] < high[axis] for other in equal):
                low[axis] -= place == low[axis]
                high[axis] += place == high[axis]
                grown = True
        if not grown:
            return


def _place(cell: Point) -> tuple[int, int]:
    return cell.lr_doublings, cell.weight_decay_doublings
