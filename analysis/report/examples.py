"""The examples of the gallery: what each is about, and which filter leads from a number of a table to its pictures."""

from dataclasses import dataclass
from functools import cached_property
from urllib.parse import urlencode

from analysis.coco.detections import Detections
from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.error_types import ERROR_TYPES
from analysis.evaluation.single_error_cost import Example
from analysis.report.report_data import ReportData


@dataclass(frozen=True)
class ShownExample:
    """One example and what it is filtered by."""

    run: int  # whose detections it shows
    runs: tuple[int, ...]  # all runs that have the same predictions, itself included
    example: Example
    image: int
    categories: frozenset[int]  # of its detection and of its object
    detected: int | None  # category of its detection; none: a missed object
    score: float | None  # likewise
    size: str  # small, medium or large, as the table of sizes counts it; empty where none holds it


def sides(data: ReportData, run: int, example: Example) -> list[tuple[GroundTruth | Detections, int]]:
    """The detection and the object that an example is about, or the one of them that there is, each as file and row."""
    found = (data.runs[run].detections, example.detection), (data.ground_truth, example.truth)
    return [(source, row) for source, row in found if row >= 0]


@dataclass(frozen=True, eq=False)
class Examples:
    """All examples of a report."""

    data: ReportData

    @cached_property
    def shown(self) -> list[ShownExample]:
        """Run by run and type by type, the costliest first; runs that have the same predictions share theirs."""
        return [
            self._shown(run, example)
            for run, one in enumerate(self.data.runs)
            if self.data.first_alike[run] == run
            for examples in one.examples.values()
            for example in examples
        ]

    def _shown(self, run: int, example: Example) -> ShownExample:
        data, detections = self.data, self.data.runs[run].detections
        found = sides(data, run, example)
        source, row = found[0]
        is_detected = example.detection >= 0
        return ShownExample(
            run=run,
            runs=tuple(other for other, first in enumerate(data.first_alike) if first == run),
            example=example,
            image=int(source.image[row]),
            categories=frozenset(int(of.category[place]) for of, place in found),
            detected=int(detections.category[example.detection]) if is_detected else None,
            score=float(detections.score[example.detection]) if is_detected else None,
            size=self._size(run, example),
        )

    def _size(self, run: int, example: Example) -> str:
        """By the area that the table of sizes takes: the object's or the detection's."""
        sizes, kind = self.data.runs[run].sizes, ERROR_TYPES[example.error]
        of_object = kind.of_object or kind.size_of_object
        area = (sizes.object_area if of_object else sizes.detection_area)[
            example.truth if of_object else example.detection
        ]
        return next((size.name for size in sizes.sizes if bool(size.holds(area))), "")

    def filter(
        self, run: int, *, error: str = "", category: int | None = None, detected: int | None = None, size: str = ""
    ) -> str:
        """The filter of the gallery that shows the examples behind a number, as a query; empty where it shows none.

        Args:
            run: whose number it is.
            error: the type; empty: any.
            category: of the object or the detection; none: any.
            detected: category of the detection; none: any.
            size: as in the table of sizes; empty: any.
        """
        if (run, error, category, detected, size) not in self._filters:
            return ""
        fields = {"run": run, "error": error, "class": category, "detected": detected, "size": size}
        return urlencode({name: value for name, value in fields.items() if value not in ("", None)})

    @cached_property
    def _filters(self) -> frozenset[tuple[int, str, int | None, int | None, str]]:
        """The filters, as `filter` is asked for them, that show an example."""
        found: set[tuple[int, str, int | None, int | None, str]] = set()
        for one in self.shown:
            error = one.example.error
            for run in one.runs:
                found |= {(run, error, None, None, ""), (run, error, None, None, one.size)}
                for category in one.categories:
                    found |= {
                        (run, "", category, None, ""),
                        (run, error, category, None, ""),
                        (run, error, category, one.detected, ""),
                    }
        return frozenset(found)
