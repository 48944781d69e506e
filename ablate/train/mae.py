"""Pre-training as a masked autoencoder (MAE): the autoencoder of a config, its crops and optimizer, and its loop.

At chosen epochs the loop keeps the weights, and a sheet of pictures to look at: original, what the encoder saw, what
the decoder made of it.
"""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from ablate.config.schema import Pretraining
from ablate.data.images import Crops, CropSet, find_images, stacked
from ablate.data.loader import normalise
from ablate.models.mae import MaskedAutoencoder
from ablate.runs.folder import PretrainingFolder, Workspace, replacing
from ablate.train.checkpoint import write_tensors
from ablate.train.distributed import Processes
from ablate.train.logging import Curves
from ablate.train.loop import TrainLoop
from ablate.train.optim import autocast, lr_factor_after_warmup
from ablate.train.outcome import RuntimeOptions
from analysis.exceptions import BadInput

GAP = 4  # pixels
GREY = 128  # of what was hidden
SMALLEST = 112  # pixels of a picture in the gallery; smaller crops are enlarged


def draw_reconstructions(images: Tensor, found: Tensor, hidden: Tensor, pretraining: Pretraining) -> bytes:
    """A PNG with a row of three pictures an image, two of them side by side where there are more than four.

    Args:
        images: u8[B, 3, side, side] RGB.
        found: f32[B, 3, side, side], normalised: what the decoder made of the hidden patches.
        hidden: f32[B, 1, side, side], 1 where the encoder did not look.
        pretraining: whose pixel statistics normalised them.
    """
    std, mean = (
        torch.tensor(values, device=found.device).reshape(3, 1, 1)
        for values in (pretraining.pixel_std, pretraining.pixel_mean)
    )
    original = images.float()
    made = ((found * std + mean) * 255).clamp(0, 255)
    pictures = [original, *(original * (1 - hidden) + instead * hidden for instead in (GREY, made))]
    rows = torch.stack(pictures, dim=1).round().to(torch.uint8).cpu()  # [B, 3 pictures, 3, side, side]
    factor = max(1, -(-SMALLEST // rows.shape[-1]))
    rows = rows.repeat_interleave(factor, dim=-1).repeat_interleave(factor, dim=-2)
    side, columns = rows.shape[-1], 2 if len(rows) > 4 else 1
    lines = -(-len(rows) // columns)
    width = columns * (3 * side + 2 * GAP) + (columns - 1) * 4 * GAP
    sheet = torch.full((3, lines * side + (lines - 1) * GAP, width), 255, dtype=torch.uint8)
    for number, row in enumerate(rows):
        line, column = number % lines, number // lines
        top, left = line * (side + GAP), column * (3 * side + 6 * GAP)
        for place, picture in enumerate(row):
            start = left + place * (side + GAP)
            sheet[:, top : top + side, start : start + side] = picture
    buffer = io.BytesIO()
    Image.fromarray(sheet.permute(1, 2, 0).numpy()).save(buffer, format="PNG")
    return buffer.getvalue()


IMAGES_OF_LR = 256  # to which base_lr belongs
SHOWN = 8  # pictures in a gallery


class Pretrainer(TrainLoop):
    """One pre-training.

    Args:
        pretraining: its config; precision is resolved.
        autoencoder: with its initial weights; is moved to the device.
        data: the crops.
        folder: of the pre-training.
        processes: that train together.
        runtime: options that do not change the result.
        keep: epochs after which the weights are kept; those after the last one always are.
        grad_accum_steps: forward passes of a process before each optimizer step.

    Raises:
        BadInput: the batch cannot be shared evenly.
    """

    data: CropSet
    folder: PretrainingFolder
    remedy = "lower base_lr or lengthen warmup_epochs"

    def __init__(
        self,
        pretraining: Pretraining,
        autoencoder: MaskedAutoencoder,
        data: CropSet,
        folder: PretrainingFolder,
        processes: Processes,
        runtime: RuntimeOptions,
        *,
        keep: Sequence[int] = (),
        grad_accum_steps: int = 1,
    ) -> None:
        settings = pretraining.pretrain
        self.pretraining, self.autoencoder = pretraining, autoencoder.to(processes.device)
        images_per_pass, rest = divmod(settings.batch_size, processes.count * grad_accum_steps)
        if rest:
            raise BadInput(
                f"{processes.count} processes with {grad_accum_steps} forward passes each cannot share batches of "
                f"{settings.batch_size} images; choose numbers whose product divides the batch size"
            )
        assert settings.precision != "auto"
        self.peak_lr = settings.base_lr * settings.batch_size / IMAGES_OF_LR
        super().__init__(
            self.autoencoder,
            build_pretraining_optimizer(self.autoencoder, settings.weight_decay, settings.betas),
            settings.precision,
            data,
            stacked,
            folder,
            processes,
            runtime,
            batch_size=settings.batch_size,
            images_per_pass=images_per_pass,
            seed=settings.seed,
            iterations=settings.total_iterations(len(data)),
        )
        self.warmup = settings.warmup_iterations(len(data))
        self.kept = {settings.iterations_after(epoch, len(data)): epoch for epoch in sorted(keep)}
        self.kept[self.iterations] = round(settings.epochs)

    def _forward(self, batch: Crops, number: int) -> dict[str, Tensor]:
        return {"reconstruction": self.model(as_input(batch.images, self.pretraining), batch.noise)}

    def _lr(self, iteration: int) -> float:
        return self.peak_lr * lr_factor_after_warmup(iteration, iterations=self.iterations, warmup=self.warmup)

    def after_step(self, iteration: int, curves: Curves) -> None:
        """Keep weights and pictures; before the checkpoint, so that none says more is done than is there."""
        if iteration in self.kept and self.processes.first:
            self.keep_weights(self.kept[iteration])

    def keep_weights(self, epoch: int) -> None:
        """Write the weights that the model has now, and their pictures, as those after so many epochs."""
        for folder in (self.folder.weights, self.folder.pictures):
            folder.mkdir(exist_ok=True)
        for path, state in (
            (self.folder.weights_after(epoch), self.autoencoder.encoder_state()),
            (self.folder.full_weights_after(epoch), self.autoencoder.state_dict()),
        ):
            with replacing(path) as file:
                write_tensors({"model": {key: value.cpu() for key, value in state.items()}}, file)
        self._draw(epoch)
        self.folder.append_event("weights kept", epoch=epoch, path=str(self.folder.weights_after(epoch)))

    def _draw(self, epoch: int) -> None:
        chosen = sorted({round(place * (len(self.data) - 1) / (SHOWN - 1)) for place in range(SHOWN)})
        crops = stacked([self.data.whole(index) for index in chosen]).to(self.device)
        self.autoencoder.eval()
        with autocast(self.precision, self.device):
            found, hidden = self.autoencoder.reconstruct(as_input(crops.images, self.pretraining), crops.noise)
        self.autoencoder.train()
        with replacing(self.folder.pictures_after(epoch)) as file:
            file.write(draw_reconstructions(crops.images, found, hidden, self.pretraining))


def as_input(images: Tensor, pretraining: Pretraining) -> Tensor:
    """Crops u8[B, 3, side, side] -> f32, normalised."""
    sizes = torch.tensor(images.shape[2:], device=images.device).expand(len(images), 2)
    return normalise(images, sizes, pretraining.pixel_mean, pretraining.pixel_std)


def picture_set(pretraining: Pretraining, workspace: Workspace) -> CropSet:
    """The crops of a config; the embedded data lies in the workspace."""
    settings = pretraining.pretrain
    return CropSet(
        files=find_images(settings.images, workspace),
        side=settings.image_size,
        patches=(settings.image_size // pretraining.encoder.patch_size) ** 2,
        scale=settings.crop_scale,
        flip=settings.flip,
        seed=settings.seed,
    )


def build_autoencoder(pretraining: Pretraining) -> MaskedAutoencoder:
    """The autoencoder of a config, with random weights drawn from torch's global generator."""
    encoder, settings = pretraining.encoder, pretraining.pretrain
    return MaskedAutoencoder(
        width=encoder.width,
        depth=encoder.depth,
        heads=encoder.heads,
        image_size=settings.image_size,
        patch_size=encoder.patch_size,
        mlp_ratio=encoder.mlp_ratio,
        decoder_width=settings.decoder_width,
        decoder_depth=settings.decoder_depth,
        decoder_heads=settings.decoder_heads,
        mask_ratio=settings.mask_ratio,
        normalised_target=settings.normalised_target,
    )


def build_pretraining_optimizer(model: nn.Module, weight_decay: float, betas: tuple[float, float]) -> torch.optim.AdamW:
    """AdamW as in MAE's code: vectors (biases, norms) do not decay; the learning rate is set anew at each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(
        [
            {"params": [p for p in trained if p.ndim > 1], "weight_decay": weight_decay},
            {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=0.0,
        betas=betas,
    )
