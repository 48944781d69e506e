"""Positional information: a relative bias and an absolute embedding, each pre-trained, random, zero or none.

Variants start from the base's own initialisation, or from weights given for the axis: one kind is combined with all
treatments, several kinds give the rows of the paper's table.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.axes.init import AXIS as INIT
from ablate.axes.init import check_options
from ablate.axes.mae_recipe import EMBEDDED, mae_recipe
from ablate.config.backbone import vit_of
from ablate.config.schema import RunConfig
from ablate.weights.settings import KINDS, TITLES, init_settings, read_facts_of_kind

KEY = "model.backbone.position"
Treatment = tuple[str, str]  # of the relative bias, of the absolute embedding
TREATMENTS: tuple[Treatment, ...] = (
    ("pt", "rand"),  # BEiT's default
    ("zero", "rand"),
    ("zero", "pt"),  # the default of MAE and of every model without a relative bias
    ("none", "pt"),
    ("none", "rand"),
    ("rand", "rand"),
    ("zero", "none"),
    ("none", "none"),
)
# The rows of the paper's table for each kind of weights, their default first; those of MAE for every other kind.
TABLE = {"beit": (("pt", "rand"), ("zero", "rand"), ("zero", "pt")), "mae": (("zero", "pt"), ("none", "pt"))}


def _variants(base: RunConfig, options: AxisOptions) -> tuple[Variant, ...]:
    own = vit_of(base, "position").position
    check_options(options, KINDS)
    if not options.weights:
        treatments = dict.fromkeys((*TREATMENTS, (own.relative, own.absolute)))
        return tuple(_variant(treatment, _missing_from_base(treatment, base)) for treatment in treatments)
    several = len(options.weights) > 1
    return tuple(
        _variant(
            treatment,
            _missing_from_file(treatment, kind, file),
            init_settings(kind, base, file),
            f"{TITLES[kind]}, " if several else "",
        )
        for kind, file in options.weights.items()
        for treatment in _rows(kind, file, several)
    )


def _variant(
    treatment: Treatment, blocked: str | None, settings: Mapping[str, Any] | None = None, prefix: str = ""
) -> Variant:
    relative, absolute = treatment
    return Variant(
        name=f"{prefix}rel {relative}, abs {absolute}",
        changes={**(settings or {}), f"{KEY}.relative": relative, f"{KEY}.absolute": absolute},
        note="no positional information except from windows and convolutions" if relative == absolute == "none" else "",
        blocked=blocked,
    )


def _rows(kind: str, file: str, several: bool) -> Sequence[Treatment]:
    """The treatments of weights, their default first."""
    rows = TABLE.get(kind, TABLE["mae"])
    if not several:
        return tuple(dict.fromkeys((rows[0], *TREATMENTS)))
    return [row for row in rows if row[1] != "pt" or read_facts_of_kind(kind, file).absolute]


def _missing_from_file(treatment: Treatment, kind: str, file: str) -> str | None:
    """Why a treatment cannot start from a file: it has no such positions."""
    facts = read_facts_of_kind(kind, file)
    there = (("relative bias", facts.relative != "none"), ("absolute embedding", facts.absolute))
    lacking = [name for (name, has), how in zip(there, treatment, strict=True) if how == "pt" and not has]
    return f"its weights, of {facts.family}, have no {lacking[0]}" if lacking else None


def _missing_from_base(treatment: Treatment, base: RunConfig) -> str | None:
    """Why a treatment cannot start from what the base starts from."""
    if base.init.pretraining != "none":
        return "its weights, pre-trained here, have no relative bias" if treatment[0] == "pt" else None
    if "pt" not in treatment or base.init.weights != "none":
        return None
    made_here = treatment[0] != "pt" and mae_recipe(base) is not None
    advice = f", or choose --base {EMBEDDED}, whose weights are pre-trained by this program" if made_here else ""
    return f"needs pre-trained weights: pass --weights mae=FILE or --weights beit=FILE{advice}"


AXIS = Axis(
    name="position",
    title="Relative and absolute positional information",
    source="arXiv 2111.11429, Table 4",
    allowed_keys=INIT.allowed_keys,
    variants=_variants,
    takes_weights=True,
)
