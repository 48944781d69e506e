"""`train.compile` and `train.channels_last` in training: names, resume, averages, several processes, refusals."""

import copy
from pathlib import Path

import pytest
import torch
import torch._dynamo
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ablate.config.schema import Coco
from ablate.config.yaml import load_config
from ablate.detector.mask_rcnn import build_detector, use_channels_last
from ablate.engines import torchvision
from ablate.engines.lazyconfig import check_exportable
from ablate.models import ViT, compiled
from ablate.train.checkpoint import load_checkpoint
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.engines.test_training import same, trainer_of, weights
from tests.ablate.tiny import SIDE, prepared, tiny_config

ATTENTION = "model__backbone__attention"
WITH_ALL = {
    "train__ema": 0.9,
    "model__backbone__drop_path": 0.3,
    f"{ATTENTION}__checkpoint": "all",
    "model__backbone__position__relative": "rand",
    f"{ATTENTION}__pattern": "window",
    "train__iterations": 3,
}


RESNET = ["model.backbone={type: resnet, depth: 50, image_size: 1024}", "model.pyramid.type=fpn", "init.weights=none"]
SEEN_BY_TORCH = pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # a warning about its own code


@SEEN_BY_TORCH
def test_training_learns_the_same_and_is_continued(tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a backend that runs the graphs as they were found; making them faster takes minutes."""
    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    monkeypatch.setattr(torchvision, "check_compiler", lambda _: None)
    states, losses = [], []
    for name, options in {
        "plain": {},
        "compiled": {"train__compile": True},
        "all": {"train__compile": True, "train__channels_last": True, f"{ATTENTION}__kernel": "fused_table"},
    }.items():
        folder = prepared(tmp_path, tiny_config(data, **WITH_ALL, **options), name)
        trainer_of(folder, RuntimeOptions(checkpoint_iterations=1)).train()
        states.append(load_checkpoint(folder.checkpoints / "00000003.pt"))
        losses.append(folder.read_metrics()[-1]["loss"])
        assert list(states[-1]["model"]) == list(states[0]["model"])
    for kind in ("model", "ema"):
        same(states[1][kind], states[0][kind])
    assert losses[2] == pytest.approx(losses[0], rel=1e-3)
    assert states[2]["model"]["rpn.head.conv.0.0.weight"].is_contiguous(memory_format=torch.channels_last)

    stopped = prepared(tmp_path, folder.read_config(), "stopped")
    (stopped.checkpoints / "00000002.pt").write_bytes((folder.checkpoints / "00000002.pt").read_bytes())
    trainer_of(stopped).train()
    same(weights(stopped), states[2]["model"])


@SEEN_BY_TORCH
@pytest.mark.filterwarnings("ignore:`broadcast_buffers`")
def test_wrapped_for_several_processes_it_learns_the_same(tmp_path: Path, data: Coco) -> None:
    torch._dynamo.reset()
    changes = {"model__backbone__drop_path": 0.2, "model__backbone__attention__pattern": "window"}
    plain = build_detector(tiny_config(data, **changes).model, 2).backbone
    other = copy.deepcopy(plain)
    assert isinstance(other, ViT)
    other.compile_blocks("eager")
    images = torch.randn(2, 3, SIDE, SIDE)
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", rank=0, world_size=1, store=store)
    try:
        wrapped = DistributedDataParallel(other, broadcast_buffers=False, gradient_as_bucket_view=True)
        for _ in range(2):
            gradients = []
            for model, inside in ((plain, plain), (wrapped, other)):
                inside.zero_grad()
                inside.generators = [torch.Generator().manual_seed(row) for row in range(2)]  # type: ignore[assignment]
                torch.stack([one.square().sum() for one in model(images)]).sum().backward()
                gradients.append({name: one.grad for name, one in inside.named_parameters()})
            torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)
        del wrapped, model
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("name", ["compile", "channels_last"])
def test_other_engines_refuse_them(name: str) -> None:
    with pytest.raises(BadInput, match=f"train.{name} is an option of engine=vision, but engine is detectron2"):
        load_config("tiny-shapes", ["engine=detectron2", f"train.{name}=true"])
    with pytest.raises(BadInput, match=f"train.{name}: detectron2's own tool has no such option"):
        check_exportable(load_config("tiny-shapes", [f"train.{name}=true"]))


def test_a_resnet_has_no_blocks_to_compile() -> None:
    with pytest.raises(BadInput, match="compiles the blocks of a ViT, but"):
        load_config("vit-b-coco", [*RESNET, "train.compile=true"])


def test_a_machine_that_cannot_compile_is_refused(tmp_path: Path, data: Coco, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: torch.device) -> None:
        raise RuntimeError("InvalidCxxCompiler: none found")

    monkeypatch.setattr(torchvision, "check_compiler", fails)
    folder = prepared(tmp_path, tiny_config(data, train__compile=True))
    with pytest.raises(
        BadInput, match=r"torch.compile does not work on this machine \(InvalidCxxCompiler: none found\)"
    ):
        trainer_of(folder)


def test_all_of_a_resnet_has_the_layout() -> None:
    with torch.device("meta"):
        detector = build_detector(load_config("vit-b-coco", RESNET).model, 2)
    use_channels_last(detector)
    kernels = [one for one in detector.parameters() if one.dim() == 4 and one.shape[2] > 1 and one.shape[1] > 1]
    assert kernels
    assert all(one.is_contiguous(memory_format=torch.channels_last) for one in kernels)
