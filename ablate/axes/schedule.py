"""How long to fine-tune: 25 to 400 epochs, every length its own full schedule down to zero.

A base that counts in iterations gets the same ratios around its own length, which is taken for the 200 epochs at which
the paper's random initialisation peaks.
"""

from ablate.axes.base import Axis, AxisOptions, Variant
from ablate.config.schema import RunConfig

EPOCHS = (25, 50, 100, 200, 400)
PEAK = 200


def _variants(base: RunConfig, _: AxisOptions) -> tuple[Variant, ...]:
    iterations, epochs = base.train.iterations, base.train.epochs
    if isinstance(iterations, int):
        lengths = sorted({*(max(1, round(iterations * length / PEAK)) for length in EPOCHS), iterations})
        return tuple(_variant("iterations", length) for length in lengths)
    assert isinstance(epochs, float)
    return tuple(_variant("epochs", length) for length in sorted({*map(float, EPOCHS), epochs}))


def _variant(unit: str, length: float) -> Variant:
    return Variant(
        name=f"{length:g} {unit}",
        changes={f"train.{unit}": int(length) if length == int(length) else length},
        number=length,
    )


AXIS = Axis(
    name="schedule",
    title="Length of fine-tuning",
    source="arXiv 2111.11429, Figure 2",
    allowed_keys=frozenset({"train.epochs", "train.iterations"}),
    variants=_variants,
    unit="length of fine-tuning",
)
