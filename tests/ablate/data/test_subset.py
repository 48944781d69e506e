"""Parts of data sets: which images they have, how they are named, and that ids of runs from before stay."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.axes.custom import axis_from_keys
from ablate.config.identity import evaluation_identity, pretraining_identity, short_id
from ablate.config.schema import Coco, Folder, RunConfig, Shapes, pretraining_of
from ablate.config.yaml import dump_config, load_config, parse, read_yaml, with_changes
from ablate.data.fingerprint import read_data_set
from ablate.data.images import find_images
from ablate.data.sources import data_from, locate
from ablate.data.subset import chosen
from ablate.engines.base import read_data
from ablate.runs.folder import Workspace
from ablate.studies.plan import Request, plan
from ablate.train.distributed import Processes
from analysis import read_ground_truth
from analysis.exceptions import BadInput

COUNT = 12


@pytest.fixture
def coco(data: Coco) -> Coco:
    return data


def document(tmp_path: Path) -> Path:
    """Annotations of 12 images without their images; each id is ten times its place, each has an object."""
    path = tmp_path / "many.json"
    images = [{"id": 10 * n, "file_name": f"{n:03d}.jpg", "width": 64, "height": 64} for n in range(COUNT)]
    boxes = [
        {"id": n + 1, "image_id": 10 * n, "category_id": 1, "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
        for n in range(COUNT)
    ]
    content = {"info": {"year": 2026}, "images": images, "annotations": boxes, "categories": [{"id": 1, "name": "a"}]}
    path.write_text(json.dumps(content))
    return path


def part(tmp_path: Path, **limits: Any) -> dict[str, Any]:
    source = Coco(annotations=str(document(tmp_path)), images=str(tmp_path), **limits)
    content: dict[str, Any] = json.loads(locate(source, Workspace(tmp_path)).annotations.read_text())
    return content


def image_ids(content: dict[str, Any]) -> list[int]:
    return [image["id"] for image in content["images"]]


def test_the_first_so_many_keep_their_annotations_and_all_else(tmp_path: Path) -> None:
    content = part(tmp_path, limit=3)
    assert image_ids(content) == [0, 10, 20]
    assert [one["image_id"] for one in content["annotations"]] == [0, 10, 20]
    assert content["info"] == {"year": 2026}
    assert content["categories"] == [{"id": 1, "name": "a"}]


def test_a_seed_draws_other_images_and_a_smaller_part_lies_in_a_larger_one(tmp_path: Path) -> None:
    drawn = {limit: image_ids(part(tmp_path, limit=limit, limit_seed=0)) for limit in (3, 6, 12)}
    assert drawn[12] == [10 * n for n in range(COUNT)]
    assert set(drawn[3]) < set(drawn[6])
    assert drawn[6] == sorted(drawn[6])  # as in the file
    assert image_ids(part(tmp_path, limit=6, limit_seed=1)) != drawn[6]


def test_what_a_seed_draws_does_not_depend_on_the_order_of_the_file(tmp_path: Path) -> None:
    ids = [str(10 * n) for n in range(COUNT)]
    source = Coco(annotations="a", images="b", limit=5, limit_seed=7)
    forwards = {ids[index] for index in chosen(ids, ids, source, tmp_path)}
    backwards = {ids[::-1][index] for index in chosen(ids[::-1], ids[::-1], source, tmp_path)}
    assert forwards == backwards
    assert len(forwards) == 5


def test_a_list_names_files_or_ids_in_any_order(tmp_path: Path) -> None:
    names = tmp_path / "list.txt"
    names.write_text("\ufeff011.jpg\n\n  30  \r\n000.jpg\n000.jpg\n", encoding="utf-8")
    assert image_ids(part(tmp_path, limit_list=str(names))) == [0, 30, 110]
    assert image_ids(part(tmp_path, limit_list=str(names), limit=2)) == [0, 30]
    names.write_text("20\n")  # another content is another part
    assert image_ids(part(tmp_path, limit_list=str(names))) == [20]


def test_another_content_of_the_annotations_is_another_part(tmp_path: Path) -> None:
    assert len(part(tmp_path, limit=2)["images"]) == 2
    path = document(tmp_path)
    path.write_text(path.read_text().replace('"file_name": "000.jpg"', '"file_name": "zero.jpg"'))
    source = Coco(annotations=str(path), images=str(tmp_path), limit=2)
    assert "zero.jpg" in locate(source, Workspace(tmp_path)).annotations.read_text()


@pytest.mark.parametrize(
    ("limits", "content", "sentence"),
    [
        ({"limit": 13}, "", r"many\.json: has 12 images, not 13; set limit to all, or to at most 12"),
        ({"limit": 3}, "10\n20\n", r"the list .*list\.txt have 2 images, not 3"),
        ({}, "10\n15\n", r"list\.txt: line 2: .*many\.json has no image '15'; write a file_name or an id"),
        ({}, " \n\n", r"list\.txt: lists no image"),
        ({}, "\udcff", r"list\.txt: is not UTF-8 text"),
        ({}, None, r"list\.txt: the list of images cannot be read \(No such file"),
    ],
)
def test_what_cannot_be(tmp_path: Path, limits: dict[str, Any], content: str | None, sentence: str) -> None:
    path = tmp_path / "list.txt"
    if content:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    if content != "":
        limits = {**limits, "limit_list": str(path)}
    with pytest.raises(BadInput, match=sentence):
        part(tmp_path, **limits)
    assert not (tmp_path / "results").exists()


def test_damaged_annotations_are_named_and_not_their_part(tmp_path: Path) -> None:
    path = document(tmp_path)
    path.write_text(path.read_text().replace('"image_id": 110', '"image_id": 111'))
    with pytest.raises(BadInput, match=r"many\.json: .*111"):
        locate(Coco(annotations=str(path), images=str(tmp_path), limit=2), Workspace(tmp_path))


def test_a_seed_may_be_set_where_an_axis_varies_the_limit(coco: Coco, tmp_path: Path) -> None:
    four = [coco.annotations, coco.images] * 2
    request = Request(base="vit-b-coco", data=four, settings=["data.train.limit_seed=0"])
    study = plan(axis_from_keys(["data.train.limit=2,3"]), request, Workspace(tmp_path), write=False)
    assert [run.config.data.train.limit for run in study.runs if run.config is not None] == [2, 3]


def test_a_dry_look_at_a_part_leaves_nothing(coco: Coco, tmp_path: Path) -> None:
    source = Coco(annotations=coco.annotations, images=coco.images, limit=2, limit_seed=1)
    found = read_data_set(source, Workspace(tmp_path), keep=False)
    assert list(tmp_path.iterdir()) == []
    kept = read_data_set(source, Workspace(tmp_path))
    assert kept.digest == found.digest
    assert kept.digest != read_data_set(coco, Workspace(tmp_path)).digest
    assert len(read_ground_truth(kept.files.annotations).image_id) == 2


def test_an_engine_trains_on_the_part(coco: Coco, tmp_path: Path) -> None:
    config = with_changes(
        load_config("tiny-shapes"),
        {
            "data.train": {"type": "coco", "annotations": coco.annotations, "images": coco.images, "limit": 3},
            "data.validation": {"type": "coco", "annotations": coco.annotations, "images": coco.images},
        },
    )
    data = read_data(config, Workspace(tmp_path), Processes(0, 1, torch.device("cpu")))
    assert len(data.training_truth.image_id) == 3
    assert len(data.validation_truth.image_id) > 3


def test_a_folder_to_pre_train_on_has_parts_too(coco: Coco, tmp_path: Path) -> None:
    whole = find_images(Folder(path=coco.images), Workspace(tmp_path))
    few = find_images(Folder(path=coco.images, limit=2, limit_seed=0), Workspace(tmp_path))
    assert len(few.names) == 2
    assert set(few.names) < set(whole.names)
    assert few.digest != whole.digest


# Both spellings of a limit; `images` was a count before it had a key of its own.


def test_runs_from_before_keep_their_ids(shapes_data: Path) -> None:
    """Ids that the version before `limit` gave, on the embedded data."""
    workspace = Workspace(shapes_data.parents[1])
    for key in ("images", "limit"):
        config = load_config("tiny-shapes", ["train.lr=1e-3", f"data.train.{key}=64", f"data.validation.{key}=16"])
        first, second = (read_data_set(one, workspace) for one in (config.data.train, config.data.validation))
        assert short_id(evaluation_identity(config, first.digest, second.digest)) == "25da2f6d4b0b"
    recipe = pretraining_of(load_config("tiny-shapes-mae", ["init.pretraining.images.images=32"]))
    digest = find_images(recipe.pretrain.images, workspace).digest
    assert short_id(pretraining_identity(recipe, digest)) == "b185282930a5"


def test_a_config_from_before_is_read_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    text = dump_config(load_config("tiny-shapes", ["data.train.limit=400"]))
    assert "    images:" not in text
    old = "\n".join(line.replace("limit: ", "images: ") for line in text.splitlines() if "limit_" not in line)
    assert "images: 400" in old
    assert "images: all" in old
    path.write_text(old)
    config = parse(read_yaml(path), RunConfig, str(path))
    assert config.data.train == Shapes(split="train", limit=400)
    assert dump_config(config) == text


def test_the_last_spelling_that_is_set_counts(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: tiny-shapes\ndata: {train: {images: 30}}\n")
    assert load_config(path).data.train.limit == 30
    assert load_config(path, ["data.train.limit=20"]).data.train.limit == 20
    assert load_config(path, ["data.train.limit=20", "data.train.images=10"]).data.train.limit == 10
    assert load_config(path, ["data.train.images=all"]).data.train.limit == "all"
    path.write_text("base: tiny-shapes\ndata: {train: {images: 30, limit: 20}}\n")
    with pytest.raises(BadInput, match="images is the old spelling of limit; write limit alone"):
        load_config(path)


def test_the_images_of_a_folder_stay_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"data\.train\.images: must be text"):
        load_config("vit-b-coco", ["data.train.images=20"])
    assert load_config("vit-b-coco", ["data.train.images=all"]).data.train == Coco(
        annotations="datasets/coco/annotations/instances_train2017.json", images="all"
    )


def test_an_unknown_key_is_answered_with_the_new_spelling_alone() -> None:
    with pytest.raises(BadInput, match=r"valid here: type, split, limit, limit_seed, limit_list$"):
        load_config("tiny-shapes", ["data.train.count=3"])


def test_lists_count_from_the_file_that_names_them(coco: Coco, tmp_path: Path) -> None:
    lines = f"annotations: {coco.annotations}\n  images: {coco.images}\n  limit_list: few.txt"
    (tmp_path / "data.yaml").write_text(
        f"train:\n  type: coco\n  {lines}\nvalidation: {{type: shapes, split: validation}}"
    )
    assert data_from([str(tmp_path / "data.yaml")]).train.limit_list == str(tmp_path / "few.txt")


def test_a_limit_of_a_config_stays_with_other_data(coco: Coco, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("base: vit-b-coco\ndata: {train: {limit: 3}}\n")
    four = [coco.annotations, coco.images] * 2
    config = load_config(path, data=data_from(four))
    assert config.data.train == Coco(annotations=coco.annotations, images=coco.images, limit=3)
    study = plan(
        axis_from_keys(["train.lr=1e-4,2e-4"]), Request(base=str(path), data=four), Workspace(tmp_path), write=False
    )
    assert {run.config.data.train.limit for run in study.runs if run.config is not None} == {3}
