"""From the folder of a run to the prediction file inside it, and to the ground truth where the folder tells it.

Known are what detectron2 leaves (its ``OUTPUT_DIR``, the ``inference`` in it, or one data set's folder in that) and a
run folder of this project, whichever engine filled it. What the latter was measured on is in its config, which the
analysis does not read: whoever calls hands in the way there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from analysis.ground_truth import read_ground_truth
from analysis.refusal import BadInput

DETECTRON2 = "coco_instances_results.json"
# COCOEvaluator writes where it is told: train_net.py says `inference`, with several data sets a folder for each.
DETECTRON2_PLACES = ("", "inference*/", "inference*/*/")
CONVERTED = "_coco_format.json"  # detectron2's copy of a data set that was not registered as COCO
RUN = ("config.yaml", "manifest.json")  # with which a run folder counts as prepared
RUN_PREDICTIONS = "predictions.json"
LISTED = 6

TruthOf = Callable[[Path], Path]


@dataclass(frozen=True)
class Output:
    """A prediction file and, where the folder tells it, the ground truth that it was made for."""

    predictions: Path
    truth: Path | None


def open_output(path: Path, truth_of_run: TruthOf | None = None) -> Output:
    """A file as it is, a folder as ``look_into`` finds it."""
    return look_into(path, truth_of_run) if path.is_dir() else Output(path, None)


def common_truth(outputs: Sequence[Output]) -> Path | None:
    """The ground truth of all predictions; None where some do not tell theirs.

    Raises:
        BadInput: two of them differ in content.
    """
    told = [output.truth for output in outputs if output.truth is not None]
    if len(told) < len(outputs):
        return None
    first, others = told[0], {truth for truth in told if truth != told[0]}
    for other in sorted(others):
        if read_ground_truth(other).digest != read_ground_truth(first).digest:
            raise BadInput(f"{first} and {other} differ, so their runs cannot stand side by side; give one by --gt")
    return first


def look_into(folder: Path, truth_of_run: TruthOf | None = None) -> Output:
    """The one prediction file of a folder.

    Args:
        folder: of a detectron2 training or evaluation, or of a run of this project.
        truth_of_run: from a run folder of this project to its ground truth.

    Raises:
        BadInput: the folder is empty, holds none or several, or is of something else.
    """
    if all((folder / name).is_file() for name in RUN):
        if not (folder / RUN_PREDICTIONS).is_file():
            raise BadInput(f"{folder}: is a run without predictions yet; finish it by the command that started it")
        return Output(folder / RUN_PREDICTIONS, truth_of_run(folder) if truth_of_run else None)
    found = sorted({path for place in DETECTRON2_PLACES for path in folder.glob(place + DETECTRON2)})
    if folder / DETECTRON2 in found:
        found = [folder / DETECTRON2]  # whoever names the folder itself means what lies in it
    if len(found) > 1:
        raise BadInput(f"{folder}: holds several results; name one of {_listed(found)}")
    if not found:
        raise BadInput(f"{folder}: {_what_it_is_instead(folder)}")
    return Output(found[0], _converted(folder, found[0]))


def _converted(folder: Path, predictions: Path) -> Path | None:
    """The ground truth that detectron2 converted for this evaluation, if it is the only one."""
    above = predictions.parent
    while True:
        found = sorted(above.glob(f"*{CONVERTED}"))
        own = [path for path in found if path.name == predictions.parent.name + CONVERTED]
        if own or len(found) == 1:
            return (own or found)[0]
        if above == folder or found:
            return None
        above = above.parent


def _what_it_is_instead(folder: Path) -> str:
    """What a folder without known predictions seems to be, and what to do."""
    inside = sorted(folder.iterdir())
    if not inside:
        return "is an empty folder; name a results file or the output folder of detectron2"
    if (folder / "metrics.json").is_file() and any(folder.glob("model_*.pth")):
        return (
            f"is a detectron2 training without an evaluation ({DETECTRON2} is missing); run it with --eval-only, its "
            "COCOEvaluator having an output_dir"
        )
    if (folder / "instances_predictions.pth").is_file():
        return f"holds detectron2's instances_predictions.pth but no {DETECTRON2}; evaluate again to have it written"
    documents = [path for path in inside if path.name.removesuffix(".gz").endswith(".json")]
    if documents:
        return f"is no output folder of detectron2 and no run of ablate; name a COCO results file: {_listed(documents)}"
    return f"holds no {DETECTRON2} and no other JSON file; name a results file in COCO's format"


def _listed(paths: list[Path]) -> str:
    names = [str(path) for path in paths[:LISTED]]
    return ", ".join(names) + (f" and {len(paths) - LISTED} more" if len(paths) > LISTED else "")
