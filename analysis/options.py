"""Options that the verbs of ``analyze`` share."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from analysis.error_types import Settings


class IouType(StrEnum):
    """What is compared."""

    bbox = "bbox"
    segm = "segm"


class Convention(StrEnum):
    """Whose rules; docs/conventions.md lists the differences."""

    coco = "coco"
    tidecv = "tidecv"


Predictions = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME=]PREDICTIONS...",
        help="COCO results files, .json or .json.gz, output folders of detectron2, or folders of runs.",
        show_default=False,
    ),
]
Truth = Annotated[
    Path | None, typer.Option("--gt", metavar="GT", help="COCO instances file, .json or .json.gz.", show_default=False)
]
Kind = Annotated[IouType, typer.Option("--iou-type", help="Compare boxes or masks.")]
RespectIgnore = Annotated[
    bool, typer.Option("--respect-ignore", help="Leave out objects marked ignore=1 (VOC's difficult).")
]
DropUnknown = Annotated[
    bool, typer.Option("--drop-unknown", help="Leave out detections on images or categories the ground truth lacks.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
Verify = Annotated[bool, typer.Option("--verify", help="Recompute with tidecv and pycocotools; show the differences.")]
Root = Annotated[Path, typer.Option("--root", help="The folder that holds results/, to find the newest study in.")]
Iou = Annotated[float, typer.Option(help="IoU from which a detection is right.")]
BackgroundIou = Annotated[float, typer.Option(help="IoU up to which a detection is on nothing.")]
MaxDets = Annotated[int, typer.Option(help="Detections an image (coco: and category).", min=1)]
Rules = Annotated[Convention, typer.Option(help="Rules of COCOeval or of tidecv.")]


def settings_of(
    iou_type: IouType, iou: float, background_iou: float, max_dets: int, convention: Convention = Convention.coco
) -> "Settings":
    """The rules that were asked for.

    Raises:
        typer.BadParameter: thresholds that do not fit together.
    """
    from analysis.error_types import Settings

    if not 0 < background_iou <= iou <= 1:
        raise typer.BadParameter("needs 0 < --background-iou <= --iou <= 1", param_hint="--iou")
    return Settings(iou_type.value, iou, background_iou, max_dets, convention.value)
