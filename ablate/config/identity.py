"""The two identities of a run, hashes of its config: one for the training, one for predictions and evaluation.

Both are SHA-256 over canonical JSON of parsed values, so the order of keys, comments, the spelling of numbers, names,
paths, the machine and the launcher do not enter. A field at its default is left out: a field that is added later, with
the old behaviour as its default, changes no identity. A data set enters by its annotations
(``analysis.GroundTruth.digest``) and by name, size and content of every image (``ablate.data.fingerprint``), initial
weights as ``ablate.weights.checkpoint``.

Runs that were made before the images entered, or under an older revision below, can be read and are shown as such
(``ablate.runs.manifest``); no new run has their identity, so none takes over their weights or results.
"""

import hashlib

import msgspec

from ablate.config.foreign import AdoptedConfig, CommandConfig
from ablate.config.schema import Part, PluginBackbone, Pretraining, RunConfig

# Raised by hand when the same config starts to train to other weights: a fixed bug, another order of images.
TRAINING_REVISION = 3
PRETRAINING_REVISION = 1
# The same for predictions from the same weights, and for their evaluation.
EVALUATION_REVISION = 1
COMMAND_REVISION = 1  # of how a command is filled in and started
ID_DIGITS = 12  # hexadecimal: 48 bits, a clash among a million runs has a chance of 1 in 500


def data_digest(annotations: str, images: str) -> str:
    """The digest (64 hex digits) of a data set in an identity, from those of its annotations and its images."""
    return _hash({"annotations": annotations, "images": images})


def pretraining_identity(pretraining: Pretraining, images: str) -> str:
    """Hash (64 hex digits) of everything that determines pre-trained weights, but not which epochs are kept.

    Args:
        pretraining: resolved, as below.
        images: digest of the images.

    Raises:
        ValueError: precision is still ``auto``.
    """
    if pretraining.pretrain.precision == "auto":
        raise ValueError("resolve pretraining.precision=auto before taking an identity")
    recipe = {**_without_defaults(pretraining.pretrain), "images": images}
    return _hash({**_without_defaults(pretraining), "pretrain": recipe, "revision": PRETRAINING_REVISION})


def training_identity(config: RunConfig, training_data: str, weights: str = "") -> str:
    """Hash (64 hex digits) of everything that determines the trained weights.

    Args:
        config: the resolved config; ``train.precision`` and ``train.images_per_norm`` are no longer ``auto``.
        training_data: `data_digest` of the training set.
        weights: digest of the initial weights, or the ``pretraining_identity`` of the pre-training that makes them;
            empty where there are none.

    Raises:
        ValueError: where one of them is still ``auto``, because two machines would share an identity and not a result;
            where the config names weights or a pre-training and its digest is missing, or the other way round.
    """
    for key in ("precision", "images_per_norm"):
        if getattr(config.train, key) == "auto":
            raise ValueError(f"resolve train.{key}=auto before taking an identity")
    backbone = config.model.backbone
    if isinstance(backbone, PluginBackbone) and backbone.code == "auto":
        raise ValueError("resolve model.backbone.code=auto before taking an identity")
    if (config.init.weights == config.init.pretraining == "none") == bool(weights):
        raise ValueError("an identity takes the digest of the weights that init names")
    values = _without_defaults(config)
    if weights:
        key = "weights" if config.init.pretraining == "none" else "pretraining"
        values["init"] = {**_without_defaults(config.init), key: weights}
    values.pop("evaluate", None)
    rules = {key: value for key, value in _without_defaults(config.data).items() if key not in ("train", "validation")}
    return _hash({**values, "data": {"train": training_data, **rules}, "revision": TRAINING_REVISION})


def evaluation_identity(config: RunConfig, training_data: str, validation_data: str, weights: str = "") -> str:
    """Hash (64 hex digits) of everything that determines the predictions and their analysis.

    Args:
        config: as in ``training_identity``.
        training_data: `data_digest` of the training set.
        validation_data: that of the validation set.
        weights: as in ``training_identity``.

    Raises:
        ValueError: as ``training_identity``.
    """
    return _hash(
        {
            "training": training_identity(config, training_data, weights),
            "evaluate": _without_defaults(config.evaluate),
            "validation": validation_data,
            "revision": EVALUATION_REVISION,
        }
    )


def command_identities(config: CommandConfig, sources: str, validation_data: str) -> tuple[str, str]:
    """The training and the evaluation identity (64 hex digits each) of a command's run.

    What enters is what decides the result: parameters, command, seed, literal environment, the content of the sources
    and the validation data; not the interpreter's path, the working directory, the outputs or ``pass_env``.

    Args:
        config: of the run.
        sources: digest of its sources.
        validation_data: `data_digest` of the validation set.
    """
    decides = {key: getattr(config, key) for key in ("engine", "parameters", "command", "shell", "seed")}
    training = _hash({**decides, "env": config.variables, "sources": sources, "revision": COMMAND_REVISION})
    return training, _measured(training, validation_data)


def adopted_identities(config: AdoptedConfig, validation_data: str) -> tuple[str, str]:
    """The two identities of adopted predictions, whose content is all that is known of the training."""
    training = _hash({"engine": config.engine, "predictions": config.sha256})
    return training, _measured(training, validation_data)


def _measured(training: str, validation_data: str) -> str:
    return _hash({"training": training, "validation": validation_data, "revision": EVALUATION_REVISION})


def short_id(identity: str) -> str:
    """The run id: the first 12 hex digits of an identity (64 hex digits), which name the folder of a run."""
    return identity[:ID_DIGITS]


def _hash(values: dict[str, object]) -> str:
    return hashlib.sha256(msgspec.json.encode(values, order="sorted")).hexdigest()


def _without_defaults(part: Part) -> dict[str, object]:
    """Field by field; a part that is all default is left out as a whole, the tag of a union stays."""
    config = part.__struct_config__
    values: dict[str, object] = {} if config.tag is None else {str(config.tag_field): config.tag}
    return values | {
        field.name: _without_defaults(value) if isinstance(value, Part) else value
        for field, value in zip(msgspec.structs.fields(part), msgspec.structs.astuple(part), strict=True)
        if field.required or value != field.default
    }
