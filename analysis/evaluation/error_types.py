"""The error types of TIDE (arXiv 2008.08115), one record each: what it is called, how it is shown, how it is fixed.

A new type is one more record here, with a ``code`` in :mod:`analysis.evaluation.matched_run` and the rule that gives it
to a detection in :mod:`analysis.evaluation.tide`; tables, plots, screens, intervals and the report take it from here.
"""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from analysis.arrays import Bools
from analysis.evaluation.matched_run import (
    BG,
    BOTH,
    CLS,
    DUP,
    IGNORED,
    LOC,
    LOW_SCORE,
    OVER_CAP,
    TRUE_POSITIVE,
    UNCHECKED,
    Curve,
    Labels,
    MatchedRun,
)

SHAPES = {"bbox": "box", "segm": "mask"}
SHAPES_MANY = {"bbox": "boxes", "segm": "masks"}


class Fix(Protocol):
    """A fix rule: the run with the errors of one type fixed, everywhere or only where ``chosen``.

    ``chosen`` is bool[n] by position, for missed and unfound objects bool[M] by object.
    """

    def __call__(self, run: MatchedRun, chosen: Bools | bool = True) -> Curve:
        """The curve of the run with the errors fixed."""


@dataclass(frozen=True)
class ErrorType:
    """One type of error, or (``is_total``) all wrong detections or unfound objects together."""

    name: str  # in files, settings and Python
    label: str  # as printed
    noun: str  # in a sentence: "loses 1.2 points more to ..."
    description: str  # of one, with {shape} for box or mask
    colour: str  # Rich's name of it, "" for none
    fix: Fix
    caption: str = ""  # of one example, from `category` (detected), `object` (annotated) and `shape` (box or mask)
    code: int | None = None  # of detections in `Labels.error`; none: it is an error of objects, or a total
    size_of_object: bool = False  # its size is that of the object, not of the detection (as tidecv's qualifiers)
    is_total: bool = False

    def described(self, iou_type: str) -> str:
        """What it is, of boxes or of masks.

        >>> ERROR_TYPES["loc"].described("segm")
        'localisation: mask overlaps too little'
        """
        return self.description.format(shape=SHAPES[iou_type])

    @property
    def of_object(self) -> bool:
        """Whether it is an error of objects, not of detections."""
        return self.code is None

    def occurs(self, labels: Labels) -> Bools:
        """bool[N] the detections, for ``miss`` bool[M] the objects, that have this error; totals are not labelled."""
        return labels.missed if self.of_object else labels.error == self.code


def _correct(code: int, run: MatchedRun, chosen: Bools | bool = True, *, move: bool = False) -> Curve:
    """Detections with this label become right if they win their object, else they are dropped (TIDE, section 2.3)."""
    return run.corrected((run.label == code) & chosen, move=move)


def _forgive_missed(run: MatchedRun, chosen: Bools | bool = True) -> Curve:
    """Missed objects are removed from the ground truth."""
    return run.without_objects(run.labels.missed & chosen)


def _forgive_unfound(run: MatchedRun, chosen: Bools | bool = True) -> Curve:
    """All objects without a right detection are removed from the ground truth."""
    return run.without_objects(~run.labels.matched & chosen)


def _right_first(run: MatchedRun, chosen: Bools | bool = True) -> Curve:
    """All wrong detections rank below all right ones; ``chosen`` is not used."""
    return run.right_first()


_RECORDS = (
    ErrorType(
        name="cls",
        label="cls",
        noun="classification",
        description="classification: wrong category",
        caption="{category}, but is {object}",
        colour="magenta",
        fix=partial(_correct, CLS, move=True),
        code=CLS,
        size_of_object=True,
    ),
    ErrorType(
        name="loc",
        label="loc",
        noun="localisation",
        description="localisation: {shape} overlaps too little",
        caption="{category}, {shape} overlaps too little",
        colour="cyan",
        fix=partial(_correct, LOC),
        code=LOC,
        size_of_object=True,
    ),
    ErrorType(
        name="both",
        label="both",
        noun="errors of both category and localisation",
        description="wrong category and too little overlap",
        caption="{category}, wrong class and too little overlap",
        colour="blue",
        fix=partial(_correct, BOTH),
        code=BOTH,
    ),
    ErrorType(
        name="dup",
        label="dup",
        noun="duplicates",
        description="duplicate of a correct detection",
        caption="{category}, duplicate",
        colour="yellow",
        fix=partial(_correct, DUP),
        code=DUP,
    ),
    ErrorType(
        name="bg",
        label="bg",
        noun="background",
        description="background: no object there",
        caption="{category}, no object annotated here",
        colour="red",
        fix=partial(_correct, BG),
        code=BG,
    ),
    ErrorType(
        name="miss",
        label="miss",
        noun="missed objects",
        description="missed object: no match or near match",
        caption="{object} missed",
        colour="green",
        fix=_forgive_missed,
        size_of_object=True,
    ),
    ErrorType(
        name="fp",
        label="FP",
        noun="all false positives (FP)",
        description="all false positives",
        colour="",
        fix=_right_first,
        is_total=True,
    ),
    ErrorType(
        name="fn",
        label="FN",
        noun="all false negatives (FN)",
        description="all false negatives: objects not found",
        colour="",
        fix=_forgive_unfound,
        is_total=True,
    ),
)
ERROR_TYPES = {one.name: one for one in _RECORDS}
ERRORS = tuple(one.name for one in _RECORDS if not one.is_total)
SPECIAL = tuple(one.name for one in _RECORDS if one.is_total)
_NAMES = {one.code: one.name for one in _RECORDS if one.code is not None}
_NAMES |= {
    TRUE_POSITIVE: "tp",
    IGNORED: "ignored",
    OVER_CAP: "over-cap",
    LOW_SCORE: "low-score",
    UNCHECKED: "unchecked",
}
LABEL_NAMES = tuple(_NAMES[code] for code in sorted(_NAMES))  # by the code in `Labels.error`
