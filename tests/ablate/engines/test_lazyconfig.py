"""The text of exported configs: golden files, what they import, and what they say of the data."""

import ast
import json
from pathlib import Path

import msgspec
import pytest

from ablate.config.schema import Coco, Data, RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.data.sources import Files
from ablate.engines.lazyconfig import Facts, data_set_name, facts_of, lazyconfig_text, milestone_iteration
from ablate.runs.folder import Workspace
from analysis.exceptions import BadInput
from tests.ablate.tiny import write_data
from tests.command_line import run

GOLDEN = Path(__file__).resolve().parents[2] / "golden"
SIMPLE = ("model.pyramid.type=simple", "model.backbone.position.relative=none")
RESNET = {"model.backbone": {"type": "resnet", "depth": 50, "image_size": 1024}, "model.pyramid.type": "fpn"}


def golden(name: str, text: str) -> None:
    """Generated text against the file; to accept a change, look at the difference and replace the file."""
    assert text == (GOLDEN / name).read_text(encoding="utf-8"), f"tests/golden/{name} differs; look, then replace it"


def text_of(config: RunConfig, name: str = "vit-b-coco", *, native: bool = False) -> str:
    return lazyconfig_text(config, facts_of(config, Workspace(Path("/nowhere"))), name, native=native)


def imported(text: str) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module))
    return found


def test_golden_texts() -> None:
    base = load_config("vit-b-coco")
    golden("lazyconfig-vit-b.txt", text_of(base))
    golden("lazyconfig-native-vit-b.txt", text_of(load_config("vit-b-coco", SIMPLE), native=True))
    golden("lazyconfig-resnet-50.txt", text_of(with_changes(base, RESNET)))


def test_it_imports_detectron2_and_the_models_alone() -> None:
    base = load_config("vit-b-coco")
    ours = {"ablate.models", "ablate.models.detectron2"}

    def beyond_detectron2(text: str) -> set[str]:
        return {name for name in imported(text) if name.partition(".")[0] not in ("detectron2", "fvcore")}

    assert beyond_detectron2(text_of(base)) == ours
    assert beyond_detectron2(text_of(with_changes(base, RESNET))) == set()
    clipped = text_of(with_changes(base, {**RESNET, "train.clip_norm": 1.0}))
    assert beyond_detectron2(clipped) == {"ablate.models.detectron2"}
    native = text_of(load_config("vit-b-coco", SIMPLE), native=True)
    assert beyond_detectron2(native) == {"functools", "torch"}


def test_no_line_is_too_long() -> None:
    """The files are read, and their own style is detectron2's or better."""
    for config in (load_config("vit-b-coco"), with_changes(load_config("vit-l-coco"), {"train.schedule": "step"})):
        assert max(map(len, text_of(config).splitlines())) <= 120


def test_facts_of_coco_that_is_elsewhere() -> None:
    facts = facts_of(load_config("vit-b-coco"), Workspace(Path("/nowhere")))
    assert (facts.images, facts.classes, facts.masks_as) == (117_266, 80, "polygon")
    keep = load_config("vit-b-coco", ["data.images_without_boxes=keep"])
    assert facts_of(keep, Workspace(Path("/nowhere"))).images == 118_287


def test_facts_of_data_that_is_here(tmp_path: Path) -> None:
    source = write_data(tmp_path / "data", images=5, empty=(2,))
    base = load_config("tiny-shapes")
    config = with_changes(base, {"data": _both(source)})
    facts = facts_of(config, Workspace(tmp_path))
    assert (facts.images, facts.classes, facts.masks_as) == (4, 2, "polygon")
    assert facts_of(with_changes(config, {"data.images_without_boxes": "keep"}), Workspace(tmp_path)).images == 5
    document = json.loads(Path(source.annotations).read_text())
    document["annotations"][0]["segmentation"] = {"size": [32, 40], "counts": [0, 5, 32 * 40 - 5]}
    Path(source.annotations).write_text(json.dumps(document))
    assert facts_of(config, Workspace(tmp_path)).masks_as == "bitmask"


def test_other_data_that_is_elsewhere_is_refused(tmp_path: Path) -> None:
    missing = Coco(annotations=str(tmp_path / "mine.json"), images=str(tmp_path))
    config = with_changes(load_config("tiny-shapes"), {"data": _both(missing)})
    with pytest.raises(BadInput, match=r"mine\.json: annotation file not found.* --data"):
        facts_of(config, Workspace(tmp_path))


def _both(source: Coco) -> dict[str, object]:
    tree: dict[str, object] = msgspec.to_builtins(Data(train=source, validation=source))
    return tree


def test_other_files_are_another_data_set() -> None:
    def facts(place: str) -> Facts:
        files = Files(Path(place), Path("/images"))
        return Facts(train=files, validation=files, images=1, classes=1)

    assert data_set_name(facts("/a"), "train") == data_set_name(facts("/a"), "train")
    assert data_set_name(facts("/a"), "train") != data_set_name(facts("/b"), "train")
    assert data_set_name(facts("/a"), "train") != data_set_name(facts("/a"), "validation")


@pytest.mark.parametrize("iterations", [1, 3, 90_000, 366_456])
def test_a_milestone_is_where_our_own_schedule_drops(iterations: int) -> None:
    from ablate.train.optim import lr_factor

    for milestone in (8 / 9, 26 / 27, 0.5):
        at = milestone_iteration(milestone, iterations)
        drops = [
            lr_factor(i, iterations=iterations, warmup=0, schedule="step", milestones=(milestone,))
            for i in (at - 1, at)
            if i >= 0
        ]
        assert drops[-1] == pytest.approx(0.1)
        assert at == 0 or drops[0] == 1.0


def test_what_detectron2_itself_lacks_is_listed() -> None:
    with pytest.raises(BadInput, match=r"pyramid\.type=simple; .*relative=none; --format lazyconfig writes every"):
        text_of(load_config("vit-b-coco"), native=True)
    with pytest.raises(BadInput, match=r"backbone\.type=vit"):
        text_of(with_changes(load_config("vit-b-coco"), RESNET), native=True)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, "ablate", "export", "vit-b-coco", "--device", "cpu") == 0
    assert capsys.readouterr().out == text_of(load_config("vit-b-coco"))
    out = tmp_path / "new folder" / "config.py"
    assert run(monkeypatch, "ablate", "export", "vit-b-coco", "--format", "lazyconfig", "--out", out) == 0
    assert capsys.readouterr().out == ""
    assert out.read_text(encoding="utf-8") == text_of(load_config("vit-b-coco"))
    refused = tmp_path / "no.py"
    assert run(monkeypatch, "ablate", "export", "vit-b-coco", "--format", "lazyconfig-native", "--out", refused) == 4
    assert "they would take model.pyramid.type=simple" in capsys.readouterr().err
    assert not refused.exists()
