"""Two files' categories compared by their ids and their names: equal ids mean nothing where the names differ."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from unicodedata import normalize

from analysis.coco.ground_truth import GroundTruth
from analysis.exceptions import BadInput

LISTED = 12


def category_conflict(path: Path, names: Mapping[int, str], other_path: Path, others: Mapping[int, str]) -> str:
    """Why a model trained on one data set cannot be evaluated on another; empty if their categories agree.

    They agree if both have the same ids, and each has the same name in both; without a name it agrees with any.

    Args:
        path: of the annotations of the training set.
        names: of their categories, by id; ``category ID`` stands for none.
        other_path: of the annotations of the validation set.
        others: of their categories.
    """
    if names.keys() != others.keys():
        differing, what = sorted(names.keys() ^ others.keys()), "category ids differ from"
        here, there = "only here", "only there"
    else:
        unnamed = {i for i in names if f"category {i}" in (names[i], others[i])}
        differing = [i for i in names if i not in unnamed and _plain(names[i]) != _plain(others[i])]
        what, here, there = "category names differ from", "here", "there"
    if not differing:
        return ""
    return (
        f"{other_path}: its {what} those of {path}, so a model trained on one cannot be evaluated on the other; number "
        f"the categories of both in the same way ({there}: {listed(names, differing)}; {here}: "
        f"{listed(others, differing)})"
    )


def match_categories(
    path: Path, names: Mapping[int, str], used: Iterable[int], ground_truth: GroundTruth
) -> tuple[dict[int, int | None], list[str]]:
    """The ground truth's category id of each category of a prediction file that names its categories.

    Args:
        path: of the predictions.
        names: its categories by their ids.
        used: the ids that its detections have.
        ground_truth: whose categories they are matched to.

    Returns:
        The id in the ground truth, none where it has no such category, by the id in the file, for those categories
        whose ids are not simply the same; and notes on what was decided.

    Raises:
        BadInput: ids and names contradict each other.
    """
    theirs = dict(zip(ground_truth.category_id, ground_truth.category_name, strict=True))
    used = tuple(used)
    named = {i: names[i] for i in used if i in names}
    if all(_plain(theirs.get(i, "")) == _plain(name) for i, name in named.items()):
        return {}, []
    of_name = {_plain(name): i for i, name in theirs.items()}
    known = {i: of_name[_plain(name)] for i, name in named.items() if _plain(name) in of_name}
    if not known:
        return {}, [
            f"category names differ from those of the ground truth ({listed(named)}; there {listed(theirs)}): "
            "matched by id"
        ]
    twice = [name for name, count in Counter(map(_plain, theirs.values())).items() if count > 1]
    clash = len(set(known.values())) < len(known) or any(_plain(name) in twice for name in named.values())
    moved = {i: to for i, to in known.items() if i != to}
    nameless = [i for i in used if i not in names and i in theirs]  # which may be moved too
    if clash or (moved and nameless) or (not moved and any(i in theirs for i in named.keys() - known.keys())):
        raise BadInput(
            f"{path}: its category ids and names contradict those of the ground truth (here: {listed(names)}; there: "
            f"{listed(theirs)}); write the ground truth's category ids"
        )
    note = (
        f"category ids differ from those of the ground truth: matched by name ({listed(named)}; there "
        f"{listed({to: theirs[to] for to in known.values()})})"
    )
    return {i: known.get(i) for i in named}, [note] if moved else []


def listed(names: Mapping[int, str], ids: Iterable[int] | None = None) -> str:
    """Categories in a message, by their ids."""
    chosen = sorted(names.keys() if ids is None else names.keys() & set(ids))
    more = f", ... ({len(chosen):,} in all)" if len(chosen) > LISTED else ""
    return ", ".join(f"{i} {names[i]}" for i in chosen[:LISTED]) + more or "none"


def _plain(name: str) -> str:
    """A name without what spellings differ in: case, the form of Unicode, and what separates words."""
    return " ".join(normalize("NFC", name).casefold().replace("_", " ").replace("-", " ").split())
