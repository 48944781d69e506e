"""The folder of a pre-training: ``<root>/results/pretraining/<identity>/``, a run's folder but for what comes out.

``config.yaml`` is a ``Pretraining``; in place of predictions and evaluation there are

======================== ============================================================================================
``weights/NNNN.pth``     the encoder after NNNN epochs, as the official MAE files hold it: ``["model"]``
``weights/NNNN_full.pth``  the same with the decoder
``pictures/NNNN.png``    a few images after NNNN epochs: original, what the encoder saw, what the decoder made of it
======================== ============================================================================================

The folder is named by the hash of the config and of the list of images, so studies that need the same weights share it.
"""

from pathlib import Path

import msgspec

from ablate.config import Folder, Pretraining
from ablate.config_yaml import dump_config, parse, read_yaml
from ablate.identity import short
from ablate.store import RunFolder, run_folder
from analysis.refusal import BadInput

KIND = "pretraining"


class PretrainingFolder(RunFolder):
    """The files of one pre-training."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.weights = path / "weights"
        self.pictures = path / "pictures"

    def prepare_for(self, pretraining: Pretraining, manifest: msgspec.Struct) -> None:
        """Make the folder and its first files; where they are already, check that they are of the same config.

        Raises:
            BadInput: the folder holds another config, or cannot be written.
        """
        images = pretraining.pretrain.images
        if isinstance(images, Folder):
            images = Folder(path=str(Path(images.path).expanduser().absolute()))
        pretrain = msgspec.structs.replace(pretraining.pretrain, images=images)
        self.begin(
            dump_config(msgspec.structs.replace(pretraining, pretrain=pretrain)),
            manifest,
            lambda: self._check_same_pretraining(pretraining),
        )

    def _check_same_pretraining(self, pretraining: Pretraining) -> None:
        stored = self.read_pretraining()
        moved = msgspec.structs.replace(stored.pretrain, images=pretraining.pretrain.images)  # they may lie elsewhere
        if msgspec.structs.replace(stored, pretrain=moved) != pretraining:
            raise BadInput(f"{self.config}: differs from the config asked for; move this folder away to begin again")

    def read_pretraining(self) -> Pretraining:
        """The config of this pre-training."""
        return parse(read_yaml(self.config), Pretraining, str(self.config))

    def sweep(self) -> None:
        """Remove what a kill left of any file; only for the holder, who alone writes them."""
        for folder in (self.checkpoints, self.weights, self.pictures):
            for path in folder.glob(".*.part"):
                path.unlink(missing_ok=True)

    def weights_after(self, epochs: int) -> Path:
        """Where the encoder after so many epochs belongs."""
        return self.weights / f"{epochs:04d}.pth"

    def full_weights_after(self, epochs: int) -> Path:
        """Where encoder and decoder after so many epochs belong."""
        return self.weights / f"{epochs:04d}_full.pth"

    def pictures_after(self, epochs: int) -> Path:
        """Where the reconstructions after so many epochs belong."""
        return self.pictures / f"{epochs:04d}.png"


def pretraining_name(identity: str) -> str:
    """The name under which runs need a pre-training, from its identity of 64 hex digits."""
    return f"{KIND}/{short(identity)}"


def pretraining_folder(root: Path, identity: str) -> PretrainingFolder:
    """The folder of a pre-training, whether it exists or not."""
    return PretrainingFolder(run_folder(root, pretraining_name(identity)).path)
