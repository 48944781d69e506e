"""``weights inspect`` and ``--weights`` as a person calls them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from ablate.config.schema import Pyramid, RunConfig
from ablate.config.yaml import dump_config, load_config, with_changes
from ablate.weights.settings import weights_from
from analysis.exceptions import BadInput
from tests.ablate.tiny import tiny_config
from tests.ablate.weights import references as r
from tests.command_line import run

Save = Callable[..., Path]


def plain_base(data: object) -> RunConfig:
    """A config of the references' size that starts at random."""
    changes = {
        "model.backbone.width": r.WIDTH,
        "model.backbone.depth": r.DEPTH,
        "model.backbone.heads": r.HEADS,
        "model.backbone.position.absolute_grid": 6,
    }
    config = with_changes(tiny_config(data), changes)  # type: ignore[arg-type]
    return structs.replace(config, model=structs.replace(config.model, pyramid=Pyramid(type="multi_scale", channels=8)))


@pytest.fixture
def base(data: object, tmp_path: Path) -> Path:
    path = tmp_path / "base.yaml"
    path.write_text(dump_config(plain_base(data)))
    return path


def test_what_a_person_sees(
    base: Path, save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(r.beit_pretrained(absolute=True).saved)
    assert run(monkeypatch, "weights", "inspect", path, "--base", base) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    for line in (
        "recognised BEiT; initialisation BEiT",
        'lies in ["model"]',
        "pixels mean 0.5 0.5 0.5, std 0.5 0.5 0.5",
        "blocks.N.norm1.{weight,bias} blocks.N.norm1.{weight,bias} 8",
        "pos_embed position.absolute is rand 1",
        "lm_head.{weight,bias} the head for visual tokens is only used in pre-training 2",
        "window_bias.table 4 x 4 2 x 2 cut to the offsets that are used",
        "pos_embed random, std 0.02 1",
        "model.backbone.layer_scale 0.1",
        "model.pixel_mean [0.5, 0.5, 0.5]",
    ):
        assert line in lines, out
    # What it says to set is what makes it load.
    assert run(monkeypatch, "weights", "inspect", path, "--base", base, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    settings = document["fit"]["settings"]
    own = base.with_name("own.yaml")
    own.write_text(dump_config(with_changes(load_config(base), settings)))
    assert run(monkeypatch, "weights", "inspect", path, "--base", own, "--json") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["fit"]["settings"] == {"init.weights": str(path)}
    assert again["fit"]["mapped"] == document["fit"]["mapped"]


def test_without_a_config_of_its_size(
    save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "weights", "inspect", save(r.beit_fine_tuned().saved, "[red]beit.pth")) == 0
    out = capsys.readouterr().out
    assert "[red]beit.pth" in out
    assert "relative_position_bias_table  the relative bias" in out
    assert run(monkeypatch, "weights", "inspect", save(r.timm_vit().saved, "w.safetensors")) == 0
    out = capsys.readouterr().out
    assert "No preset has this size; --base CONFIG shows" in out
    assert "mean 0.485 0.456 0.406, std 0.229 0.224 0.225 or mean 0.5 0.5 0.5, std 0.5 0.5 0.5" in out


def test_a_preset_of_another_size_is_refused(
    save: Save, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "weights", "inspect", save(r.mae().saved), "--base", "vit-b-coco") == 4
    assert "width 48, depth 4, patch_size 8, but the config has width 768, depth 12" in capsys.readouterr().err
    assert run(monkeypatch, "weights", "inspect", "/no/such.pth") == 4
    assert "no such file of weights" in capsys.readouterr().err


def test_weights_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("mae.pth", "c-20.pth", "c-100.pth", "c-x.pth"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    assert weights_from(["mae=mae.pth"]) == {"mae": str(tmp_path / "mae.pth")}
    expected = {"20": str(tmp_path / "c-20.pth"), "100": str(tmp_path / "c-100.pth")}
    assert weights_from(["c-{epochs}.pth"]) == expected
    assert weights_from([f"mae={tmp_path}/c-{{epochs}}.pth"]) == expected
    for wrong, sentence in (
        ("mae", "write NAME=FILE"),
        ("mae=none.pth", "no such file; write NAME=FILE"),
        ("d-{epochs}.pth", "no file in . has such a name"),
        ("{epochs}/c.pth", "must occur once in the name"),
    ):
        with pytest.raises(BadInput, match=sentence):
            weights_from([wrong])
    with pytest.raises(BadInput, match="names 20 twice"):
        weights_from(["20=mae.pth", "c-{epochs}.pth"])
