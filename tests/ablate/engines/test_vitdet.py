"""The presets of ViTDet, and the runs that its published numbers stand beside."""

import pytest

from ablate.config.identity import short_id, training_identity
from ablate.config.schema import RunConfig
from ablate.config.yaml import load_config, with_changes
from ablate.engines.lazyconfig import COCO_IMAGES, check_exportable
from ablate.studies.published import COCO_VALIDATION, Finding, findings_of, matches
from ablate.weights.settings import init_settings, own_initialisation
from analysis.exceptions import BadInput

PRESETS = {"b": "vitdet-b-coco", "l": "vitdet-l-coco"}


@pytest.mark.parametrize("preset", PRESETS.values())
def test_lengths_are_those_of_detectron2(preset: str) -> None:
    train = load_config(preset).train
    images = COCO_IMAGES["drop"]
    assert (train.total_iterations(images), train.warmup_iterations(images)) == (184_375, 250)
    assert (train.lr, train.weight_decay, train.batch_size, train.schedule) == (1e-4, 0.1, 64, "step")


def test_the_presets_name_the_weights_that_they_are_tuned_for() -> None:
    base = load_config("vitdet-b-coco")
    assert own_initialisation(base) == "mae", "although the file is not here"
    kept = init_settings("mae", base)
    assert {key: kept[key] for key in ("train.lr", "train.weight_decay")} == {
        "train.lr": 1e-4,
        "train.weight_decay": 0.1,
    }
    assert kept["model.backbone.position.relative"] == "none"
    assert "train.layer_decay" not in kept
    random = init_settings("random", base)
    assert (random["init.weights"], random["train.layer_decay"], random["train.lr"]) == ("none", "none", 2e-4)


def run_of(preset: str, **changes: object) -> RunConfig:
    return with_changes(load_config(preset), {key.replace("__", "."): value for key, value in changes.items()})


@pytest.mark.parametrize("preset", PRESETS.values())
@pytest.mark.parametrize(
    ("axis", "variant", "changes"),
    [
        ("attention", "hybrid", {}),
        ("scale", "simple pyramid", {}),
        ("scale", "single-scale", {"model__pyramid__type": "single_scale"}),
        ("propagation", "none", {"model__backbone__attention__pattern": "window"}),
        ("init", "MAE", {"train__precision": "fp16", "seed": 3}),
    ],
)
def test_published_rows_stand_beside_its_runs(preset: str, axis: str, variant: str, changes: dict[str, object]) -> None:
    from ablate.axes import AXES

    size = {"vitdet-b-coco": "vit-b", "vitdet-l-coco": "vit-l"}[preset]
    allowed = AXES[axis].allowed_keys

    def beside(config: RunConfig, start: str = "MAE") -> list[Finding]:
        named = [one for one in findings_of(axis) if one.variant == variant]
        return [one for one in named if matches(one, config, COCO_VALIDATION, start, allowed)]

    (found,) = beside(run_of(preset, **changes))
    assert (found.size, found.source) == (size, "arXiv 2203.16527, ablations")
    assert beside(run_of(preset, **changes, train__epochs=100, train__iterations="none")) == [found]
    for other in ({"train__flip": 0.0}, {"train__ema": 0.999}, {"train__epochs": 50, "train__iterations": "none"}):
        assert beside(run_of(preset, **changes, **other)) == []
    if axis != "init":
        assert beside(run_of(preset, **changes, train__layer_decay="none")) == []
    assert beside(run_of(preset, **changes), "random") == []
    assert beside(run_of("vit-b-coco", train__schedule="step", train__epochs=100)) == []


def test_the_identities_of_the_presets_are_pinned() -> None:
    found = {
        preset: short_id(training_identity(load_config(preset, ["train.images_per_norm=64"]), "t" * 64, "w" * 64))
        for preset in PRESETS.values()
    }
    assert found == {"vitdet-b-coco": "c2e07ed58d3a", "vitdet-l-coco": "14b36dbb73cb"}


def test_an_average_of_the_weights_is_not_exported() -> None:
    with pytest.raises(BadInput, match="detectron2's own tool keeps no average of the weights"):
        check_exportable(load_config("tiny-shapes", ["train.ema=0.999"]))
    check_exportable(load_config("tiny-shapes"))
