"""`data check` against hostile data sets, and data addresses."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from ablate.config.schema import Coco, Shapes
from ablate.data.check import check, check_pair
from ablate.data.sources import Files, data_from, files_of, locate, shapes_folder
from ablate.runs.folder import Workspace
from analysis import read_ground_truth
from analysis.exceptions import BadInput
from detablate import command_line
from tests.shared_data import shared_data

Writer = Callable[..., Files]
Document = dict[str, Any]


def kinds(files: Files) -> set[tuple[str, str]]:
    return {(finding.level, finding.kind) for finding in check("x", files).findings}


def test_a_sound_data_set_has_no_findings(small: Writer) -> None:
    report = check("train", small())
    assert report.findings == ()
    assert (report.images, report.objects, report.crowds, report.categories) == (3, 2, 1, 2)
    assert report.images_without_objects == 1


@pytest.mark.parametrize("name", ["coco_train2017_208/gt_masks_180.json", "coco_val2017_206/gt_bbox_206.json"])
def test_real_data_has_no_findings(name: str) -> None:
    folder = name.split("/")[0]
    ticks = []
    report = check("x", Files(shared_data(*name.split("/")), shared_data(folder, "images")), lambda: ticks.append(1))
    assert report.findings == ()
    assert len(ticks) == report.images > 100


def set_annotation(**fields: object) -> Callable[[Document], None]:
    return lambda document: document["annotations"][0].update(fields)


def set_image(**fields: object) -> Callable[[Document], None]:
    return lambda document: document["images"][0].update(fields)


HOSTILE: list[tuple[Callable[[Document], None], tuple[str, str]]] = [
    (lambda d: d.pop("categories"), ("error", "not a COCO document")),
    (lambda d: d.update(images={}), ("error", "not a COCO document")),
    (lambda d: d["annotations"].append(None), ("error", "not a COCO document")),
    (lambda d: d["annotations"][0].pop("id"), ("error", "annotation without id")),
    (set_image(id=None), ("error", "image without id")),
    (set_image(id=7), ("error", "image ids clash")),
    (set_annotation(id=6), ("error", "annotation ids clash")),
    (lambda d: d["categories"][0].update(id=90), ("error", "category ids clash")),
    (lambda d: d["categories"][0].update(name="neunzig"), ("warning", "category names clash")),
    (
        lambda d: d["images"][0].update(file_name="7.png", width=30, height=40),
        ("warning", "one file for several images"),
    ),
    (set_annotation(image_id=4), ("error", "unknown image")),
    (set_annotation(image_id=[4]), ("error", "unknown image")),
    (set_annotation(category_id=3), ("error", "unknown category")),
    (set_annotation(category_id={}), ("error", "unknown category")),
    (set_annotation(iscrowd=2), ("error", "bad crowd flag")),
    (set_annotation(bbox=None), ("warning", "no box")),
    (set_annotation(bbox=None, segmentation=None), ("error", "bad box")),
    (set_annotation(bbox=[1, 2, 3]), ("error", "bad box")),
    (set_annotation(bbox=[1, 2, 3, "4"]), ("error", "bad box")),
    (set_annotation(bbox=[10, 5, -2, 10]), ("error", "bad box")),
    (set_annotation(bbox=[10, 5, 0, 10]), ("warning", "empty box")),
    (set_annotation(bbox=[40, 5, 3, 10]), ("warning", "box outside its image")),
    (set_annotation(bbox=[-9, 5, 9, 10]), ("warning", "box outside its image")),
    (set_annotation(bbox=[30, 5, 12, 10]), ("warning", "box past the edge")),
    (set_annotation(segmentation=[]), ("error", "no mask")),
    (set_annotation(segmentation=[[1, 2, 3, 4]]), ("error", "bad polygon")),
    (set_annotation(segmentation=[[1, 2, 3, 4, 5, 6, 7]]), ("error", "bad polygon")),
    (set_annotation(segmentation=[[1, 2, 3, 4, 5, 1e9]]), ("error", "bad polygon")),
    (set_annotation(segmentation=[["a"] * 6]), ("error", "bad polygon")),
    (set_annotation(segmentation="mask"), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": [40, 30], "counts": [1200]}), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": 3, "counts": [1200]}), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": [30, 40], "counts": [1, 2]}), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": [30, 40], "counts": [-1, 1201]}), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": [30, 40], "counts": "\u00e4!"}), ("error", "bad RLE")),
    (set_annotation(segmentation={"size": [30, 40], "counts": [1200]}), ("warning", "empty mask")),
    (set_image(file_name=None), ("error", "image without file name")),
    (set_image(file_name="a\0b"), ("error", "image without file name")),
    (set_image(file_name="gone.png"), ("error", "missing image")),
    (set_image(file_name="."), ("error", "broken image")),
    (set_image(width=None), ("error", "image without size")),
    (set_image(height=29), ("error", "size differs")),
    (lambda d: d.update(annotations=[]), ("error", "nothing to learn")),
]


@pytest.mark.parametrize(("change", "expected"), HOSTILE)
def test_every_kind_of_trouble_is_found(
    change: Callable[[Document], None], expected: tuple[str, str], small: Writer
) -> None:
    files = small(change)
    assert expected in kinds(files)
    report = check("x", files)
    assert report.errors == sum(f.count for f in report.findings if f.level == "error")
    assert all(finding.count >= len(finding.examples) > 0 for finding in report.findings)


def test_damaged_images_are_found(small: Writer) -> None:
    files = small()
    whole = (files.images / "3.png").read_bytes()
    for content in (b"", b"GIF89a", whole[:-40], whole[:20]):
        (files.images / "3.png").write_bytes(content)
        assert kinds(files) == {("error", "broken image")}


@pytest.mark.parametrize(
    ("image", "options", "found"),
    [
        (Image.fromarray(np.full((30, 40), 9600, dtype=np.uint16)), {}, {("error", "unsupported image")}),
        (Image.new("F", (40, 30)), {}, {("error", "unsupported image")}),
        (Image.new("CMYK", (40, 30)), {}, {("warning", "CMYK image")}),
        (Image.new("RGBA", (40, 30), (1, 2, 3, 128)), {}, {("warning", "transparent image")}),
        (Image.new("RGBA", (40, 30), (1, 2, 3, 255)), {}, set()),
        (Image.new("L", (40, 30)), {}, set()),
        (
            Image.new("RGB", (40, 30)),
            {"save_all": True, "append_images": [Image.new("RGB", (40, 30), "red")]},
            {("warning", "several frames")},
        ),
    ],
)
def test_unusual_pixels_are_told(
    image: Image.Image, options: dict[str, Any], found: set[tuple[str, str]], small: Writer
) -> None:
    files = small(set_image(file_name="x.tiff"))
    image.save(files.images / "x.tiff", **options)
    assert kinds(files) == found


def test_the_set_of_16_bits_is_refused_by_the_command() -> None:
    folder = shared_data("..", "cases", "t04-16-bit")
    paths = [str(folder / name) for name in ("train.json", "train", "val.json", "val")]
    told = CliRunner().invoke(command_line(), ["data", "check", *paths])
    assert isinstance(told.exception, BadInput)
    assert "error: unsupported image (24)\n    train_000.png: has more than 8 bits per channel" in told.stdout


def test_exif_orientation_is_a_warning(small: Writer) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    files = small(set_image(file_name="turned.jpg"))
    for size in ((30, 40), (40, 30)):
        Image.fromarray(np.zeros((*size, 3), dtype=np.uint8)).save(files.images / "turned.jpg", exif=exif)
        assert kinds(files) == {("warning", "turned image")}


def test_the_same_image_in_both_sets_is_a_warning(small: Writer, tmp_path: Path) -> None:
    files = small()
    other = tmp_path / "other.json"
    document = json.loads(files.annotations.read_text())
    document["images"] = document["images"][:1]
    other.write_text(json.dumps(document))
    (finding,) = check_pair(files, Files(other, files.images))
    assert (finding.level, finding.kind, finding.count) == ("warning", "train and validation overlap", 1)
    assert check_pair(files, Files(other, tmp_path)) == []


def test_the_command_speaks_to_people_and_to_programs(small: Writer) -> None:
    files = small(set_annotation(bbox=[10, 5, -2, 10]))
    arguments = ["check", str(files.annotations), str(files.images)]
    told = CliRunner().invoke(command_line(), ["data", *arguments])
    assert isinstance(told.exception, BadInput)
    assert told.exception.exit_code == 4
    assert "annotations.json: 3 images (1 without objects), 2 objects, 1 crowds, 2 categories" in told.stdout
    assert (
        "  error: bad box (1)\n    the bbox [10, 5, -2, 10] of annotations[0] (id 5) has a negative side" in told.stdout
    )
    document = json.loads(CliRunner().invoke(command_line(), ["data", *arguments, "--json"]).stdout)
    assert (document["schema"], document["errors"]) == (1, 1)
    assert document["sets"][0]["findings"][0]["kind"] == "bad box"
    sound = small()
    done = CliRunner().invoke(command_line(), ["data", "check", str(sound.annotations), str(sound.images)])
    assert done.exit_code == 0
    assert "nothing wrong" in done.stdout


def test_both_sets_are_checked(small: Writer) -> None:
    files = small()
    both = [str(files.annotations), str(files.images)] * 2
    done = CliRunner().invoke(command_line(), ["data", "check", *both])
    assert done.exit_code == 0
    assert "warning: train and validation overlap (3)" in done.stdout


def test_the_front_door_refuses_with_exit_code_4(tmp_path: Path) -> None:
    cli = Path(__file__).parents[3] / "cli.py"
    done = subprocess.run(
        [sys.executable, str(cli), "data", "check", str(tmp_path / "no ne")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 4
    assert done.stderr.startswith("error: --data ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_heavy_packages_are_not_imported_for_help() -> None:
    code = "import sys, cli; sys.exit(any(m in sys.modules for m in ('torch', 'PIL', 'ruamel', 'pycocotools')))"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], timeout=60, check=False)
    assert done.returncode == 0


def coco_root(folder: Path, names: tuple[str, str], images: tuple[str, str]) -> Path:
    (folder / "annotations").mkdir(parents=True)
    for name in names:
        (folder / "annotations" / name).write_text("{}")
    for name in images:
        (folder / name).mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    ("names", "images"),
    [
        (("instances_train2017.json", "instances_val2017.json"), ("train2017", "val2017")),
        (("instances_train2017.json", "instances_val2017.json"), ("images/train2017", "images/val2017")),
        (("instances_train.json", "instances_val.json"), ("train", "val")),
    ],
)
def test_a_coco_root_is_understood(names: tuple[str, str], images: tuple[str, str], tmp_path: Path) -> None:
    root = coco_root(tmp_path / "r oot", names, images)
    data = data_from([str(root)])
    assert data.train == Coco(annotations=str(root / "annotations" / names[0]), images=str(root / images[0]))
    assert data.validation == Coco(annotations=str(root / "annotations" / names[1]), images=str(root / images[1]))


@pytest.mark.parametrize("validation", ["valid", "val"])
def test_an_export_of_roboflow_is_understood(validation: str, tmp_path: Path) -> None:
    for split in ("train", validation):
        (tmp_path / split).mkdir()
        (tmp_path / split / "_annotations.coco.json").write_text("{}")
    data = data_from([str(tmp_path)])
    for split, source in (("train", data.train), (validation, data.validation)):
        assert source == Coco(
            annotations=str(tmp_path / split / "_annotations.coco.json"), images=str(tmp_path / split)
        )


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("labels/train/a.txt", "0 0.5 0.5 0.1 0.1", "is a data set in YOLO's format"),
        ("train/labels/a.txt", "0 0.5 0.5 0.1 0.1", "is a data set in YOLO's format"),
        ("Annotations/a.xml", "<annotation/>", "is a data set in Pascal VOC's format"),
        ("VOC2007/Annotations/a.xml", "<annotation/>", "is a data set in Pascal VOC's format"),
        ("train/_annotations.coco.json", "{}", "a Roboflow export without _annotations.coco.json in valid or val"),
    ],
)
def test_folders_of_other_formats_are_named(file: str, content: str, words: str, tmp_path: Path) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(BadInput, match="convert it to COCO's format first") as caught:
        data_from([str(tmp_path)])
    assert words in str(caught.value)


def test_a_yaml_of_yolo_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.yaml"
    path.write_text("train: images/train\nval: images/val\nnc: 2\nnames: [a, b]\n")
    with pytest.raises(BadInput, match="describes a data set in YOLO's format"):
        data_from([str(path)])


def test_file_names_of_windows_are_found(small: Writer) -> None:
    files = small(set_image(file_name="sub\\3.png"))
    (files.images / "sub").mkdir()
    (files.images / "3.png").rename(files.images / "sub" / "3.png")
    assert check("x", files).findings == ()
    assert read_ground_truth(files.annotations).file_name[0] == "sub/3.png"


def test_bad_annotations_are_left_out_on_request(small: Writer) -> None:
    files = small(set_annotation(bbox=[10, 5, -2, 10]))
    report = check("x", files, drop_invalid=True)
    assert (report.errors, report.objects) == (0, 1)
    (finding,) = report.findings
    assert (finding.level, finding.kind, finding.count) == ("warning", "left out: bad box", 1)


def test_a_clean_copy_is_sound_and_keeps_the_rest(small: Writer, tmp_path: Path) -> None:
    def spoil(document: Document) -> None:
        document["info"] = {"year": 2026}
        document["annotations"][0].update(bbox=[10, 5, -2, 10])
        document["annotations"][1].update(iscrowd=0.0, attributes={"occluded": False})

    files, out = small(spoil), tmp_path / "clean.json"
    arguments = ["check", str(files.annotations), str(files.images), "--write-clean", str(out)]
    told = CliRunner().invoke(command_line(), ["data", *arguments])
    assert told.exit_code == 0
    assert (
        "1 of 3 annotations are bad records and are left out (--drop-invalid): the bbox [10, 5, -2, 10] of"
        in told.stdout
    )
    assert check("x", Files(out, files.images)).errors == 0
    document = json.loads(out.read_text())
    assert document["info"] == {"year": 2026}
    assert [(one["id"], one["iscrowd"]) for one in document["annotations"]] == [(6, 0), (7, 1)]
    assert document["annotations"][0]["attributes"] == {"occluded": False}
    again = CliRunner().invoke(command_line(), ["data", *arguments])
    assert "exists already" in str(again.exception)


def test_other_addresses_are_understood(small: Writer, tmp_path: Path) -> None:
    files = small()
    four = data_from([str(files.annotations), str(files.images)] * 2)
    assert locate(four.train, Workspace(tmp_path)) == files
    assert data_from(["shapes"]).train == Shapes(split="train")
    (tmp_path / "data.yaml").write_text(
        f"train: {{type: shapes, split: train, images: 10}}\n"
        f"validation: {{type: coco, annotations: annotations.json, images: '{files.images.name}'}}\n"
    )
    data = data_from([str(tmp_path / "data.yaml")])
    assert data.train == Shapes(split="train", images=10)
    assert locate(data.validation, Workspace(tmp_path)) == files
    (tmp_path / "run.yaml").write_text("base: tiny-shapes\ndata: {train: {images: 20}}\n")
    assert data_from([str(tmp_path / "run.yaml")]).train == Shapes(split="train", images=20)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing"], "no such folder or YAML file; give shapes, COCO_ROOT"),
        (["a", "b", "c"], "got 3 values"),
        (["{root}/annotations.json", "{root}", "{root}/no.json", "{root}"], "no.json: annotation file not found"),
        (["{root}/annotations.json", "{root}/no", "{root}/annotations.json", "{root}"], "no: there is no such folder"),
        (["{root}"], "is not a COCO root: .*instances_train2017.json or .*instances_train.json is missing"),
        (["{root}/bad.yaml"], "bad.yaml: train.anotations: unknown key; did you mean annotations"),
        (["{root}/half.yaml"], "half.yaml: validation: is missing"),
    ],
)
def test_other_addresses_are_refused(arguments: list[str], sentence: str, small: Writer, tmp_path: Path) -> None:
    small()
    (tmp_path / "bad.yaml").write_text("train: {type: coco, anotations: x, images: y}\nvalidation: {}\n")
    (tmp_path / "half.yaml").write_text("train: {type: shapes, split: train}\n")
    with pytest.raises(BadInput, match=sentence):
        data_from([argument.format(root=tmp_path) for argument in arguments])


def test_a_root_without_images_is_refused(tmp_path: Path) -> None:
    root = coco_root(tmp_path / "x", ("instances_train.json", "instances_val.json"), ("train", "elsewhere"))
    with pytest.raises(BadInput, match=r"has no folder of val images \(looked for val2017, val, "):
        data_from([str(root)])


def test_the_first_images_of_shapes_are_a_data_set(shapes_root: Path, tmp_path: Path) -> None:
    folder = shapes_folder(Workspace(tmp_path))
    folder.parent.mkdir(parents=True)
    folder.symlink_to(shapes_root)
    files = locate(Shapes(split="validation", images=5), Workspace(tmp_path))
    few, all_of_them = read_ground_truth(files.annotations), locate(Shapes(split="validation"), Workspace(tmp_path))
    assert few.image_id == read_ground_truth(all_of_them.annotations).image_id[:5]
    assert files.images == all_of_them.images
    assert len(few) > 5
    assert locate(Shapes(split="validation", images=5), Workspace(tmp_path)) == files
    with pytest.raises(BadInput, match="has 240 images, not 241; set limit to all"):
        locate(Shapes(split="validation", images=241), Workspace(tmp_path))


def test_shapes_is_checked_and_written_where_it_is_told(shapes_root: Path, tmp_path: Path) -> None:
    assert set(files_of([str(shapes_root)], Workspace(tmp_path))) == {"train", "validation"}
    refused = CliRunner().invoke(command_line(), ["data", "shapes", "--out", str(shapes_root)])
    assert isinstance(refused.exception, BadInput)
    assert "exists already" in str(refused.exception)
    (tmp_path / "file").write_text("")
    refused = CliRunner().invoke(command_line(), ["data", "shapes", "--out", str(tmp_path / "file" / "x")])
    assert "cannot be written" in str(refused.exception)
