"""Folders of images: what is found, how they are named, and crops against torchvision's."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ablate.config.schema import Folder, Shapes
from ablate.data.images import CropSet, ImageFolder, find_images, random_box, stacked
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images in two folders with hostile names, and things that are none."""
    place = tmp_path / "my images"
    (place / "zwölf").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name, size in (("b.PNG", (40, 30)), ("zwölf/a.jpg", (30, 50)), ("zwölf/ c.png", (20, 20))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(place / name)
    (place / "readme.txt").write_text("no image")
    (place / ".hidden.png").write_bytes(b"")
    return place


def pictures(folder: Path) -> ImageFolder:
    return find_images(Folder(path=str(folder)), Workspace(folder))


def crops(folder: Path, **changes: object) -> CropSet:
    values: dict[str, object] = {"side": 16, "patches": 16, "scale": (0.2, 1.0), "flip": 0.5, "seed": 0}
    return CropSet(files=pictures(folder), **(values | changes))  # type: ignore[arg-type]


def test_images_are_found_below_and_named_by_names_sizes_and_contents(folder: Path, tmp_path: Path) -> None:
    found = pictures(folder)
    assert found.names == ("b.PNG", "zwölf/ c.png", "zwölf/a.jpg")
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert pictures(moved).digest == found.digest
    (moved / "b.PNG").rename(moved / "c.PNG")
    assert pictures(moved).digest != found.digest
    (moved / "c.PNG").rename(moved / "b.PNG")
    with (moved / "b.PNG").open("ab") as file:
        file.write(b" ")
    assert pictures(moved).digest != found.digest
    content = bytearray((folder / "b.PNG").read_bytes())
    content[-20] ^= 1
    (moved / "b.PNG").write_bytes(content)
    assert pictures(moved).digest != found.digest
    shutil.copy(folder / "b.PNG", moved / "b.PNG")
    assert pictures(moved).digest == found.digest


def test_the_embedded_images_go_by_annotations_and_pixels(shapes_root: Path) -> None:
    few = find_images(Shapes(split="train", images=5), Workspace(shapes_root))
    assert few.names == tuple(f"{number:06d}.png" for number in range(5))
    assert few.digest != find_images(Shapes(split="train", images=6), Workspace(shapes_root)).digest


def test_what_is_no_folder_of_images_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere: there is no such folder of images"):
        pictures(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"empty: contains no image, .* known types are .bmp, .gif, .jpeg"):
        pictures(tmp_path / "empty")
    (folder / "round").symlink_to(folder)
    assert len(pictures(folder).names) == 3, "links in a circle end"
    (folder / "dead.png").symlink_to(folder / "nothing")
    with pytest.raises(BadInput, match=r"1 of 4 images cannot be used \(1 missing\); first dead.png: no such image"):
        pictures(folder)
    (folder / "dead.png").unlink()
    whole = (folder / "b.PNG").read_bytes()
    (folder / "b.PNG").write_bytes(whole[:60])
    data = crops(folder)
    with pytest.raises(BadInput, match=r"b.PNG: cannot be decoded .*; replace it"):
        data[0, 0]
    (folder / "b.PNG").write_bytes(whole[:20])
    with pytest.raises(
        BadInput, match=r"1 of 3 images .* \(1 damaged\); first b.PNG: cannot be decoded .*; replace it"
    ):
        crops(folder)
    (folder / "b.PNG").unlink()
    with pytest.raises(BadInput, match=r"b.PNG: no such image"):
        data[0, 0]


def test_a_crop_depends_on_seed_epoch_and_index_alone(folder: Path) -> None:
    first, second = crops(folder), crops(folder, room=0)
    for key in ((0, 0), (3, 2), (0, 0)):  # the second look at the same one, from memory
        torch.testing.assert_close(first[key].image, second[key].image, rtol=0, atol=0)
        torch.testing.assert_close(first[key].noise, second[key].noise, rtol=0, atol=0)
    others = [first[1, 0], first[0, 1], crops(folder, seed=1)[0, 0]]
    assert all(not torch.equal(first[0, 0].noise, other.noise) for other in others)
    assert all(not torch.equal(first[0, 0].image, other.image) for other in others)
    batch = stacked([first[0, index] for index in range(3)])
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images.dtype == torch.uint8
    assert batch.noise.shape == (3, 16)
    assert ((batch.noise >= 0) & (batch.noise < 1)).all()


def test_pixels_are_those_of_torchvision(folder: Path) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms.functional import resized_crop

    data = crops(folder, flip=0.0)
    for index in range(3):
        image = Image.open(folder / data.files.names[index]).convert("RGB")
        rng = np.random.default_rng([3, 0, 5, index])
        left, top, width, height = random_box(image.size, (0.2, 1.0), rng)
        expected = resized_crop(image, top, left, height, width, [16, 16], InterpolationMode.BICUBIC)
        np.testing.assert_array_equal(data[5, index].image.permute(1, 2, 0), np.asarray(expected))
    mirrored = crops(folder, flip=1.0)
    torch.testing.assert_close(mirrored[5, 0].image, data[5, 0].image.flip(2), rtol=0, atol=0)


@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_boxes_lie_in_the_image(width: int, height: int, seed: int) -> None:
    left, top, wide, tall = random_box((width, height), (0.2, 1.0), np.random.default_rng(seed))
    assert 0 <= left <= left + wide <= width
    assert 0 <= top <= top + tall <= height
    assert wide > 0
    assert tall > 0


def test_boxes_are_distributed_as_torchvision_draws_them() -> None:
    from torchvision.transforms import RandomResizedCrop

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    canvas = torch.zeros(3, 120, 160)
    theirs = np.array([RandomResizedCrop.get_params(canvas, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(1500)])
    ours = np.array([random_box((160, 120), (0.2, 1.0), rng) for _ in range(1500)])[:, [1, 0, 3, 2]]
    for column in range(4):  # top, left, height, width
        shares = [np.quantile(values[:, column], np.linspace(0, 1, 11)) for values in (ours, theirs)]
        np.testing.assert_allclose(*shares, atol=4.5)  # pixels; the spread of a decile of 1500 draws is about 1.5
    slim = random_box((100, 10), (1.0, 1.0), rng)
    assert slim == (43, 0, 13, 10)  # nothing fits: the middle, at the widest ratio
