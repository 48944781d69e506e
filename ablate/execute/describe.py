"""A config before anything runs: every field, parameters and cost of each part, levels, schedule, identities."""

import textwrap

import msgspec
import torch
from rich.console import RenderableType
from rich.syntax import Syntax
from rich.text import Text

from ablate.config.identity import evaluation_identity, training_identity
from ablate.config.schema import RunConfig, Shapes
from ablate.config.yaml import dump_config
from ablate.data.fingerprint import DataSet, read_data_set
from ablate.data.shapes import CLASSES
from ablate.data.sources import locate, shapes_folder
from ablate.detector.flops import Cost, decimals, detector_costs, total
from ablate.detector.init_weights import initial_digest, with_precision
from ablate.detector.mask_rcnn import build_detector
from ablate.detector.memory_forecast import with_images_per_norm
from ablate.detector.plugin import with_code
from ablate.engines.base import training_set
from ablate.execute.show_run import fact_grid
from ablate.runs.folder import Workspace
from ablate.train.distributed import device_of
from ablate.weights.convert import check_weights
from analysis.exceptions import BadInput
from analysis.render.screen import fixed_width
from analysis.render.table import Cell, Column, Table

CLASSES_WITHOUT_DATA = 80  # COCO's
SHORTEST_COMMENT = 16  # characters of a folded comment, in a narrow terminal


class Level(msgspec.Struct, frozen=True):
    """One feature map of the pyramid."""

    stride: int  # pixels
    channels: int


class Identities(msgspec.Struct, frozen=True):
    """See `ablate.config.identity`; 64 hex digits."""

    training: str
    evaluation: str


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """`describe --json`."""

    config: RunConfig
    classes: int
    parts: dict[str, Cost]  # of the detector, for one image at inference
    total: Cost
    levels: dict[str, Level]
    iterations: int | None  # none: epochs of a data set that is not here
    identities: Identities | None  # none: the data is not here
    notes: tuple[str, ...]


def describe(config: RunConfig, workspace: Workspace, device: str = "auto") -> Description:
    """Describe a config; the model is built without allocating memory, the data is read if it is there.

    Args:
        config: whose precision and images_per_norm may be `auto`.
        workspace: above `results/`, where the embedded data set lies.
        device: auto, cpu or cuda; resolves them.

    Raises:
        BadInput: the data or the weights cannot be used, or the device or precision is not there.
    """
    chosen = device_of(device)
    config = with_code(with_precision(config, chosen))
    check_weights(config)
    data, classes, notes = _read_data(config, workspace)
    config = with_images_per_norm(config, classes, workspace, chosen.type)
    iterations, identities = (None, None) if data is None else _iterations_and_identities(config, *data, workspace)
    with torch.device("meta"):
        detector = build_detector(config.model, classes)
    costs = detector_costs(detector, config.model.backbone.image_size)
    return Description(
        config=config,
        classes=classes,
        parts=costs,
        total=total(costs.values()),
        levels={name: Level(stride, detector.pyramid.channels) for name, stride in detector.pyramid.strides.items()},
        iterations=config.train.iterations if isinstance(config.train.iterations, int) else iterations,
        identities=identities,
        notes=notes,
    )


def _read_data(config: RunConfig, workspace: Workspace) -> tuple[tuple[DataSet, DataSet] | None, int, tuple[str, ...]]:
    """Training and validation data where they are there, the number of classes, and notes."""
    sources = (config.data.train, config.data.validation)
    made = shapes_folder(workspace).exists()
    if any(isinstance(source, Shapes) for source in sources) and not made:
        return None, len(CLASSES), ("no run id yet: the first run creates the embedded data set",)
    try:
        for source in sources:
            locate(source, workspace)
    except BadInput as error:
        note = f"no run id, and {CLASSES_WITHOUT_DATA} classes are assumed: {error}"
        return None, CLASSES_WITHOUT_DATA, (note,)
    first, second = (read_data_set(source, workspace) for source in sources)
    return (first, second), len(first.truth.category_id), ()


def _iterations_and_identities(
    config: RunConfig, first: DataSet, second: DataSet, workspace: Workspace
) -> tuple[int, Identities]:
    iterations = config.train.total_iterations(len(training_set(config, first.truth, first.files)))
    weights = initial_digest(config, workspace)
    return iterations, Identities(
        training_identity(config, first.digest, weights),
        evaluation_identity(config, first.digest, second.digest, weights),
    )


def description_screen(description: Description) -> list[RenderableType]:
    """What `describe` shows."""
    whole = description.total
    columns = [
        Column(name, precision=decimals([value], 2))
        for name, value in zip(("parameters M", "GMAC", "activations M"), _in_units(whole), strict=True)
    ]
    rows = [(name, *_in_units(part)) for name, part in description.parts.items()]
    last = tuple(Cell(value, bold=True) for value in ("in all", *_in_units(whole)))
    levels = ", ".join(f"{name} stride {level.stride}" for name, level in description.levels.items())
    channels = next(iter(description.levels.values())).channels
    facts = [("levels", f"{levels}; {channels} channels each"), ("classes", str(description.classes))]
    if description.iterations is not None:
        facts.append(("iterations", f"{description.iterations:,}"))
    if description.identities is not None:
        facts += msgspec.structs.asdict(description.identities).items()
    facts += (("note", note) for note in description.notes)
    return [
        Syntax(folded_comments(dump_config(description.config), fixed_width()), "yaml", background_color="default"),
        Table("", (Column("part", kind="text"), *columns), (*rows, last)),
        Text(
            "\nOne image at inference, 1,000 proposals, 20 detections with masks; 1 GMAC = 1e9 multiply-adds, "
            "the paper's GFLOPs.\n",
            style="dim",
        ),
        fact_grid(facts),
    ]


def folded_comments(text: str, width: int | None) -> str:
    """YAML whose comments behind a key continue on further lines, so that no line is cut.

    Args:
        text: YAML; comments begin with two spaces, ``#`` and a space.
        width: characters of a line; none: as many as needed.

    >>> print(folded_comments("lr: 8e-5  # peak learning rate", 26))
    lr: 8e-5  # peak learning
              # rate
    """
    lines: list[str] = []
    for line in text.splitlines():
        code, mark, comment = line.partition("  # ")
        if width is None or not mark or len(line) <= width:
            lines.append(line)
            continue
        first, *more = textwrap.wrap(comment, max(SHORTEST_COMMENT, width - len(code) - len(mark)))
        lines += [f"{code}{mark}{first}", *(f"{' ' * len(code)}{mark}{part}" for part in more)]
    return "\n".join(lines)


def _in_units(cost: Cost) -> tuple[float, float, float]:
    """Millions of parameters, GMAC, millions of activations."""
    return cost.parameters / 1e6, cost.macs / 1e9, cost.activations / 1e6
