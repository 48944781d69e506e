"""The loop of pre-training: what it leaves, that nothing is lost, and the recipe against MAE's published code."""

import logging
import math
import random
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from ablate.config.schema import Encoder, Folder, Pretrain, Pretraining
from ablate.models.mae import MaskedAutoencoder
from ablate.runs.folder import PretrainingFolder, Workspace
from ablate.runs.manifest import make_manifest
from ablate.train.checkpoint import load_checkpoint
from ablate.train.distributed import Processes
from ablate.train.mae import Pretrainer, build_autoencoder, build_pretraining_optimizer, picture_set
from ablate.train.optim import lr_factor_after_warmup
from ablate.train.outcome import Diverged, RuntimeOptions
from analysis.exceptions import BadInput
from tests.ablate.engines.test_training import same
from tests.ablate.processes import run_and_kill, run_in_two_processes
from tests.shared_data import shared_data

ALONE = Processes(0, 1, torch.device("cpu"))
RUNTIME = RuntimeOptions()


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six images of waves that differ in colour and direction."""
    folder = tmp_path_factory.mktemp("images")
    y, x = np.mgrid[:40, :48] / 8
    for number in range(6):
        turn = number * math.pi / 6
        wave = np.sin(x * math.cos(turn) + y * math.sin(turn))[:, :, None] * (60, 20 * number, 90) + 128
        Image.fromarray(wave.astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def config(images: Path, **changes: Any) -> Pretraining:
    """4 epochs of 6 images in batches of 2: 12 iterations."""
    recipe = Pretrain(
        images=Folder(path=str(images)),
        image_size=16,
        decoder_width=16,
        decoder_depth=1,
        decoder_heads=2,
        epochs=4.0,
        warmup_epochs=1.0,
        batch_size=2,
        base_lr=0.1,
    )
    return Pretraining(
        encoder=Encoder(width=16, depth=2, heads=2, patch_size=4, mlp_ratio=2.0),
        pixel_mean=(0.485, 0.456, 0.406),
        pixel_std=(0.229, 0.224, 0.225),
        pretrain=msgspec.structs.replace(recipe, **changes),
    )


def prepared(root: Path, pretraining: Pretraining, name: str = "run") -> PretrainingFolder:
    folder = Workspace(root).pretraining(name)
    manifest = make_manifest(
        training=name,
        evaluation=name,
        seed=0,
        training_data="",
        validation_data="",
        training_images="",
        validation_images="",
    )
    folder.prepare_for(pretraining, manifest)
    return folder


def pretrainer_of(
    folder: PretrainingFolder, runtime: RuntimeOptions = RUNTIME, processes: Processes = ALONE, **options: Any
) -> Pretrainer:
    pretraining = folder.read_pretraining()
    data = picture_set(pretraining, folder.workspace)
    torch.manual_seed(pretraining.pretrain.seed)
    return Pretrainer(pretraining, build_autoencoder(pretraining), data, folder, processes, runtime, **options)


def trained(root: Path, pretraining: Pretraining, name: str = "run", **options: Any) -> PretrainingFolder:
    folder = prepared(root, pretraining, name)
    pretrainer_of(folder, **options).train()
    return folder


def weights(folder: PretrainingFolder) -> dict[str, Tensor]:
    model: dict[str, Tensor] = load_checkpoint(folder.checkpoints_newest_first()[0])["model"]
    return model


def test_weights_and_pictures_are_kept_at_the_epochs_asked_for(tmp_path: Path, images: Path) -> None:
    folder = trained(tmp_path, config(images), keep=(2,))
    assert sorted(path.name for path in folder.weights.iterdir()) == [
        "0002.pth", "0002_full.pth", "0004.pth", "0004_full.pth",
    ]  # fmt: skip
    last = torch.load(folder.weights_after(4), weights_only=True)["model"]
    full = torch.load(folder.full_weights_after(4), weights_only=True)["model"]
    same(full, weights(folder))
    same(last, {key: value for key, value in full.items() if not key.startswith(("decoder", "mask"))})
    before = torch.load(folder.weights_after(2), weights_only=True)["model"]
    assert not torch.equal(before["blocks.1.mlp.fc2.weight"], last["blocks.1.mlp.fc2.weight"])
    with Image.open(folder.pictures_after(4)) as sheet:
        width, height = sheet.size
    assert width == 2 * (3 * 112 + 2 * 4) + 16  # crops of 16 pixels, enlarged; two columns of three
    assert height == 3 * 112 + 2 * 4
    lines = folder.read_metrics()
    assert lines[-1]["iteration"] == 12
    assert lines[-1]["loss"] == lines[-1]["reconstruction"]
    events = [(event["event"], event.get("epoch")) for event in folder.read_events()]
    assert events == [("weights kept", 2), ("weights kept", 4)]


def test_what_does_not_fit_is_refused(tmp_path: Path, images: Path) -> None:
    folder = prepared(tmp_path, config(images))
    with pytest.raises(BadInput, match=r"1 processes with 3 forward passes each cannot share batches of 2 images"):
        pretrainer_of(folder, grad_accum_steps=3)
    with pytest.raises(BadInput, match=r"config.yaml: differs from the given config"):
        prepared(tmp_path, config(images, mask_ratio=0.5))
    poisoned = pretrainer_of(folder)
    poisoned.autoencoder.decoder_pred.bias.data.fill_(float("nan"))
    with pytest.raises(Diverged, match=r"iteration 1 of 12 \(reconstruction nan\); lower base_lr"):
        poisoned.train()


def test_two_passes_are_one_batch(tmp_path: Path, images: Path) -> None:
    one, two = (prepared(tmp_path, config(images, epochs=2.0, base_lr=8.0), name) for name in ("one", "two"))
    with_sgd(one, ALONE).train()
    with_sgd(two, ALONE, grad_accum_steps=2).train()
    torch.testing.assert_close(weights(one), weights(two), rtol=1e-4, atol=1e-6)


KILLED = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from ablate.train.outcome import RuntimeOptions
    from ablate.runs.folder import PretrainingFolder
    from tests.ablate.train.test_mae import pretrainer_of
    pretrainer = pretrainer_of(PretrainingFolder(Path(sys.argv[2])), RuntimeOptions(checkpoint_iterations=2), keep=(2,))
    step = pretrainer._step
    def told(*arguments):
        print("step", pretrainer.iteration, flush=True)
        return step(*arguments)
    pretrainer._step = told
    pretrainer.train()
"""


def kept(folder: PretrainingFolder) -> dict[str, dict[str, Tensor]]:
    return {path.name: torch.load(path, weights_only=True)["model"] for path in sorted(folder.weights.iterdir())}


def test_killed_and_damaged_it_ends_with_the_same_bits(
    tmp_path: Path, images: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """SIGKILL in the middle of a step, and the newest checkpoint cut short: said aloud, and only time is lost."""
    whole = trained(tmp_path, config(images), "whole", keep=(2,))
    folder = prepared(tmp_path, config(images), "killed")
    run_and_kill(KILLED, folder.path, 9, 0.01)
    newest = folder.checkpoint(8)
    newest.write_bytes(newest.read_bytes()[:2000])
    with caplog.at_level(logging.INFO, "ablate"):
        pretrainer_of(folder, keep=(2,)).train()
    assert "00000008.pt: is damaged" in caplog.messages[0]
    assert caplog.messages[1] == "continuing after iteration 6 of 12"
    same(weights(folder), weights(whole))
    assert kept(folder).keys() == kept(whole).keys()
    for name, state in kept(whole).items():
        same(kept(folder)[name], state)


@pytest.mark.campaign
def test_a_storm_of_kills_at_random_moments(tmp_path: Path, images: Path) -> None:
    pretraining = config(images, epochs=200.0)  # 600 iterations of some milliseconds
    whole = trained(tmp_path, pretraining, "whole", keep=(2,))
    folder = prepared(tmp_path, pretraining, "killed")
    rng = random.Random(0)
    for _ in range(8):  # a checkpoint is written after every second step
        run_and_kill(KILLED, folder.path, None, rng.uniform(0, 0.15))
    assert len(folder.read_events()) > 6, "it was resumed again and again"
    pretrainer_of(folder, keep=(2,)).train()
    same(weights(folder), weights(whole))
    for name, state in kept(whole).items():
        same(kept(folder)[name], state)


PARTNERS = """
    import sys, torch
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    torch.set_num_threads(1)
    from ablate.train.distributed import joined
    from ablate.runs.folder import PretrainingFolder
    from tests.ablate.train.test_mae import with_sgd
    with joined("cpu") as processes:
        with_sgd(PretrainingFolder(Path(sys.argv[2])), processes).train()
"""


def with_sgd(folder: PretrainingFolder, processes: Processes, **options: Any) -> Pretrainer:
    """AdamW makes noise of small gradients; this shows them."""
    pretrainer = pretrainer_of(folder, processes=processes, **options)
    trained = [parameter for parameter in pretrainer.autoencoder.parameters() if parameter.requires_grad]
    pretrainer.optimizer = torch.optim.SGD(trained, lr=0.1)
    return pretrainer


def test_two_processes_train_as_one(tmp_path: Path, images: Path) -> None:
    pretraining = config(images, epochs=2.0, base_lr=8.0)
    one, two = (prepared(tmp_path, pretraining, name) for name in ("one", "two"))
    with_sgd(one, ALONE).train()
    run_in_two_processes(PARTNERS, two.path)
    first, second = weights(one), weights(two)
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-6)
    start = build(pretraining).state_dict()
    assert max((first[key] - start[key]).abs().max().item() for key in start) > 1e-3, "far more than the tolerance"
    assert two.read_metrics()[-1]["loss"] == pytest.approx(one.read_metrics()[-1]["loss"], rel=1e-5)


def build(pretraining: Pretraining) -> MaskedAutoencoder:
    torch.manual_seed(pretraining.pretrain.seed)
    return build_autoencoder(pretraining)


def test_the_schedule_is_that_of_the_published_code() -> None:
    """Linear from 0 in the warm-up epochs, then half a cosine over those that remain; the epoch moves by iterations."""
    epochs, warm, each = 30, 4, 7

    def published(iteration: int) -> float:
        epoch = iteration / each
        if epoch < warm:
            return epoch / warm
        return 0.5 * (1.0 + math.cos(math.pi * (epoch - warm) / (epochs - warm)))

    for iteration in range(epochs * each):
        found = lr_factor_after_warmup(iteration, iterations=epochs * each, warmup=warm * each)
        assert found == pytest.approx(published(iteration), abs=1e-12)


def test_the_recipe_is_that_of_the_paper(tmp_path: Path, images: Path) -> None:
    recipe = Pretrain(images=Folder(path="x"))
    assert (recipe.base_lr, recipe.weight_decay, recipe.betas) == (1.5e-4, 0.05, (0.9, 0.95))
    assert (recipe.batch_size, recipe.warmup_epochs, recipe.mask_ratio) == (4096, 40, 0.75)
    assert (recipe.decoder_width, recipe.decoder_depth, recipe.decoder_heads) == (512, 8, 16)
    assert (recipe.image_size, recipe.crop_scale, recipe.flip, recipe.normalised_target) == (224, (0.2, 1), 0.5, True)
    assert pretrainer_of(prepared(tmp_path, config(images, batch_size=6))).peak_lr == pytest.approx(0.1 * 6 / 256)


def test_decay_is_given_as_timm_gives_it(images: Path) -> None:
    timm = pytest.importorskip("timm.optim")
    model = build(config(images))
    expected = timm.param_groups_weight_decay(model, 0.05)
    optimizer = build_pretraining_optimizer(model, 0.05, (0.9, 0.95))
    for group in optimizer.param_groups:
        (theirs,) = (one for one in expected if one["weight_decay"] == group["weight_decay"])
        assert {id(p) for p in group["params"]} == {id(p) for p in theirs["params"]}
        assert group["betas"] == (0.9, 0.95)


def test_the_loss_falls_on_real_images(tmp_path: Path) -> None:
    """16 photographs, 100 steps; 1 is what the mean of each patch comes to, so below that it has looked at the rest."""
    source = shared_data("coco_train2017_208", "images")
    folder = tmp_path / "few"
    folder.mkdir()
    for path in sorted(source.iterdir())[:16]:
        (folder / path.name).symlink_to(path)
    pretraining = config(folder, epochs=50.0, warmup_epochs=5.0, batch_size=8, image_size=32, decoder_width=32)
    wider = msgspec.structs.replace(pretraining.encoder, width=64, patch_size=8)
    done = trained(tmp_path, msgspec.structs.replace(pretraining, encoder=wider))
    losses = [line["loss"] for line in done.read_metrics()]
    assert losses[-1] < 0.95 < losses[0]
