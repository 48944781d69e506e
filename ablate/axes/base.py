"""The contract of an axis: one factor, its variants, and the only keys that it may change."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

T = TypeVar("T")


class AxisOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Options of the command line that the variants depend on.

    Attributes:
        weights: files by name (``mae``, ``beit``, epochs such as ``100``).
        schedule: of the axis ``init``: all variants train as long as the base, or each for the paper's best length.
        paper_hardware: cap the memory of a variant that ran out of it in the paper at what the paper's GPUs had.
    """

    weights: Mapping[str, str] = {}
    schedule: Literal["same", "best"] = "same"
    paper_hardware: bool = False


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One setting of the factor.

    Attributes:
        name: short, unique on its axis.
        changes: dotted key of the config -> value, on top of the base.
        note: a remark for the reader, in one sentence.
        needs: names of run folders that must be finished before.
        blocked: why it cannot run yet, and what to do; None if it can.
        number: its value on a numeric axis.
        same_result_as: the variant that computes the same function in another way; only the cost differs.
    """

    name: str
    changes: Mapping[str, Any]
    note: str = ""
    needs: tuple[str, ...] = ()
    blocked: str | None = None
    number: float | None = None
    same_result_as: str | None = None


class Axis(msgspec.Struct, frozen=True, kw_only=True):
    """A factor to study.

    Attributes:
        name: on the command line.
        title: what is varied, as a heading.
        source: the paper or person that asked the question.
        allowed_keys: the only keys, or groups of keys, that its variants may change.
        variants: from the base config and the options to the variants, in the order of the tables.
        baseline: the variant to compare with; none: the one that changes nothing of the base, or else the first.
        unit: of a numeric axis, such as epochs; empty if the variants are not numbers.
        takes_weights: whether ``AxisOptions.weights`` make variants.
        any_base: whether it can vary any config, also one with ``engine: command``; else only a detector trained here.
    """

    name: str
    title: str
    source: str
    allowed_keys: frozenset[str]
    variants: Callable[[Any, AxisOptions], tuple[Variant, ...]]  # of a RunConfig, unless ``any_base``
    baseline: str | None = None
    unit: str = ""
    takes_weights: bool = False
    any_base: bool = False


def variants_from(group: str, rows: Iterable[tuple[str, Mapping[str, Any], str]]) -> tuple[Variant, ...]:
    """Variants from a table.

    Args:
        group: the group of the config that contains the settings, such as ``model.pyramid``.
        rows: the name, the settings by their keys in the group, and the note of each variant.

    >>> [variant.changes for variant in variants_from("model.pyramid", [("simple pyramid", {"type": "simple"}, "")])]
    [{'model.pyramid.type': 'simple'}]
    """
    return tuple(
        Variant(name=name, changes={f"{group}.{key}": value for key, value in settings.items()}, note=note)
        for name, settings, note in rows
    )


def own_and(own: T, values: Sequence[T]) -> list[T]:
    """The values of an axis, and the base's own value if it is not among them.

    >>> own_and(0.85, ["none", 0.9]), own_and("none", ["none", 0.9])
    (['none', 0.9, 0.85], ['none', 0.9])
    """
    return list(dict.fromkeys([*values, own]))


def is_within(key: str, allowed_keys: frozenset[str]) -> bool:
    """Whether a dotted key is allowed or lies in an allowed group; ``images``, the old name of a limit, counts too.

    >>> is_within("train.lr", frozenset({"train"})), is_within("training", frozenset({"train"}))
    (True, False)
    >>> is_within("data.train.limit", frozenset({"data.train.images"}))
    True
    """
    spellings = (key, f"{key.removesuffix('limit')}images") if key.endswith(".limit") else (key,)
    return any(one == allowed or one.startswith(f"{allowed}.") for one in spellings for allowed in allowed_keys)
