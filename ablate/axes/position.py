"""Positional information: a relative bias and an absolute embedding, each pre-trained, random, zero or none."""

from ablate.axes.base import Axis, Options, Variant, vit_of
from ablate.config import RunConfig

KEY = "model.backbone.position"
TREATMENTS = (
    ("pt", "rand"),  # BEiT's default
    ("zero", "rand"),
    ("zero", "pt"),  # the default of MAE and of every model without a relative bias
    ("none", "pt"),
    ("none", "rand"),
    ("rand", "rand"),
    ("zero", "none"),
    ("none", "none"),
)


def _variants(base: RunConfig, _: Options) -> tuple[Variant, ...]:
    own = vit_of(base, "position").position
    treatments = dict.fromkeys((*TREATMENTS, (own.relative, own.absolute)))
    return tuple(_variant(relative, absolute, base) for relative, absolute in treatments)


def _variant(relative: str, absolute: str, base: RunConfig) -> Variant:
    missing = "pt" in (relative, absolute) and base.init.weights == "none"
    return Variant(
        name=f"rel {relative}, abs {absolute}",
        changes={f"{KEY}.relative": relative, f"{KEY}.absolute": absolute},
        note="blind to place but for the windows and the convolutions" if relative == absolute == "none" else "",
        blocked="needs pre-trained weights in the base: --set init.weights=FILE" if missing else None,
    )


AXIS = Axis(
    name="position",
    title="Relative and absolute positional information",
    source="arXiv 2111.11429, Table 4",
    touches=frozenset({f"{KEY}.relative", f"{KEY}.absolute"}),
    variants=_variants,
)
