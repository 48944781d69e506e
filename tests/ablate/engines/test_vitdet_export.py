"""The export of the presets of ViTDet against detectron2's own configs, value by value."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ablate.config.yaml import load_config, with_changes
from ablate.engines.lazyconfig import facts_of, lazyconfig_text
from ablate.runs.folder import Workspace
from tests.detectron2 import needs_detectron2

pytestmark = needs_detectron2

# What the exported file says otherwise than detectron2's own, and why.
OTHERWISE = {
    "model.backbone.net.use_rel_pos": "ViTDet's ablations are without",
    "train.init_checkpoint": "no weights are exported here",
    "train.ddp.fp16_compression": "of what processes send each other",
    "train.amp.precision": "an addition of ours",
    "train.seed": "likewise; detectron2's is not fixed",
    "train.eval_period": "the last weights are measured, once",
    "train.checkpointer.period": "an epoch, by the images with objects",
    "train.checkpointer.max_to_keep": "two suffice to go on",
    "lr_multiplier.warmup_factor": "the first of equal steps up, as in every config of ours",
    "dataloader.train.dataset.names": "registered in the file itself",
    "dataloader.test.dataset.names": "likewise",
    "dataloader.evaluator.dataset_name": "likewise",
    "dataloader.train.mapper.augmentations": "compared one by one",
}


@pytest.mark.parametrize("letter", ["b", "l"])
def test_the_export_is_detectron2s_own_config(letter: str, tmp_path: Path) -> None:
    import detectron2
    from detectron2.config import LazyConfig

    folder = Path(detectron2.__file__).resolve().parents[1] / "projects" / "ViTDet" / "configs" / "COCO"
    if not folder.is_dir():
        pytest.skip("this detectron2 comes without its projects")
    theirs = LazyConfig.load(str(folder / f"mask_rcnn_vitdet_{letter}_100ep.py"))
    changes = {"init.weights": "none", "model.backbone.position.absolute": "rand"}
    config = with_changes(load_config(f"vitdet-{letter}-coco"), changes)
    path = tmp_path / "config.py"
    path.write_text(lazyconfig_text(config, facts_of(config, Workspace(tmp_path)), "vitdet", native=True))
    ours = LazyConfig.load(str(path))
    compared = 0
    for part in ("model", "train", "optimizer", "lr_multiplier", "dataloader"):
        first, second = leaves_of(theirs[part], f"{part}."), leaves_of(ours[part], f"{part}.")
        for key, value in first.items():
            if key not in OTHERWISE:
                assert is_same(second[key], value), (key, second[key], value)
                compared += 1
    assert compared > 100
    augmentations = (cfg.dataloader.train.mapper.augmentations for cfg in (theirs, ours))
    for one, other in zip(*augmentations, strict=True):
        assert all(is_same(other[key], value) for key, value in one.items())
    # The steps of the learning rate fall in the same iterations.
    assert list(ours.lr_multiplier.scheduler.milestones) == list(theirs.lr_multiplier.scheduler.milestones)


def leaves_of(node: Any, prefix: str) -> dict[str, Any]:
    from omegaconf import DictConfig

    if not isinstance(node, DictConfig):
        return {prefix[:-1]: node}
    found: dict[str, Any] = {}
    for key in node:
        found |= leaves_of(node[key], f"{prefix}{key}.")
    return found


def is_same(one: Any, other: Any) -> bool:
    from omegaconf import ListConfig

    if isinstance(one, partial):
        return (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
    if isinstance(one, ListConfig | list | tuple):
        return len(one) == len(other) and all(map(is_same, one, other))
    return bool(one == (pytest.approx(other) if isinstance(other, float) else other))
