"""What ``--out`` writes: the same findings as files for programs, papers and slides."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analysis.coco.ground_truth import GroundTruth
from analysis.evaluation.analysis import RunAnalysis
from analysis.evaluation.settings import Settings
from analysis.io import write_bytes
from analysis.render.errors import detections_frame, errors_frame, errors_markdown, gzipped_csv
from analysis.render.plots import errors_figure, where_figures
from analysis.render.slices import errors_printed, objects_frame, where_frames, where_printed


def write_outputs(
    out: Path,
    ground_truth: GroundTruth,
    settings: Settings,
    found: Sequence[RunAnalysis],
    crowding: NDArray[np.float64],
    document: bytes,
) -> list[str]:
    """Write every file and return their names; all are made before the first is written, and each appears whole.

    ``document`` is the JSON of ``--json``. The breakdown, the detections and the objects are always written, the
    parts where they were computed.

    Raises:
        BadInput: the folder cannot be written.
    """
    runs = [one.run for one in found]
    contents = {
        "errors.csv": errors_frame(runs).to_csv(index=False).encode(),
        "errors.json": document,
        "errors.md": errors_markdown(ground_truth, settings, runs).encode(),
        "errors.tex": errors_printed(ground_truth, settings, runs).latex().encode(),
        **_pictures("errors", errors_figure(runs)),
    }
    for name, frame in where_frames(ground_truth, found).items():
        contents[f"{name}.csv"] = frame.to_csv(index=False).encode()
    for name, pictures in where_figures(ground_truth, found).items():
        contents |= _pictures(name, pictures)
    for name, table in where_printed(ground_truth, settings, found).items():
        contents[f"{name}.md"] = table.markdown().encode()
        contents[f"{name}.tex"] = table.latex().encode()
    contents["detections.csv.gz"] = gzipped_csv(detections_frame(ground_truth, runs))
    contents["objects.csv.gz"] = gzipped_csv(objects_frame(ground_truth, found, crowding))
    for name, content in contents.items():
        write_bytes(out / name, content)
    return list(contents)


def _pictures(name: str, pictures: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{name}.{kind}": picture for kind, picture in pictures.items()}
