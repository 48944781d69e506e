"""RunConfig: what it takes, what it refuses, and its way through YAML."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ablate.config.schema import Attention, Coco, Data, Pyramid, RunConfig, Shapes, Train, ViT
from ablate.config.yaml import (
    dump_config,
    load_config,
    merge,
    parse,
    parse_yaml,
    preset_names,
    presets_folder,
    with_changes,
)
from ablate.detector.mask_rcnn import build_detector
from analysis.exceptions import BadInput


@pytest.fixture
def base() -> RunConfig:
    return load_config("vit-b-coco")


@pytest.mark.parametrize("name", preset_names())
def test_presets_load_from_anywhere_and_survive_the_way_through_yaml(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config(name)
    text = dump_config(config)
    assert parse(parse_yaml(text, "dump"), RunConfig, "dump") == config
    assert dump_config(config) == text
    assert "# side of a patch in pixels" in text
    assert load_config(presets_folder() / f"{name}.yaml") == config


def test_the_config_of_a_run_is_a_config(tmp_path: Path) -> None:
    """What a run folder holds can be described and run again; `images: all` of the embedded data is no folder."""
    (tmp_path / "config.yaml").write_text(dump_config(load_config("tiny-shapes")))
    assert load_config(tmp_path / "config.yaml") == load_config("tiny-shapes")
    (tmp_path / "short.yaml").write_text("base: tiny-shapes\ndata: {train: {images: all}}\n")
    assert load_config(tmp_path / "short.yaml") == load_config("tiny-shapes")
    (tmp_path / "coco.yaml").write_text("base: vit-b-coco\ndata: {train: {type: coco, annotations: a, images: all}}\n")
    found = load_config(tmp_path / "coco.yaml").data.train
    assert isinstance(found, Coco)
    assert found.images == str(tmp_path / "all")


def test_the_presets_hold_the_papers_formula(base: RunConfig) -> None:
    large = load_config("vit-l-coco")
    assert isinstance(base.model.backbone, ViT)
    assert isinstance(large.model.backbone, ViT)
    assert (large.model.backbone.width, large.model.backbone.depth, large.model.backbone.heads) == (1024, 24, 16)
    assert (base.model.backbone.drop_path, large.model.backbone.drop_path) == (0.1, 0.3)
    assert large.train == base.train
    assert (base.train.lr, base.train.weight_decay, base.train.batch_size) == (1.6e-4, 0.2, 64)
    assert base.train.total_iterations(117_266) == 366_456
    assert base.train.warmup_iterations(117_266) == 458
    assert base.train.warmup_iterations(118_000) == 461


WHOLE = {"limit": "all", "limit_seed": "none", "limit_list": "none"}  # of a data set


def test_a_file_is_a_short_diff_and_its_paths_count_from_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "päth with spaces"
    folder.mkdir()
    (folder / "middle.yaml").write_text("base: vit-b-coco\ntrain: {lr: 8e-5}\n")
    (folder / "mine.yaml").write_text(
        "base: middle.yaml\nseed: 3\n"
        "data: {train: {annotations: a.json, images: ../b}, validation: {type: shapes, split: validation}}\n"
    )
    monkeypatch.chdir(tmp_path)
    config = load_config(folder / "mine.yaml", ["train.lr=1e-3", "train.epochs=25"])
    assert (config.train.lr, config.train.epochs, config.train.weight_decay, config.seed) == (1e-3, 25.0, 0.2, 3)
    assert msgspec.to_builtins(config.data) == {
        "train": {"type": "coco", "annotations": str(folder / "a.json"), "images": str(folder / "../b"), **WHOLE},
        "validation": {"type": "shapes", "split": "validation", **WHOLE},
        "images_without_boxes": "drop",
    }
    assert parse(parse_yaml(dump_config(config), "dump"), RunConfig, "dump") == config


def test_base_in_a_circle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("base: b.yaml\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\n")
    with pytest.raises(BadInput, match="refers back to itself"):
        load_config(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8e-5", 8e-5),
        ("1e3", 1000.0),
        ("no", "no"),
        ("off", "off"),
        ("yes", "yes"),
        ("none", "none"),
        ("010", 10),
        ("0o10", 8),
        ("1:30", "1:30"),
        ("~", None),
        ("true", True),
        ("[1, 2]", [1, 2]),
    ],
)
def test_yaml_is_read_as_1_2(text: str, value: object) -> None:
    got = parse_yaml(text, "here")
    assert got == value
    assert type(got) is type(value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("model.backbone.widht=4", "widht: unknown key; did you mean width? valid here: type, width, depth"),
        ("lr=8e-5", "lr: unknown key; did you mean train.lr? valid here: engine"),
        ("nms_threshold=0.6", "did you mean model.detector.proposals.nms_threshold or evaluate.nms_threshold?"),
        ("model.backbone.type=swin", "type: must be one of vit, resnet, plugin, not swin"),
        ("train.lr=abc", "train.lr: must be a number above 0, not 'abc'"),
        ("train.lr=.inf", "train.lr: must be a finite number"),
        ("train.lr=.nan", "train.lr: must be a finite number"),
        ("train.betas=[0.9, .nan]", "finite"),
        ("train.lr", "write KEY=VALUE"),
        ("train.lr=[", "not valid YAML 1.2"),
        ("train=~", "train: must be a mapping of keys to values, not nothing"),
        ("train.betas=[0.9]", "list of 2"),
        ("train.batch_size=true", "whole number at least 1, not true"),
        ("train.precision=fp8", "must be one of auto, bf16, fp16, fp32, not 'fp8'"),
        ("train.iterations=10", "exactly one of epochs and iterations"),
        ("train.epochs=none", "exactly one of epochs and iterations"),
        ("train.images_per_norm=7", "does not divide batch_size 64"),
        ("train.jitter_scale=[2, 1]", "smallest, largest"),
        ("train.step_milestones=[0.9, 0.8]", "must rise"),
        ("train.epochs=0.2", "warmup_epochs 0.25 is not shorter"),
        ("model.detector.masks=no", "must be true or false, not 'no'"),
        ("model.backbone.heads=7", "does not divide width 768; these do: [1, 2, 3, 4"),
        ("model.backbone.image_size=1000", "not a multiple of patch_size 16; nearest is 992"),
        ("model.backbone.image_size=1040", "odd grid of 65"),
        ("model.backbone.attention.window_size=65", "larger than the grid of 64 x 64 tokens"),
        ("model.backbone.attention.propagation=shift", "needs attention.pattern=window, not hybrid"),
        ("model.backbone.attention.global_count=13", "exceeds depth 12"),
        ("model.backbone.attention.global_count=5", "does not divide depth 12, which attention.global_blocks=even"),
        ("model.backbone.width=65537", "width: must be a whole number at least 1 and at most 65536, not 65537"),
        ("model.backbone.depth=1000000", "at most 1000"),
        ("model.backbone.mlp_ratio=1e-4", "mlp_ratio 0.0001 leaves no hidden channel at width 768"),
        ("model.backbone.mlp_ratio=1e300", "at most 1000"),
        ("model.backbone.attention.global_blocks=[2, 12]", "rising order, from 0 to 11"),
        ("model.backbone.attention.checkpoint=[2, 2]", "rising order"),
        ("model.backbone={depth: 10, attention: {pattern: global}}", "not divisible by 4"),
        ("model.backbone.patch_size=2", "patch_size 2 is not divisible by 4"),
        ("model.backbone.position.absolute=pt", "init.weights is none; choose rand, zero or none"),
        ("model.pyramid.type=fpn", "choose multi_scale, single_scale, simple, last_map"),
        ("model.detector.anchors.sizes=[32, 64]", "needs 5, one a level"),
        ("model.detector.anchors.aspect_ratios=[]", "at least one"),
        ("model.backbone={type: resnet, depth: 50, image_size: 1000}", "multiple of the stride 32"),
        ("model.backbone={type: resnet, depth: 50, image_size: 1024}", "choose fpn"),
        ("init.weights=3", "init.weights: must be text, not 3"),
        ("seed=-1", "at least 0"),
        ("3=4", "3: unknown key"),
        ("data.train={type: shapes}", "data.train.split: is missing"),
        ("data.train={images: [x]}", "data.train.images: must be text"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(change: str, sentence: str) -> None:
    with pytest.raises(BadInput) as refusal:
        load_config("vit-b-coco", [change])
    message = str(refusal.value)
    assert sentence in message
    assert "\n" not in message
    assert refusal.value.exit_code == 4


def test_what_widths_do_not_allow_is_refused() -> None:
    odd = ["model.backbone.width=66", "model.backbone.heads=6"]
    with pytest.raises(BadInput, match=r"width 66 is not divisible by 4, which pyramid\.type=simple needs"):
        load_config("vit-b-coco", [*odd, "model.pyramid.type=simple"])
    thin = ["model.backbone={width: 1, heads: 1, attention: {pattern: window, propagation: conv_bottleneck}}"]
    with pytest.raises(BadInput, match="conv_bottleneck halves the width"):
        load_config("vit-b-coco", thin)


@pytest.mark.parametrize("pattern", ["global", "window"])
def test_an_unused_count_of_global_blocks_is_no_matter(pattern: str) -> None:
    for count in (5, 13):
        changes = [f"attention.pattern={pattern}", f"attention.global_count={count}"]
        build_on_meta(load_config("vit-b-coco", [f"model.backbone.{change}" for change in changes]))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"- 1\n", "must be a mapping"),
        (b"", "must be a mapping of keys to values, not nothing"),
        (b"seed: 1\nseed: 2\n", "duplicate key"),
        (b"a: [1\n", "line 2: not valid YAML"),
        (b"base: 3\n", "base: must be a preset's name"),
        (
            b"base: vit-b\n",
            "nor a preset (presets: tiny-shapes, tiny-shapes-mae, vit-b-coco, vit-l-coco, vitdet-b-coco, vitdet-l",
        ),
        (b"base: vit-b-coco\n1: 2\n", "1: unknown key"),
        (b"seed: !!python/object:os.system x\n", "not valid YAML"),
        (b"engine: vision\n", "model: is missing"),
    ],
)
def test_hostile_files_are_refused_in_one_sentence(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInput) as refusal:
        load_config(path)
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_file_suggests_the_nearest_preset() -> None:
    with pytest.raises(BadInput, match="did you mean tiny-shapes"):
        load_config("tiny-shape")


def test_another_type_replaces_a_mapping_whole(base: RunConfig) -> None:
    changed = with_changes(
        base,
        {"model.backbone": {"type": "resnet", "depth": 101, "image_size": 1024}, "model.pyramid.type": "fpn"},
    )
    assert msgspec.to_builtins(changed.model.backbone) == {"type": "resnet", "depth": 101, "image_size": 1024}
    assert changed.train == base.train


def test_another_type_of_pyramid_keeps_its_channels(base: RunConfig) -> None:
    """A pyramid's type is a setting among others, not another set of fields."""
    narrow = with_changes(base, {"model.pyramid.channels": 48})
    assert with_changes(narrow, {"model.pyramid.type": "simple"}).model.pyramid == Pyramid(type="simple", channels=48)
    given = ["model.pyramid.channels=48", "model.pyramid.type=simple"]
    for changes in (given, given[::-1], ["model.pyramid={type: simple, channels: 48}"]):
        assert load_config("vit-b-coco", changes).model.pyramid == Pyramid(type="simple", channels=48)


def test_another_kind_of_data_set_brings_nothing_along(tmp_path: Path) -> None:
    shapes = load_config("vit-b-coco", ["data.train={type: shapes, split: train}"])
    assert shapes.data.train == Shapes(split="train")
    with pytest.raises(BadInput, match=r"data\.train\.annotations: is missing"):
        load_config("tiny-shapes", ["data.train.type=coco"])
    with pytest.raises(BadInput, match=r"data\.train\.type: must be one of shapes, coco, not voc"):
        load_config("tiny-shapes", ["data.train.type=voc"])


def test_a_file_over_a_base_merges_as_changes_do(tmp_path: Path) -> None:
    path = tmp_path / "simple.yaml"
    path.write_text("base: tiny-shapes\nmodel:\n  pyramid:\n    type: simple\n")
    base = load_config("tiny-shapes").model.pyramid
    assert base.channels != Pyramid(type="simple").channels
    assert load_config(path).model.pyramid == Pyramid(type="simple", channels=base.channels)


def test_changes_take_parsed_values(base: RunConfig) -> None:
    changed = with_changes(base, {"model.backbone.attention.window_size": 7, "train.betas": [0.9, 0.95]})
    assert isinstance(changed.model.backbone, ViT)
    assert changed.model.backbone.attention == Attention(window_size=7)
    assert changed.train.betas == (0.9, 0.95)
    with pytest.raises(BadInput, match="unknown key; did you mean window_size"):
        with_changes(base, {"model.backbone.attention.windowsize": 7})


TREES = st.recursive(st.integers(0, 3), lambda inner: st.dictionaries(st.sampled_from("abcd"), inner), max_leaves=6)


@given(st.dictionaries(st.sampled_from("abcd"), TREES), st.dictionaries(st.sampled_from("abcd"), TREES))
def test_merging_keeps_what_is_not_named_and_takes_what_is(base: dict[str, Any], changes: dict[str, Any]) -> None:
    merged = merge(base, changes)
    assert set(merged) == set(base) | set(changes)
    assert merge(base, {}) == base
    assert merge(merged, changes) == merged


@given(
    st.text(
        st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\x7f\x85\u2028\u2029\ufeff\ufffe\uffff"),
        max_size=30,
    )
)
def test_any_path_survives_the_way_through_yaml(text: str) -> None:
    tree = {
        "train": {"type": "coco", "annotations": text, "images": "no"},
        "validation": {"type": "shapes", "split": "train"},
    }
    data = parse(tree, Data, "tree")
    assert parse(parse_yaml(dump_config(data), "dump"), Data, "dump") == data


def test_direct_construction_checks_combinations() -> None:
    with pytest.raises(ValueError, match="exactly one"):
        Train(batch_size=8, images_per_norm=8, lr=1e-3, weight_decay=0.1)
    with pytest.raises(AttributeError):
        Pyramid(type="simple").channels = 3  # type: ignore[misc]


def test_schedule_lengths() -> None:
    train = Train(epochs=0.5, batch_size=8, images_per_norm=8, lr=1e-3, weight_decay=0.1)
    assert (train.total_iterations(100), train.warmup_iterations(100)) == (6, 3)
    short = Train(iterations=1, batch_size=8, images_per_norm=8, lr=1e-3, weight_decay=0.1)
    assert (short.total_iterations(10_000), short.warmup_iterations(10_000)) == (1, 0)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.integers(-3, 70),
    st.floats(),
    st.text("abc\"'\\#:-{ é", max_size=5),
    st.sampled_from(["none", "all", "vit", "global", "window", "shift", "even", "single_scale", "fpn"]),
    st.lists(st.integers(-1, 20) | st.floats(), max_size=5),
    st.dictionaries(st.sampled_from(["type", "width", "epochs", "x"]), st.integers() | st.just("resnet"), max_size=2),
)


def places(tree: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = []
    for key, value in tree.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += places(value, (*prefix, key))
    return found


PLACES = places(msgspec.to_builtins(load_config("vit-b-coco")))


def build_on_meta(config: RunConfig) -> None:
    torch.set_num_threads(1)
    with torch.device("meta"):
        build_detector(config.model, classes=3)


# The largest of each size at once: what is taken one by one is built together, too.
LARGEST = """
width: 65536, heads: 65536, image_size: 65536, patch_size: 4, depth: 4, mlp_ratio: 1000,
attention: {pattern: global}, position: {absolute_grid: 65536}
"""


def test_the_largest_sizes_are_built() -> None:
    heads = "head: paper, box_conv_channels: 65536, box_fc: 65536, mask_conv_channels: 65536"
    changes = [f"model.backbone={{{LARGEST}}}", "model.pyramid.channels=65536", f"model.detector={{{heads}}}"]
    build_on_meta(load_config("vit-b-coco", changes))


@settings(deadline=None)
@example([(("model", "backbone", "attention", "global_count"), 5)])
@example([(("model", "backbone", "mlp_ratio"), 1e-6)])
@given(st.lists(st.tuples(st.sampled_from(PLACES), ODD), min_size=1, max_size=3))
def test_any_value_anywhere_is_taken_or_refused_in_one_sentence(changes: list[tuple[tuple[str, ...], object]]) -> None:
    base = load_config("vit-b-coco")
    try:
        config = base
        for place, value in changes:
            config = with_changes(config, {".".join(place): value})
    except BadInput as refusal:
        sentence = str(refusal)
        assert "\n" not in sentence
        return
    build_on_meta(config)
    assert parse(parse_yaml(dump_config(config), "dump"), RunConfig, "dump") == config
