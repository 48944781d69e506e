"""`data init`: folders as tools lay them out become a data YAML that is checked, and nothing is guessed."""

import json
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from PIL import Image

from ablate.config.schema import Coco
from ablate.data.fingerprint import read_data_set
from ablate.data.sources import data_from, locate
from ablate.runs.folder import Workspace
from tests.command_line import run

SIDE = 24  # pixels


def coco(path: Path, names: Sequence[str], **more: object) -> None:
    """Annotations of images with these names, a box each."""
    images = [{"id": n, "file_name": name, "width": SIDE, "height": SIDE} for n, name in enumerate(names)]
    box = {"category_id": 1, "bbox": [2, 2, 9, 9], "area": 81, "iscrowd": 0, "segmentation": [[2, 2, 11, 2, 11, 11]]}
    annotations = [{"id": n + 1, "image_id": n, **box} for n in range(len(names))]
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}], **more}
    path.write_text(json.dumps(document))


def paint(folder: Path, names: Sequence[str]) -> None:
    """Images that differ, so that no two sets share one."""
    for number, name in enumerate(names):
        path = folder / name.replace("\\", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        colour = (7 * number % 255, sum(map(ord, str(path))) % 255, 9)
        Image.new("RGB", (SIDE, SIDE), colour).save(path)


def coco_root(root: Path) -> None:
    for split in ("train", "val"):
        names = [f"{split}{n}.png" for n in range(3)]
        coco(root / "annotations" / f"instances_{split}2017.json", names)
        coco(root / "annotations" / f"person_keypoints_{split}2017.json", names)
        paint(root / f"{split}2017", names)
    (root / "annotations" / "captions_val2017.json").write_text('{"images": [], "annotations": []}')


def roboflow(root: Path) -> None:
    for split in ("train", "valid", "test"):
        names = [f"{split}-{n}_jpg.rf.0a1b.png" for n in range(3)]
        coco(root / split / "_annotations.coco.json", names)
        paint(root / split, names)
    (root / "README.roboflow.txt").write_text("cats")


def cvat(root: Path) -> None:
    for subset in ("Train", "Validation"):
        names = [f"{subset}/{n}.png" for n in range(3)]
        coco(root / "annotations" / f"instances_{subset}.json", [name.partition("/")[2] for name in names])
        paint(root / "images", names)


def fiftyone(root: Path) -> None:
    for split in ("train", "validation"):
        names = [f"{split}{n}.png" for n in range(3)]
        coco(root / split / "labels.json", names)
        paint(root / split / "data", names)


def beside(root: Path) -> None:
    """Two files above one folder of images."""
    coco(root / "train.json", ["a.png", "b.png"])
    coco(root / "val.json", ["c.png"])
    paint(root / "images", ["a.png", "b.png", "c.png"])


def label_studio(root: Path) -> None:
    names = [f"images\\{n}.png" for n in range(10)]
    coco(root / "result.json", names, info={"contributor": "Label Studio"})
    paint(root, names)


def cvat_without_subsets(root: Path) -> None:
    names = [f"{n}.png" for n in range(10)]
    coco(root / "annotations" / "instances_default.json", names)
    paint(root / "images" / "default", names)


def init(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return run(monkeypatch, "data", "init", *arguments)


@pytest.mark.parametrize("make", [coco_root, roboflow, cvat, fiftyone, beside])
def test_an_export_becomes_a_checked_yaml(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "my cats"
    make(root)
    before = sorted(root.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert init(monkeypatch, root) == 0
    shown = capsys.readouterr().out
    assert "train: " in shown
    assert "written: my cats.yaml" in shown
    assert "--data 'my cats.yaml' --name first --dry-run" in shown
    assert sorted(root.rglob("*")) == before
    data = data_from([str(tmp_path / "my cats.yaml")])
    assert isinstance(data.train, Coco)
    assert "train" in data.train.annotations.lower()
    assert "val" in data.validation.annotations.lower()  # type: ignore[union-attr]
    for source in (data.train, data.validation):
        read_data_set(source, Workspace(tmp_path), keep=False)  # every image is there
    assert ("left out: " in shown) == (make is roboflow)
    monkeypatch.chdir(root)  # relative paths count from the file
    assert data_from([str(tmp_path / "my cats.yaml")]) == data


def test_without_masks_the_next_command_trains_boxes_alone_and_any_other_is_refused_before_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    coco_root(tmp_path / "cats")
    for path in (tmp_path / "cats" / "annotations").glob("instances_*.json"):
        path.write_text(path.read_text().replace("[[2, 2, 11, 2, 11, 11]]", "[]"))
    monkeypatch.chdir(tmp_path)
    assert init(monkeypatch, "cats") == 0
    shown = capsys.readouterr().out
    assert "3 objects without masks, 0 crowds" in shown
    words = shlex.split(shown.partition("next: ")[2])
    words = words[words.index("ablate") :]
    assert run(monkeypatch, *words) == 0
    assert "train: cats/annotations/instances_train2017.json" in capsys.readouterr().out
    place = words.index("--set")
    assert words[place + 1] == "model.detector.masks=false"
    assert run(monkeypatch, *words[:place], *words[place + 2 : -1]) == 4
    refusal = capsys.readouterr().err
    assert "3 of 3 objects have no segmentation" in refusal
    assert "train boxes alone: --set model.detector.masks=false" in refusal
    assert not (tmp_path / "configs").exists()


@pytest.mark.parametrize("make", [label_studio, cvat_without_subsets])
def test_one_set_is_split_by_lists(
    make: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    assert init(monkeypatch, "cats") == 4
    assert (
        "has no validation set; hold out a part of the training images with --hold-out 0.2" in capsys.readouterr().err
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cats"]

    assert init(monkeypatch, "cats", "--hold-out", "0.3", "--seed", "1") == 0
    assert "validation: 3 images, listed in cats-validation.txt" in capsys.readouterr().out
    data = data_from(["cats.yaml"])
    names = [
        {
            image["file_name"]
            for image in json.loads(locate(source, Workspace(tmp_path)).annotations.read_text())["images"]
        }
        for source in (data.train, data.validation)
    ]
    assert [len(one) for one in names] == [7, 3]
    assert not names[0] & names[1]
    assert init(monkeypatch, "cats", "--hold-out", "0.3", "--out", "other.yaml") == 0
    assert Path("other-validation.txt").read_text() != Path("cats-validation.txt").read_text()


def test_what_is_there_already_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roboflow(tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    Path("cats.yaml").write_text("mine")
    assert init(monkeypatch, "cats") == 4
    assert "cats.yaml: exists already; name another file with --out" in capsys.readouterr().err
    assert Path("cats.yaml").read_text() == "mine"
    assert init(monkeypatch, "cats", "--out", "cats.json") == 4
    assert "name a file that ends in .yaml" in capsys.readouterr().err
    assert init(monkeypatch, "cats", "--validation", "test", "-o", "on-test.yaml") == 0
    assert "test/_annotations" in Path("on-test.yaml").read_text().partition("validation:")[2]


def test_errors_in_the_data_are_shown_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roboflow(tmp_path / "cats")
    next((tmp_path / "cats" / "train").glob("*.png")).unlink()
    monkeypatch.chdir(tmp_path)
    assert init(monkeypatch, "cats") == 4
    shown = capsys.readouterr()
    assert "error: missing image (1)" in shown.out
    assert "1 error in the data, so nothing is written" in shown.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cats"]


def two_of_train(root: Path) -> None:
    coco_root(root)
    roboflow(root)


def two_years(root: Path) -> None:
    coco_root(root)
    coco(root / "annotations" / "instances_train2014.json", ["train0.png"])


def without_names(root: Path) -> None:
    for number in range(5):
        coco(root / f"a{number}.json", ["a.png"])
    (root / "instances_val_results.json").write_text("[]")  # predictions, which are no set


def images_twice(root: Path) -> None:
    coco(root / "train.json", ["a.png"])
    paint(root / "images", ["a.png"])
    paint(root / "train", ["a.png"])


def no_images(root: Path) -> None:
    coco(root / "train.json", ["a.png"])
    (root / "images").mkdir()


def only_test(root: Path) -> None:
    coco(root / "test.json", ["a.png"])
    paint(root, ["a.png"])


def yolo(root: Path) -> None:
    (root / "labels").mkdir(parents=True)
    (root / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")


def no_document(root: Path) -> None:
    (root / "train").mkdir(parents=True)
    (root / "train" / "_annotations.coco.json").write_text("{}")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda root: None, "cats: there is no such folder; give the folder of a data set"),
        (lambda root: root.mkdir(), "cats: is empty; give the folder of a data set"),
        (lambda root: paint(root, ["a.png"]), "cats: has no COCO annotations: no JSON file with images"),
        (yolo, "cats: is a data set in YOLO's format (a text file of labels for each image); convert it"),
        (no_document, "_annotations.coco.json: is not a JSON document with images, annotations and categories"),
        (two_of_train, "cats: has 2 sets that may be train: "),
        (two_years, "instances_train2014.json and cats/annotations/instances_train2017.json; give the files instead"),
        (
            without_names,
            "cats: has 5 files whose paths do not contain train, val or test: cats/a0.json and",
        ),
        (without_names, "cats/a2.json and 2 more; give the files instead: TRAIN.json TRAIN_IMAGES"),
        (images_twice, "train.json: its images may be those in cats/images and cats/train; give the files instead"),
        (no_images, "train.json: its images are not here: 'a.png' is in none of these folders of cats: ., images"),
        (only_test, "cats: has no training set; there is test (cats/test.json); give the files instead"),
    ],
)
def test_where_nothing_clear_is_found(
    make: Callable[[Path], None],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make(tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    assert init(monkeypatch, "cats") == 4
    assert sentence in capsys.readouterr().err
    assert not Path("cats.yaml").exists()


def test_four_paths_are_taken_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_years(tmp_path / "cats")
    monkeypatch.chdir(tmp_path)
    four = [
        f"cats/{part}"
        for split in ("train", "val")
        for part in (f"annotations/instances_{split}2017.json", f"{split}2017")
    ]
    assert init(monkeypatch, *four, "--out", "sub.yaml") == 0
    assert data_from([str(tmp_path / "sub.yaml")]).train == Coco(
        annotations=str(tmp_path / four[0]), images=str(tmp_path / four[1])
    )
    assert init(monkeypatch, *four, "--hold-out", "0.2") == 4
    assert init(monkeypatch, *four[:3]) == 4
    assert "data init takes one folder, four paths, or two with --hold-out; got 3 values" in capsys.readouterr().err
    assert init(monkeypatch, *four[:2], "--hold-out", "0.4", "--out", "two.yaml") == 0
    assert len(Path("two-validation.txt").read_text().splitlines()) == 1
