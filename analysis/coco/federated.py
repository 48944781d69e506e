"""Federated annotations, as LVIS has them (arXiv 1908.03195): in each image only some categories were looked for.

An image names, besides the categories of its objects, those that are known to be absent (``neg_category_ids``) and
those of which not every object is annotated (``not_exhaustive_category_ids``). A detection of any other category says
nothing and is not evaluated; one of a category that is not exhaustively annotated is right or not evaluated.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from analysis.arrays import Bools, Ints, distinct, look_up

ABSENT, INCOMPLETE = LVIS_KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
FREQUENCIES = ("r", "c", "f")  # of a category, by the training images that have it: rare, common, frequent
REMEDY = "write LVIS's fields for every image, or leave all of them out for exhaustive annotations"


@dataclass(frozen=True, eq=False)
class Federated:
    """Which categories were looked for in which images; a key is image * K + category, by index."""

    checked: Ints  # keys, ascending: annotated, or known to be absent
    incomplete: Ints  # keys, ascending: not every object is annotated
    frequency: Ints  # [K] place in FREQUENCIES; -1: the file does not say
    categories: int  # K

    def is_checked(self, image: Ints, category: Ints) -> Bools:
        """bool[N] whether a category was looked for in an image, for i64[N] of each."""
        return self._are_listed(image, category, self.checked)

    def is_incomplete(self, image: Ints, category: Ints) -> Bools:
        """bool[N] whether objects of a category may be missing from the annotations of an image."""
        return self._are_listed(image, category, self.incomplete)

    def _are_listed(self, image: Ints, category: Ints, keys: Ints) -> Bools:
        return look_up(len(image), keys, lambda block: image[block] * self.categories + category[block])


def build_federated(
    absent: Sequence[Sequence[int]],
    incomplete: Sequence[Sequence[int]],
    frequency: Sequence[str | None],
    index: dict[int, int],
    image: Ints,
    category: Ints,
) -> Federated:
    """The rules from lists of category ids by image, in the order of the images' indices.

    Args:
        absent: ``neg_category_ids`` of each image.
        incomplete: ``not_exhaustive_category_ids`` of each image.
        frequency: of each category, by index.
        index: of each category id.
        image: i64[M] of each object.
        category: i64[M] of each object.

    Raises:
        KeyError: a category id is unknown.
        ValueError: a frequency is unknown.
    """
    classes = len(index)

    def keys(lists: Sequence[Sequence[int]]) -> Ints:
        found = [place * classes + index[one] for place, ids in enumerate(lists) for one in ids]
        return distinct(np.array(found, dtype=np.int64))

    return Federated(
        checked=distinct(np.concatenate([keys(absent), image * classes + category])),
        incomplete=keys(incomplete),
        frequency=np.array([-1 if one is None else FREQUENCIES.index(one) for one in frequency], dtype=np.int64),
        categories=classes,
    )


def federated_faults(
    images: Sequence[dict[str, Any]], categories: Sequence[dict[str, Any]]
) -> Iterator[tuple[str, str]]:
    """What is wrong with the federated fields of a document, kind and sentence of each; nothing without such fields."""
    some = {key: [place for place, image in enumerate(images) if image.get(key) is not None] for key in LVIS_KEYS}
    if not any(some.values()):
        return
    known = {category.get("id") for category in categories}
    for key, places in some.items():
        if len(places) < len(images):
            first = next(place for place, image in enumerate(images) if image.get(key) is None)
            with_fields = max(map(len, some.values()))
            yield (
                "LVIS fields missing",
                f"images[{first}] (id {images[first].get('id')!r}) has no {key} but {with_fields:,} of "
                f"{len(images):,} images have LVIS's fields; {REMEDY}",
            )
    for place, image in enumerate(images):
        for key in LVIS_KEYS:
            ids = image.get(key)
            who = f"{key} of images[{place}] (id {image.get('id')!r})"
            if ids is None:
                continue
            if not isinstance(ids, list) or not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
                yield "bad LVIS field", f"{who} is not a list of category ids; {REMEDY}"
                continue
            unknown = sorted(set(ids) - known)
            if unknown:
                yield (
                    "unknown category",
                    f"{who} contains {unknown[0]}, which is not one of the categories; add that category or "
                    "remove the id",
                )
    letters = [category.get("frequency") for category in categories]
    for place, letter in enumerate(letters):
        if letter is None and any(one is not None for one in letters):
            yield (
                "bad frequency",
                f"categories[{place}] has no frequency but others do; give all categories one (r, c or f), or none",
            )
        elif letter is not None and letter not in FREQUENCIES:
            yield (
                "bad frequency",
                f"the frequency {letter!r} of categories[{place}] is not r, c or f; write one of these",
            )
