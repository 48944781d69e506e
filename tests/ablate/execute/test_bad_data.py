"""Data that cannot be learned or measured is refused before the first iteration, by the sentence of `data check`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ablate.config.schema import Coco
from ablate.data.check import check, check_annotations, check_pair
from ablate.data.sources import Files
from ablate.execute.run import execute
from ablate.runs.folder import Workspace
from ablate.train.outcome import RuntimeOptions
from analysis import read_ground_truth
from analysis.exceptions import BadInput
from tests.ablate.tiny import tiny_config, write_data

Change = Callable[[dict[str, Any]], None]


def changed(folder: Path, change: Change) -> Coco:
    data = write_data(folder)
    document = json.loads(Path(data.annotations).read_text())
    change(document)
    Path(data.annotations).write_text(json.dumps(document))
    return data


def files(data: Coco) -> Files:
    return Files(Path(data.annotations), Path(data.images))


def refusal(root: Path, train: Coco, validation: Coco) -> str:
    """Why a run on the data is refused, without a folder of it."""
    config = tiny_config(train)
    config = msgspec.structs.replace(config, data=msgspec.structs.replace(config.data, validation=validation))
    with pytest.raises(BadInput) as caught:
        execute(config, Workspace(root), RuntimeOptions(device="cpu"))
    assert not (root / "results" / "runs").exists()
    return str(caught.value)


def polygon(*parts: list[float]) -> Change:
    return lambda document: document["annotations"][0].update(segmentation=list(parts))


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ([[1, 1, 9, 1]], "is not a polygon: it needs at least 3 points"),
        ([[1, 1, 9, 1, 9, 9, 5]], "it has an odd number of coordinates"),
        ({"size": [3, 3], "counts": [9]}, "is 3 x 3 pixels"),
    ],
)
@pytest.mark.parametrize("which", ["train", "validation"])
def test_a_bad_mask_in_either_set(which: str, segmentation: Any, words: str, tmp_path: Path) -> None:
    bad = changed(tmp_path / "bad", lambda document: document["annotations"][0].update(segmentation=segmentation))
    good = write_data(tmp_path / "good")
    sentence = refusal(tmp_path, *((bad, good) if which == "train" else (good, bad)))
    assert words in sentence
    (finding,) = [one for one in check("x", files(bad)).findings if one.level == "error"]
    assert finding.examples == (sentence.removeprefix(f"{bad.annotations}: "),)


def test_a_part_without_area_is_left_out_and_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = changed(tmp_path / "data", polygon([1, 1, 9, 1, 9, 9], [5, 5]))
    report = check("x", files(data))
    assert report.errors == 0
    told = "1 masks have polygon parts with fewer than 3 points: these parts have no area and are left out"
    assert [text for one in report.findings for text in one.examples] == [told]
    truths = [read_ground_truth(one.annotations) for one in (write_data(tmp_path / "train"), data)]
    check_annotations(*truths, masks=True)
    assert caplog.messages == [f"{data.annotations}: {told}"]


def swapped(document: dict[str, Any]) -> None:
    first, second = document["categories"][:2]
    first["name"], second["name"] = second["name"], first["name"]


def renumbered(document: dict[str, Any]) -> None:
    for record in (*document["categories"], *document["annotations"]):
        key = "category_id" if "category_id" in record else "id"
        record[key] += 1


@pytest.mark.parametrize(
    ("change", "words"),
    [(swapped, "its category names differ from those of"), (renumbered, "its category ids differ from those of")],
)
def test_sets_that_number_their_categories_otherwise(change: Change, words: str, tmp_path: Path) -> None:
    train, validation = write_data(tmp_path / "train"), changed(tmp_path / "validation", change)
    sentence = refusal(tmp_path, train, validation)
    assert words in sentence
    names = json.loads(Path(train.annotations).read_text())["categories"]
    assert all(f"{one['id']} {one['name']}" in sentence for one in names[:1])
    (finding,) = [one for one in check_pair(files(train), files(validation)) if one.level == "error"]
    assert finding.examples == (sentence,)


def test_names_in_another_spelling_are_the_same(tmp_path: Path) -> None:
    def shout(document: dict[str, Any]) -> None:
        for category in document["categories"]:
            category["name"] = category["name"].upper()

    pair = check_pair(files(write_data(tmp_path / "train")), files(changed(tmp_path / "validation", shout)))
    assert [one for one in pair if one.level == "error"] == []
