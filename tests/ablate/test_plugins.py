"""Axes and backbones of other packages: found by entry points, run, named in ids; what they raise is one sentence."""

import importlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from ablate.axes import AXES, AxisOptions, find_axis
from ablate.cli.options import LaunchSettings
from ablate.cli.study import StudyOptions, plan_study
from ablate.config.identity import training_identity
from ablate.config.plugins import BACKBONES, plugins
from ablate.config.schema import Coco, PluginBackbone, RunConfig
from ablate.config.yaml import dump_config, load_config, parse, parse_yaml
from ablate.detector.mask_rcnn import build_detector
from ablate.detector.plugin import code_of, with_code
from ablate.runs.folder import RunFolder, Workspace
from analysis.exceptions import BadInput
from tests.ablate.tiny import write_data
from tests.command_line import run

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "06-own-parts"
Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts modules and the entry points of a package on the path, as pip would."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    before = set(sys.modules)

    def make(package: str, version: str, points: dict[str, dict[str, str]], **modules: str) -> Path:
        for module, text in modules.items():
            (site / f"{module}.py").write_text(text)
        info = site / f"{package.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
        lines = [
            f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in one.items())
            for group, one in points.items()
        ]
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()
        return site

    yield make
    for module in set(sys.modules) - before:
        if module.partition(".")[0] in ("my_parts", "parts"):
            del sys.modules[module]


@pytest.fixture
def example(install: Install) -> Path:
    """The package of the example."""
    project = tomllib.loads((EXAMPLE / "pyproject.toml").read_text())["project"]
    site = install(project["name"], project["version"], project["entry-points"])
    shutil.copytree(EXAMPLE / "my_parts", site / "my_parts")
    return site


def config_on(data: Coco, folder: Path) -> Path:
    """The config of the example on a few small images, with a small head."""
    shutil.copy(EXAMPLE / "small-net.yaml", folder)
    path = folder / "tiny.yaml"
    source = f"{{type: coco, annotations: '{data.annotations}', images: '{data.images}'}}"
    path.write_text(
        f"base: small-net.yaml\ndata: {{train: {source}, validation: {source}}}\n"
        "model: {pyramid: {channels: 8}, detector: {box_fc: 8, box_conv_channels: 8, mask_conv_channels: 8}}\n"
        "train: {epochs: none, iterations: 2, batch_size: 2, images_per_norm: 2}\n"
    )
    return path


def test_an_axis_of_another_package_plans_a_study_on_a_backbone_of_it(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_on(write_data(tmp_path / "data"), tmp_path)
    words = ("--base", config, "--root", tmp_path / "root", "--device", "cpu")
    options = StudyOptions(base=str(config), workspace=Workspace(tmp_path / "root"), device="cpu", as_json=True)
    plan_study(find_axis("stem"), options, LaunchSettings())
    study = json.loads(capsys.readouterr().out)
    assert [one["variant"] for one in study["runs"]] == ["plain stem", "double stem"]
    assert len({one["identity"] for one in study["runs"]}) == 2
    assert study["settings"]["model.backbone.code"].startswith("my-parts 0.1 ")
    assert run(monkeypatch, "ablate", "axes", "stem", "--base", config) == 0
    assert "The first layers of the backbone" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "vary", EXAMPLE / "anchors.yaml", "--product", "stem", *words, "--dry-run") == 0
    assert "half as large x double stem" in capsys.readouterr().out


def test_an_axis_of_another_package_is_a_verb(example: Path) -> None:
    path = os.pathsep.join([str(example), str(EXAMPLE.parents[1])])
    command = [sys.executable, "-m", "detablate", "ablate", "stem", "--help"]
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "An axis of my-parts." in done.stdout
    (example / "my_parts" / "axes.py").write_text("import nothing_like_it\n")
    command[-1] = "--dry-run"
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "entry point 'stem' of my-parts 0.1 (my_parts.axes:STEM, group detablate.axes): cannot be" in done.stderr


def test_a_run_trains_it_and_is_named_by_its_code(
    example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.set_num_threads(1)
    config = config_on(write_data(tmp_path / "data"), tmp_path)
    words = ("ablate", "run", config, "--root", tmp_path, "--device", "cpu")
    assert run(monkeypatch, *words) == 0
    (first,) = (tmp_path / "results" / "runs").iterdir()
    stored = RunFolder(first).read_config()
    assert isinstance(stored.model.backbone, PluginBackbone)
    assert stored.model.backbone.code.startswith("my-parts 0.1 ")
    assert parse(parse_yaml(dump_config(stored), "x"), RunConfig, "x") == stored

    net = example / "my_parts" / "net.py"
    net.write_text(net.read_text().replace("nn.ReLU()", "nn.GELU()"))
    assert run(monkeypatch, *words) == 0
    assert len(list((tmp_path / "results" / "runs").iterdir())) == 2, "other code is another run"
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "run", first / "config.yaml", "--root", tmp_path, "--device", "cpu") == 4
    assert "has other code than when this run was planned (my-parts 0.1 " in capsys.readouterr().err


def test_an_id_needs_the_code(example: Path) -> None:
    config = load_config(EXAMPLE / "small-net.yaml")
    with pytest.raises(ValueError, match=r"resolve model\.backbone\.code=auto"):
        training_identity(config, "t")
    entry = plugins(BACKBONES)["small-net"]
    before = training_identity(with_code(config), "t")
    assert training_identity(with_code(config), "t") == before
    (example / "my_parts" / "more.py").write_text("x = 1\n")
    assert code_of(entry).startswith("my-parts 0.1 ")
    assert training_identity(with_code(config), "t") != before


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (["engine=detectron2"], "engine detectron2 builds no backbone of another package; set engine=vision"),
        (["model.pyramid.type=simple"], "pyramid.type simple does not fit this backbone; choose fpn"),
        (["model.backbone.image_size=100"], "image_size 100 is not a multiple of the stride 32; nearest is 96"),
        (["train.layer_decay=0.7"], "counts the blocks of a ViT, but model.backbone is a plugin"),
        (["init.weights=mae.pth"], "loads into a ViT, but model.backbone is a plugin"),
    ],
)
def test_what_needs_another_backbone_says_so(changes: list[str], sentence: str) -> None:
    with pytest.raises(BadInput, match=sentence):
        load_config(EXAMPLE / "small-net.yaml", changes)


def test_a_missing_package_is_named() -> None:
    with pytest.raises(BadInput, match=r"no installed package has a backbone with this name .*none is installed"):
        with_code(load_config(EXAMPLE / "small-net.yaml"))


NET = """
from torch import nn
class Net(nn.Module):
    strides, channels = {strides}, (4, 8, 8, 8)
    def __init__(self):
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 4, 1, stride=s) for s in (4, 8, 16, 32))
    def forward(self, images):
        {forward}
def build(image_size, **options):
    {build}
"""
GOOD = {"strides": "(4, 8, 16, 32)", "forward": "return [c(images) for c in self.convs]", "build": "return Net()"}


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        (
            {"build": "raise KeyError('width')"},
            r"cannot build a backbone \(image_size=128, width=16.*\): KeyError: 'width'",
        ),
        ({"build": "return 3"}, r"must build a torch\.nn\.Module, not int"),
        ({"strides": "(8, 16, 32, 64)"}, r"its strides must be \(4, 8, 16, 32\), not \(8, 16, 32, 64\)"),
        ({"strides": "4"}, r"its strides must be \(4, 8, 16, 32\), not 4"),
        (
            {},
            r"must give maps of the shapes \(1, 4, 32, 32\) \(1, 8, 16, 16\) .*, not \(1, 4, 32, 32\) \(1, 4, 16, 16\)",
        ),
        ({"forward": "return images.nothing"}, r"its forward pass fails: AttributeError: .*nothing.*; fix it"),
        ({"forward": "return 1"}, r"its forward pass fails: TypeError"),
    ],
)
def test_what_a_backbone_does_wrong_is_one_sentence_with_its_name(
    parts: dict[str, str], sentence: str, install: Install
) -> None:
    install(
        "parts-of-x",
        "2.1",
        {"detablate.backbones": {"small-net": "parts:build"}},
        parts=NET.format(**{**GOOD, **parts}),
    )
    config = load_config(EXAMPLE / "small-net.yaml")
    who = r"entry point 'small-net' of parts-of-x 2\.1 \(parts:build, group detablate\.backbones\): "
    with pytest.raises(BadInput, match=who + sentence):
        build_detector(config.model, 2).backbone(torch.zeros(1, 3, 128, 128))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("import nothing_like_it", "cannot be loaded: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("THAT = 1", "cannot be loaded: AttributeError"),
        ("THIS = 1", r"must be an ablate\.axes\.Axis, not int"),
        ("VARIANTS = lambda base, options: 1 / 0", "cannot make its variants: ZeroDivisionError: division by zero"),
        ("VARIANTS = lambda base, options: ['a', 'b']", r"its variants must be ablate\.axes\.Variant, not str"),
        ("VARIANTS = lambda base, options: [V(name='a', changes={})]", "a study compares two or more, not 1"),
        ("VARIANTS = lambda base, options: [V(name='a', changes={})] * 2", "two variants have the name 'a'"),
    ],
)
def test_what_an_axis_does_wrong_is_one_sentence_with_its_name(text: str, sentence: str, install: Install) -> None:
    if text.startswith("VARIANTS"):
        head = "from ablate.axes import Axis, Variant as V"
        tail = "THIS = Axis(name='x', title='X', source='us', allowed_keys=frozenset({'train.lr'}), variants=VARIANTS)"
        text = f"{head}\n{text}\n{tail}"
    install("parts-of-x", "2.1", {"detablate.axes": {"mine": "parts:THIS"}}, parts=text)
    who = r"entry point 'mine' of parts-of-x 2\.1 \(parts:THIS, group detablate\.axes\): "
    with pytest.raises(BadInput, match=who + sentence):
        find_axis("mine").variants(load_config("tiny-shapes"), AxisOptions())


def test_two_packages_with_one_name_are_told_and_a_built_in_name_stays(install: Install) -> None:
    install("first", "1", {"detablate.axes": {"mine": "parts:A", "attention": "parts:A"}})
    assert find_axis("attention") is AXES["attention"]
    with pytest.raises(BadInput, match=r"there is no axis 'none'; the axes are attention, .*, mine, and ablate vary"):
        find_axis("none")
    install("second", "1", {"detablate.axes": {"mine": "parts:B"}})
    with pytest.raises(BadInput, match=r"'mine' of .* and entry point 'mine' of .* have the same name; uninstall one"):
        find_axis("mine")


def test_the_list_of_axes_survives_a_broken_package(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install("parts-of-x", "2.1", {"detablate.axes": {"mine": "parts:THIS"}}, parts="import nothing_like_it")
    assert run(monkeypatch, "ablate", "axes", "--json") == 0
    shown = capsys.readouterr()
    assert [one["name"] for one in json.loads(shown.out)["axes"]] == list(AXES)
    assert "warning: entry point 'mine' of parts-of-x 2.1" in shown.err


def test_new_writes_files_that_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(monkeypatch, "ablate", "new", "axis", "two words") == 0
    assert "next: edit it, then " in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "vary", "two words.yaml", "--dry-run", "--root", tmp_path) == 0
    assert "lr 0.002" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "new", "preset", "mine", "--base", "vit-b-coco") == 0
    assert load_config("mine.yaml").train.lr == 1e-3
    assert run(monkeypatch, "ablate", "new", "preset", "next", "--base", "mine.yaml", "-o", tmp_path / "next.yaml") == 0
    assert load_config("next.yaml").model == load_config("vit-b-coco").model
    for arguments, sentence in (
        (("axis", "two words"), "two words.yaml: exists already"),
        (("axis", "a/b"), "must be a word that can be the name of a file"),
        (("axis", "a", "-o", "a.txt"), "name a file that ends in .yaml"),
        (("preset", "a", "--base", "nothing"), "nothing: neither a file nor a preset"),
    ):
        capsys.readouterr()
        assert run(monkeypatch, "ablate", "new", *arguments) == 4
        assert sentence in capsys.readouterr().err
