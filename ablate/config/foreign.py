"""Runs that this project does not train: a command of the user (``engine: command``), or finished predictions.

A run of a command is a template and its parameters. What decides its result enters the identity: parameters, command,
seed, literal environment, validation data and the content of the sources; what names a machine or an output does not.

Beside `ablate.config.schema.RunConfig` these are the other two kinds of ``config.yaml``; `AnyConfig` is any of them.
"""

import math
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from ablate.config.schema import Coco, Part, RunConfig, Shapes, _about, _require
from ablate.config.template import arguments, placeholders, quoted_placeholder

# Placeholders, whose names no parameter may have, and what each stands for.
PROVIDED = {
    "run": "folder for the files of the run",
    "gpus": "number of GPUs of the run",
    "seed": "random seed of the run, set by --seeds",
    "name": "name of the run",
}
VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
NAME = re.compile(r"[A-Za-z_][\w-]*", re.ASCII)
NOTHING = "none"
SET_HERE = ("CUDA_VISIBLE_DEVICES", "DETABLATE_RUN_FOLDER")
Text = Annotated[str, Meta(min_length=1)]


class Metric(Part, frozen=True, kw_only=True):
    """A number that the command writes down while it trains."""

    file: Annotated[Text, _about("CSV with a header line, or JSON lines")]
    column: Text


class CommandConfig(Part, frozen=True, kw_only=True):
    """One run of a command that trains a detector and writes its predictions on the validation images."""

    engine: Literal["command"]
    parameters: Annotated[dict[str, Any], _about("each a placeholder of the command")] = field(default_factory=dict)
    command: Annotated[
        Text,
        _about(
            "split into arguments as a shell does, then placeholders are filled; {run}, {gpus}, {seed}, {name} are "
            "provided"
        ),
    ]
    resume: Annotated[
        Text, _about("used instead of the command if the checkpoint exists; none: the run starts from the beginning")
    ] = NOTHING
    checkpoint: Annotated[Text, _about("the file from which the command resumes")] = NOTHING
    predictions: Annotated[Text, _about("COCO results file that the command writes, or a pattern for its parts")]
    validation: Shapes | Coco
    sources: Annotated[tuple[Text, ...], _about("files and folders whose content decides the result")] = ()
    cwd: Annotated[Text, _about("the working directory; by default the folder of the base config")] = "."
    python: Annotated[Text, _about("the interpreter that `python` stands for; none: the one on the PATH")] = NOTHING
    env: Annotated[
        dict[str, Any], _about("environment variables with values, which are stored and are part of the run id")
    ] = field(default_factory=dict)
    pass_env: Annotated[
        tuple[str, ...], _about("names of environment variables that are passed on and never stored")
    ] = ()
    metrics: Annotated[dict[str, Metric], _about("log file of the command, for progress and curves")] = field(
        default_factory=dict
    )
    shell: Annotated[bool, _about("true: the command is run by /bin/sh")] = False
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0

    def __post_init__(self) -> None:
        values = parameter_texts(self.parameters)
        for name in values:
            _require(
                name not in PROVIDED,
                f"parameters.{name}: {{{name}}} is {PROVIDED.get(name)} already; choose another name for the parameter",
            )
        known = (*values, *PROVIDED)
        for key in ("command", "resume", "checkpoint", "predictions"):
            _check_placeholders(key, getattr(self, key), known)
        for name, metric in self.metrics.items():
            _check_placeholders(f"metrics.{name}.file", metric.file, known)
        used = placeholders(self.command)
        for name in values:
            _require(
                name in used,
                f"parameters.{name}: is not a placeholder of the command, so it would have no effect; write {{{name}}} "
                "into the command, or leave the parameter out",
            )
        for key in ("command", "resume"):
            self._check_command(key, getattr(self, key))
        _require(
            (self.resume == NOTHING) == (self.checkpoint == NOTHING),
            "resume and checkpoint belong together: resume is used if the checkpoint file exists; give both or neither",
        )
        _require(
            not self.shell or self.python == NOTHING,
            "python: is for commands without a shell; with shell: true write the interpreter into the command",
        )
        for name in (*self.env, *self.pass_env):
            key = "env" if name in self.env else "pass_env"
            _require(bool(VARIABLE.fullmatch(name)), f"{key}: {name!r} is not a name of an environment variable")
            _require(
                not (name in self.env and name in self.pass_env),
                f"env and pass_env both set {name}; the value of env is stored, that of pass_env is not: keep one",
            )
            _require(
                name not in SET_HERE,
                f"{key}: {name} is set for each run, to its GPUs and its folder; leave it out",
            )
        for name, value in self.env.items():
            _as_text(f"env.{name}", value)

    def key_of(self, name: str) -> str:
        """The dotted key that a person means by a name: one of this config, or else a parameter.

        Raises:
            ValueError: the name may mean either.
        """
        is_key = name.partition(".")[0] in self.__struct_fields__
        is_parameter = name in parameter_texts(self.parameters)
        _require(
            not (is_key and is_parameter),
            f"{name} is a parameter and a key of the config; write parameters.{name} for the parameter",
        )
        return name if is_key else f"parameters.{name}"

    def _check_command(self, key: str, command: str) -> None:
        if self.shell:
            name = quoted_placeholder(command)
            _require(
                not name,
                f"{key}: {{{name}}} is in quotes; with shell: true each value is quoted already, so remove the quotes",
            )
            return
        try:
            words = arguments(command, dict.fromkeys(placeholders(command), "x"))
        except ValueError as error:
            raise ValueError(f"{key}: cannot be split into arguments ({str(error).lower()})") from None
        _require(bool(words), f"{key}: is empty; write the command that trains and predicts")

    @property
    def variables(self) -> dict[str, str]:
        """The literal environment variables of the command."""
        return {name: _as_text(name, value) for name, value in self.env.items()}

    @property
    def takes_seed(self) -> bool:
        """Whether another seed makes another run."""
        return "seed" in placeholders(self.command)


class AdoptedConfig(Part, frozen=True, kw_only=True):
    """One finished run from elsewhere: its predictions."""

    engine: Literal["adopted"]
    predictions: Annotated[Text, _about("where they came from")]
    sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$"), _about("of that file")]
    annotations: Annotated[Text, _about("instances JSON: the ground truth")]
    images: Annotated[Text, _about("folder of the validation images, or none")] = NOTHING
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0

    @property
    def validation(self) -> Coco:
        """The validation set on which the predictions are evaluated."""
        return Coco(annotations=self.annotations, images=self.images)


ForeignConfig = CommandConfig | AdoptedConfig
AnyConfig = RunConfig | CommandConfig | AdoptedConfig
KINDS: Mapping[str, type[CommandConfig] | type[AdoptedConfig]] = {"command": CommandConfig, "adopted": AdoptedConfig}


def validation_of(config: AnyConfig) -> Shapes | Coco:
    """The validation set of a run of any kind."""
    return config.data.validation if isinstance(config, RunConfig) else config.validation


def parameter_texts(parameters: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """The parameters by their dotted names, each as the command gets it.

    >>> parameter_texts({"lr": 8e-5, "optim": {"name": "SGD", "nesterov": True}, "epochs": 12})
    {'lr': '8e-05', 'optim.name': 'SGD', 'optim.nesterov': 'true', 'epochs': '12'}

    Raises:
        ValueError: a name or a value cannot be filled in.
    """
    found: dict[str, str] = {}
    for name, value in parameters.items():
        key = f"{prefix}{name}"
        _require(
            all(NAME.fullmatch(part) for part in str(name).split(".")),
            f"parameters.{key}: a name has letters, digits, - and _, and begins with a letter",
        )
        if isinstance(value, Mapping):
            found |= parameter_texts(value, f"{key}.")
            continue
        found[key] = _as_text(f"parameters.{key}", value)
    return found


def _as_text(key: str, value: object) -> str:
    """A value as a command gets it.

    Raises:
        ValueError: it is no number, text, true or false.
    """
    _require(
        isinstance(value, str | int | float),
        f"{key}: must be a number, text, true or false, not {_kind(value)}; write a list as the text that the command "
        "takes",
    )
    _require("\0" not in str(value), f"{key}: must not hold a zero byte")
    _require(not isinstance(value, float) or math.isfinite(value), f"{key}: must be a finite number; write it as text")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_placeholders(key: str, text: str, known: tuple[str, ...]) -> None:
    for name in placeholders(text):
        _require(
            name in known,
            f"{key}: {{{name}}} is neither a parameter nor provided; there are {', '.join(sorted(known))} (write {{{{ "
            "and }} for literal braces)",
        )


def _kind(value: object) -> str:
    return "nothing" if value is None else "a list" if isinstance(value, list | tuple) else type(value).__name__
