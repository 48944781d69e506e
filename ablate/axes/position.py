"""Positional information: a relative bias and an absolute embedding, each pre-trained, random, zero or none.

On the base's own initialisation, or on weights given for the axis: of one kind in all treatments, of several in the
rows of the paper's table.
"""

from collections.abc import Sequence

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
TABLE = {"beit": (("pt", "rand"), ("zero", "rand"), ("zero", "pt")), "mae": (("zero", "pt"), ("none", "pt"))}


def _variants(base: RunConfig, options: AxisOptions) -> tuple[Variant, ...]:
    own = vit_of(base, "position").position
    check_options(options, KINDS)
    if not options.weights:
        treatments = dict.fromkeys((*TREATMENTS, (own.relative, own.absolute)))
        return tuple(_variant(treatment, base) for treatment in treatments)
    several = len(options.weights) > 1
    return tuple(
        _of_weights(kind, file, treatment, base, f"{TITLES[kind]}, " if several else "")
        for kind, file in options.weights.items()
        for treatment in _rows(kind, file, several)
    )


def _rows(kind: str, file: str, several: bool) -> Sequence[Treatment]:
    """The treatments of weights, their default first."""
    default = ("pt", "rand") if kind == "beit" else ("zero", "pt")
    if not several:
        return tuple(dict.fromkeys((default, *TREATMENTS)))
    rows = TABLE.get(kind, TABLE["mae"])
    return [row for row in rows if row[1] != "pt" or read_facts_of_kind(kind, file).absolute]


def _of_weights(kind: str, file: str, treatment: Treatment, base: RunConfig, prefix: str) -> Variant:
    facts, (relative, absolute) = read_facts_of_kind(kind, file), treatment
    lacks = [
        name
        for name, wanted, there in (
            ("relative bias", relative == "pt", facts.relative != "none"),
            ("absolute embedding", absolute == "pt", facts.absolute),
        )
        if wanted and not there
    ]
    return Variant(
        name=f"{prefix}{_name(treatment)}",
        changes={**init_settings(kind, base, file), f"{KEY}.relative": relative, f"{KEY}.absolute": absolute},
        note=_note(treatment),
        blocked=f"its weights, of {facts.family}, have no {lacks[0]}" if lacks else None,
    )


def _variant(treatment: Treatment, base: RunConfig) -> Variant:
    made = base.init.pretraining != "none"
    blocked = None
    if made and treatment[0] == "pt":
        blocked = "its weights, made in the house, have no relative bias"
    elif "pt" in treatment and not made and base.init.weights == "none":
        blocked = "needs pre-trained weights: pass --weights mae=FILE or --weights beit=FILE"
        if treatment[0] != "pt" and mae_recipe(base) is not None:
            blocked += f", or choose --base {EMBEDDED}, whose weights are made here"
    return Variant(
        name=_name(treatment),
        changes={f"{KEY}.relative": treatment[0], f"{KEY}.absolute": treatment[1]},
        note=_note(treatment),
        blocked=blocked,
    )


def _name(treatment: Treatment) -> str:
    return f"rel {treatment[0]}, abs {treatment[1]}"


def _note(treatment: Treatment) -> str:
    return "blind to place but for the windows and the convolutions" if set(treatment) == {"none"} else ""


AXIS = Axis(
    name="position",
    title="Relative and absolute positional information",
    source="arXiv 2111.11429, Table 4",
    allowed_keys=INIT.allowed_keys,
    variants=_variants,
    takes_weights=True,
)
