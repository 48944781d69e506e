"""Published numbers, ``results/paper/<axis>.yaml``, each with its source, and when a run may stand beside one."""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ablate.axes.base import is_within
from ablate.config.backbone import model_size
from ablate.config.schema import Coco, Part, RunConfig
from ablate.config.yaml import load_config, parse, read_yaml
from ablate.studies.study import leaves

Kind = Literal["box", "mask"]
_PACKAGE = Path(__file__).resolve().parents[1]
# COCO 2017: images and annotations of the validation set, by which it is known again.
COCO_VALIDATION = (5_000, 36_781)
# The preset of a formula and size, and the keys that belong to no formula: paths, and how things are computed.
FORMULAS = {("vitdet", "vit-b"): "vitdet-b-coco", ("vitdet", "vit-l"): "vitdet-l-coco"}
FREE = frozenset(
    {"engine", "seed", "data.train", "data.validation", "init.weights"}
    | {f"train.{key}" for key in ("epochs", "iterations", "precision", "images_per_norm", "memory_cap_gib")}
    | {"train.compile", "train.channels_last"}
    | {f"model.backbone.attention.{key}" for key in ("kernel", "checkpoint")}
)


class Finding(Part, frozen=True, kw_only=True):
    """One published result, on COCO 2017. What the source does not say is left out, and matches no run."""

    variant: str  # as the axis calls it
    size: str  # as `ablate.axes.base` calls it
    source: Annotated[str, Meta(min_length=1)]  # paper and table
    init: str = ""  # random, supervised, MoCo v3, BEiT, MAE
    epochs: float | None = None
    iterations: int | None = None  # as many optimizer steps are the epochs in the source's own config
    schedule: str = ""  # cosine, step
    formula: Literal["", "vitdet"] = ""  # all else is as in the preset of this formula and size
    box_ap: float | None = None
    mask_ap: float | None = None
    out_of_memory: bool = False
    derived: bool = False  # it follows from other numbers of the source, which does not print it
    note: str = ""

    @property
    def column(self) -> tuple[str, str, str]:
        """The column in which it may be compared: source, size, and special conditions."""
        return self.source, self.size, self.note

    def ap(self, kind: Kind) -> float | None:
        """AP of boxes or of masks, in points."""
        return self.box_ap if kind == "box" else self.mask_ap

    @property
    def length(self) -> str:
        """Length of the training, in words; empty if the source does not state it."""
        return "" if self.epochs is None else f"{self.epochs:g} epochs"

    @property
    def training(self) -> str:
        """Initialisation and schedule in words."""
        known = (self.init, self.length, self.schedule, "out of memory" * self.out_of_memory, "derived" * self.derived)
        return ", ".join(filter(None, (*known, self.note)))


class PublishedCost(Part, frozen=True, kw_only=True):
    """The cost of a variant in a source, relative to windows alone in the same source."""

    variant: str
    size: str
    source: Annotated[str, Meta(min_length=1)]
    training_memory: float
    test_time: float
    note: str = ""


class Findings(Part, frozen=True, kw_only=True):
    """The content of one file of published numbers."""

    findings: tuple[Finding, ...] = ()
    costs: tuple[PublishedCost, ...] = ()
    cautions: tuple[str, ...] = ()  # sentences that are shown wherever the numbers are


def published_folder() -> Path:
    """``results/paper`` in a source tree, ``ablate/paper`` in an installed package."""
    installed = _PACKAGE / "paper"
    return installed if installed.is_dir() else _PACKAGE.parent / "results" / "paper"


def is_of(finding: Finding, variant: str) -> bool:
    """Whether a published number is of a variant, which a study of several initialisations names with its own first."""
    return variant in (finding.variant, f"{finding.init}, {finding.variant}")


@cache
def published_of(axis: str) -> Findings:
    """The published numbers of an axis; empty if there is no file of its name."""
    path = published_folder() / f"{axis}.yaml"
    return parse(read_yaml(path), Findings, str(path)) if path.is_file() else Findings()


def findings_of(axis: str) -> tuple[Finding, ...]:
    """The published results of an axis."""
    return published_of(axis).findings


def matches(
    finding: Finding,
    config: RunConfig,
    validation: tuple[int, int],
    initialisation: str = "random",
    allowed_keys: Iterable[str] = (),
) -> bool:
    """Whether a run may stand beside a published number: same data, size, initialisation and schedule.

    Where the source's formula is a preset, the run is that preset but for what its study varies.

    Args:
        finding: of the variant that the run is.
        config: of the run.
        validation: its validation set, images and annotations.
        initialisation: what it started from, as its manifest has it.
        allowed_keys: what its study may change.
    """
    train = config.data.train
    on_coco = validation == COCO_VALIDATION and isinstance(train, Coco) and "train2017" in Path(train.annotations).name
    as_long = finding.epochs == config.train.epochs or finding.iterations == config.train.iterations
    return (
        on_coco
        and finding.size == model_size(config.model)
        and finding.init == initialisation
        and as_long
        and finding.schedule == config.train.schedule
        and (not finding.formula or _follows(config, FORMULAS[finding.formula, finding.size], allowed_keys))
    )


def _follows(config: RunConfig, preset: str, allowed_keys: Iterable[str]) -> bool:
    """Whether a run is a preset, but for what may differ."""
    may_differ = FREE | frozenset(allowed_keys)
    own, theirs = (leaves(msgspec.to_builtins(one)) for one in (config, load_config(preset)))
    return all(own.get(key) == theirs.get(key) or is_within(key, may_differ) for key in {*own, *theirs})
