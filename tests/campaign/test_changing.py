"""Files that change while they are read: the old content, the new one, or one sentence, never something between."""

import io
import itertools
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

import analysis.files
from ablate.config.yaml import load_config
from ablate.train.checkpoint import load_checkpoint, write_tensors
from ablate.weights.checkpoint import forget, read_checkpoint
from analysis import read_detections, read_ground_truth
from analysis.exceptions import BadInput
from analysis.image_files import read_rgb
from analysis.io import read_bytes
from tests.analysis.mutations import documents
from tests.campaign.test_inputs import config, pth, safetensors, weights

SENTENCE = "changed while it was read; wait until it is written"


def read_pixels(path: Path) -> object:
    return read_rgb(path)[0].tobytes()


def ground_truth(path: Path) -> None:
    path.write_text(json.dumps(documents("boxes")[0]))


def predictions(path: Path) -> None:
    path.write_text(json.dumps(documents("boxes")[1]))


def checkpoint(path: Path) -> None:
    with path.open("wb") as file:
        write_tensors({"schema": 1, "iteration": 5, "model": {"a": torch.arange(9000.0)}}, file)


def image(path: Path) -> None:
    Image.effect_noise((90, 70), 40).convert("RGB").save(path)


def read_predictions(path: Path) -> object:
    truth = path.with_name("truth.json")
    ground_truth(truth)
    return read_detections(path, read_ground_truth(truth)).box.tolist()


KINDS: dict[str, tuple[Callable[[Path], None], Callable[[Path], object]]] = {
    "gt.json": (ground_truth, lambda path: read_ground_truth(path).digest),
    "dt.json": (predictions, read_predictions),
    "config.yaml": (config, load_config),
    "weights.pth": (pth, weights),
    "weights.safetensors": (safetensors, weights),
    "00000005.pt": (checkpoint, lambda path: load_checkpoint(path)["model"]["a"].sum()),
    "image.png": (image, read_pixels),
    "image.jpg": (image, read_pixels),
    "image.tif": (image, read_pixels),
    "image.ppm": (image, read_pixels),
}


def other_noise(path: Path) -> bytes:
    image(path)
    return path.read_bytes()


def other_tensors(path: Path) -> bytes:
    iteration, model = 5, {"a": torch.ones(9000)}
    if path.suffix == ".safetensors":
        save_file({"a.weight": torch.ones(50)}, path)
    else:
        torch.save({"schema": 1, "iteration": iteration, "model": model}, path)
    return path.read_bytes()


OTHERS: dict[str, Callable[[Path], bytes]] = {  # another content, by the ending of the file's name
    ".json": lambda path: path.read_bytes().replace(b"1, 1, 8, 8", b"1, 2, 8, 7"),
    ".yaml": lambda path: path.read_bytes().replace(b"seed: 0", b"seed: 7"),
    ".pth": other_tensors,
    ".pt": other_tensors,
    ".safetensors": other_tensors,
    ".png": other_noise,
    ".jpg": other_noise,
    ".tif": other_noise,
    ".ppm": other_noise,
}


def appended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b" ")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def written_over(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(0, 5))  # a clock of coarse ticks need not tell it from the file of a moment ago


def replaced(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"something else")
    os.replace(other, path)


def while_it_is_read(monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Path], None]) -> None:
    """Change the file of that name once, when its first bytes have been read."""

    class Reader(io.BufferedReader):
        done = False

        def _then(self, content: Any) -> Any:
            path = Path(os.readlink(f"/proc/self/fd/{self.fileno()}"))
            if path.name == name and not Reader.done:
                Reader.done = True
                change(path)
            return content

        def read(self, size: int | None = -1, /) -> bytes:
            return self._then(super().read(size))

        def readinto(self, buffer: Any, /) -> int:
            return self._then(super().readinto(buffer))

    monkeypatch.setattr(analysis.files, "BufferedReader", Reader)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc to name the file that is being read")
@pytest.mark.parametrize("change", [appended, cut, written_over, replaced], ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_changes_while_it_is_read_is_refused_in_one_sentence(
    name: str, change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, read = KINDS[name]
    path = tmp_path / name
    write(path)
    before = read(path)
    forget()
    while_it_is_read(monkeypatch, name, change)
    if change is replaced:  # the file that was opened is the old one, and whole
        assert read(path) == before
        assert path.read_bytes() == b"something else"
        return
    with pytest.raises(BadInput) as refusal:
        read(path)
    assert str(path) in str(refusal.value)
    assert SENTENCE in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("read", [read_bytes, load_config, read_checkpoint, read_rgb], ids=lambda read: read.__name__)
def test_a_file_that_gives_nothing_and_a_name_that_no_file_has(
    read: Callable[[Path], object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A null character, which YAML can hold; and a file that waits for news, as some in `/proc` do."""
    with pytest.raises(BadInput):
        read(tmp_path / "a\0b")

    class Waiting(io.BufferedReader):
        def read(self, size: int | None = -1, /) -> Any:
            return None

    monkeypatch.setattr(analysis.files, "BufferedReader", Waiting)
    (tmp_path / "news").write_bytes(b"x")
    with pytest.raises(BadInput, match="news: "):
        read(tmp_path / "news")


@pytest.mark.parametrize("name", ["weights.pth", "weights.safetensors"])
def test_weights_are_in_memory_and_outlive_their_file(name: str, tmp_path: Path) -> None:
    """A file that is mapped and cut short ends the process by SIGBUS, without a word."""
    KINDS[name][0](tmp_path / name)
    tensors = read_checkpoint(tmp_path / name).tensors
    os.truncate(tmp_path / name, 0)
    assert tensors["a.weight"].sum() == 1225


def write_again_and_again(path: Path, contents: Sequence[bytes], rng: random.Random, ended: threading.Event) -> None:
    """One content after the other under one name, in parts, in every way in which programs write files."""
    for turn in itertools.count():
        content = contents[turn % 2]
        size = max(1, len(content) // rng.choice([1, 3, 20]))
        parts = [content[start : start + size] for start in range(0, len(content), size)]
        way = rng.choice(["replaced", "from the start", "over the old one"])
        place = path.with_name("other") if way == "replaced" else path
        with open(place, "r+b" if way == "over the old one" else "wb", buffering=0) as file:
            for part in parts:
                file.write(part)
                time.sleep(rng.choice([0, 0, 0.001]))
            file.truncate()
        if way == "replaced":
            os.replace(place, path)
        if ended.wait(rng.choice([0, 0.01, 0.05])):
            return


def storm(folder: Path, name: str, seconds: float) -> Counter[str]:
    """Read a file that somebody else writes, for so long."""
    write, read = KINDS[name]
    path, ended = folder / name, threading.Event()
    write(path)
    contents = [path.read_bytes(), OTHERS[path.suffix](path)]
    expected = []
    for content in contents:
        path.write_bytes(content)
        expected.append(read(path))
    assert expected[0] != expected[1]
    writer = threading.Thread(target=write_again_and_again, args=(path, contents, random.Random(name), ended))
    writer.start()
    seen: Counter[str] = Counter()
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            forget()
            try:
                seen[f"content {expected.index(read(path))}"] += 1
            except BadInput as refusal:
                sentence = str(refusal)
                seen["changed" if SENTENCE in sentence else "not whole"] += 1
                assert sentence.startswith(f"{path}: "), sentence
    finally:
        ended.set()
        writer.join()
    return seen


@pytest.mark.campaign
@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_is_written_all_the_time(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(analysis.files, "SETTLED", 3 * 10**8)  # nanoseconds: the writer may wait for a processor
    seen = storm(tmp_path, name, 20)
    print(f"{name}: {dict(seen)}")  # with -s
    assert seen["changed"] > 5, seen
    assert seen["content 0"] + seen["content 1"] > 5, seen
