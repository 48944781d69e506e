"""Options that several verbs of ``ablate`` have, each declared once, and the output of verbs.

A verb takes options that it has in common with others as one value: a dataclass, whose fields `with_options` makes
options of the verb. The verb's own options stand beside it.
"""

import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, fields, is_dataclass
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
import typer

from ablate.cli import completion
from ablate.config.foreign import CommandConfig
from ablate.config.schema import RunConfig
from ablate.config.yaml import load_any_config, load_config, scalar
from ablate.data.sources import data_from
from ablate.launch.base import Drain, LaunchOptions
from ablate.runs.folder import Workspace
from ablate.studies.study import Study, newest_study, read_study
from ablate.weights.settings import init_settings, initialisation_of
from analysis.cli.analyze import AsJson as AsJson  # the verbs take all that is shared from here
from analysis.cli.analyze import print_json as print_json
from analysis.exceptions import BadInput

if TYPE_CHECKING:
    from rich.console import RenderableType

    from ablate.launch.cluster import Cluster

WATCH_SECONDS = 2.0
SLURM_PANEL = "Jobs of --on slurm"
DURATION = re.compile(r"\s*".join(rf"(?:(\d+(?:\.\d+)?)\s*{unit})?" for unit in "dhms"))
HERE = Workspace(Path())

EngineName = Literal["vision", "detectron2"]


def as_workspace(root: str | Workspace) -> Workspace:
    """The workspace of ``--root``; a workspace is returned as it is."""
    return root if isinstance(root, Workspace) else Workspace(Path(root))


InWorkspace = Annotated[
    Workspace, typer.Option("--root", parser=as_workspace, metavar="<path>", help="Folder that contains results/.")
]
DataFrom = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="DATA",
        help="shapes, a COCO root or a YAML file; or four times: train JSON, train images, validation JSON, "
        "validation images.",
        show_default="the config's",
    ),
]
OnDevice = Annotated[
    Literal["auto", "cpu", "cuda"], typer.Option("--device", help="Device; auto uses a GPU if there is one.")
]
Workers = Annotated[
    int | None,
    typer.Option(help="Number of processes that load images.", min=0, show_default="from the number of cores"),
]
CheckpointMinutes = Annotated[float, typer.Option(help="Minutes between checkpoints.", min=0)]
EngineOfAll = Annotated[
    EngineName | None, typer.Option("--engine", help="Engine that trains all runs.", show_default="the base's, vision")
]
DeviceMemory = Annotated[
    float | None,
    typer.Option(
        "--device-memory", metavar="GIB", help="Memory of each GPU, in GiB.", min=0, show_default="as detected"
    ),
]
WithoutAsking = Annotated[
    bool, typer.Option("--yes", "-y", help="Start at once, without timing a few iterations and without asking.")
]
StudyName = Annotated[
    str,
    typer.Argument(
        metavar="STUDY", help="Name of the study.", show_default="the newest", autocompletion=completion.studies
    ),
]


@dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """The config of a verb, its data, and the device that computes."""

    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG", help="A YAML file or the name of a preset.", autocompletion=completion.configs
        ),
    ]
    data: DataFrom = None
    workspace: InWorkspace = HERE
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a field, such as train.lr=8e-5.",
            autocompletion=completion.keys,
        ),
    ] = None
    weights: Annotated[
        str,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="File of pre-trained weights to start from, with the settings that belong to them (see: weights "
            "inspect); --set overrides these.",
            show_default="the config's",
        ),
    ] = ""
    device: OnDevice = "auto"

    def load(self) -> RunConfig:
        """The config with the data, the weights and the changes of the command line.

        Raises:
            BadInput: there is no such file or preset, or an option does not fit the config.
        """
        belonging = {}
        if self.weights:
            belonging = init_settings(initialisation_of(self.weights), load_config(self.config), self.weights)
        changes = [*(f"{key}={scalar(value)}" for key, value in belonging.items()), *(self.changes or ())]
        return load_config(self.config, changes, data_from(self.data) if self.data else None)

    def load_command(self) -> CommandConfig | None:
        """The config with its changes, if it is that of a command of the user; else None.

        Raises:
            BadInput: there is no such file or preset, or an option does not fit the config.
        """
        if not isinstance(load_any_config(self.config), CommandConfig):
            return None
        for option in ("data", "weights"):
            if getattr(self, option):
                raise BadInput(
                    f"--{option}: does not apply to {self.config}, a command of your own; its config names the data"
                )
        config = load_any_config(self.config, self.changes or ())
        return config if isinstance(config, CommandConfig) else None


@dataclass(frozen=True, kw_only=True)
class LaunchSettings:
    """How runs are launched. No option changes a result; the plan depends on ``gpus_per_run`` alone."""

    gpus_per_run: Annotated[
        int, typer.Option("--gpus-per-run", help="Number of GPUs that train one run together.", min=1)
    ] = 1
    parallel: Annotated[
        int, typer.Option("--parallel", help="Number of runs at the same time on a CPU, each with one thread.", min=1)
    ] = 1
    retry: Annotated[
        bool, typer.Option("--retry", help="Also start the runs again that failed, diverged or ran out of memory.")
    ] = False
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop all runs at the first failure.")] = False
    workers: Workers = None
    checkpoint_minutes: CheckpointMinutes = 10.0

    def on(self, device: str) -> LaunchOptions:
        """The options of a launch on a device: auto, cpu or cuda."""
        return LaunchOptions(
            device=device,
            gpus_per_run=self.gpus_per_run,
            parallel=self.parallel,
            retry=self.retry,
            fail_fast=self.fail_fast,
            loaders=self.workers,
            checkpoint_minutes=self.checkpoint_minutes,
        )


@dataclass(frozen=True, kw_only=True)
class DrainSettings:
    """Options of ``--drain``: several launches, on any hosts that share the disk, work on one study."""

    drain: Annotated[
        bool,
        typer.Option(
            "--drain", help="Share the study with other drains, on any hosts; end when there is no run left to start."
        ),
    ] = False
    max_runs: Annotated[
        int | None, typer.Option("--max-runs", help="Start at most this number of runs.", min=1, show_default="all")
    ] = None
    stop_after: Annotated[
        str,
        typer.Option(
            "--stop-after",
            metavar="DURATION",
            help="Save the current runs and end after this time, such as 4h, 90m or 1h30m.",
            show_default=False,
        ),
    ] = ""

    def chosen(self) -> Drain | None:
        """The limits of the drain; None without ``--drain``.

        Raises:
            BadInput: ``--stop-after`` is not a duration.
        """
        seconds = seconds_of("--stop-after", self.stop_after) if self.stop_after else None
        return Drain(max_runs=self.max_runs, stop_after=seconds, limit=self.stop_after) if self.drain else None


@dataclass(frozen=True, kw_only=True)
class SlurmSettings:
    """What jobs request from a cluster; options that are not given come from the YAML file."""

    on: Annotated[Literal["here", "slurm"], typer.Option("--on", help="Run on this machine, or as Slurm jobs.")] = (
        "here"
    )
    cluster: Annotated[
        str,
        typer.Option(
            "--cluster",
            metavar="NAME",
            help="Defaults of the jobs: a YAML file, or the name of one in configs/clusters.",
            show_default="configs/clusters/default.yaml of the root",
            rich_help_panel=SLURM_PANEL,
        ),
    ] = ""
    partition: Annotated[
        str, typer.Option("--partition", metavar="NAME", help="Partition of the jobs.", rich_help_panel=SLURM_PANEL)
    ] = ""
    account: Annotated[
        str, typer.Option("--account", metavar="NAME", help="Account that is charged.", rich_help_panel=SLURM_PANEL)
    ] = ""
    qos: Annotated[
        str, typer.Option("--qos", metavar="NAME", help="Quality of service.", rich_help_panel=SLURM_PANEL)
    ] = ""
    time: Annotated[
        str,
        typer.Option(
            "--time",
            metavar="LIMIT",
            help="Time limit of a job: minutes, H:MM:SS or D-HH:MM:SS; a longer run is requeued and continues.",
            rich_help_panel=SLURM_PANEL,
        ),
    ] = ""
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes", help="Number of nodes that train one run together.", min=1, rich_help_panel=SLURM_PANEL
        ),
    ] = None
    max_parallel: Annotated[
        int | None,
        typer.Option(
            "--max-parallel",
            help="Maximum number of jobs of the study at the same time.",
            min=1,
            rich_help_panel=SLURM_PANEL,
        ),
    ] = None
    constraint: Annotated[
        str,
        typer.Option(
            "--constraint", metavar="FEATURES", help="Features that the nodes must have.", rich_help_panel=SLURM_PANEL
        ),
    ] = ""
    sbatch: Annotated[
        list[str] | None,
        typer.Option(
            "--sbatch",
            metavar="KEY=VALUE",
            help="Any other option of sbatch, such as mem=64G; repeat for more.",
            rich_help_panel=SLURM_PANEL,
        ),
    ] = None

    def chosen(self, workspace: Workspace, gpus_per_run: int | None) -> "Cluster":
        """The defaults of the cluster with what was given on top.

        Args:
            workspace: in which the YAML file may lie.
            gpus_per_run: of the command line; None if it was not given.

        Raises:
            BadInput: there is no such file, or something in it is wrong.
        """
        from ablate.launch.cluster import read_cluster, sbatch_options

        defaults = read_cluster(workspace, self.cluster)
        given: dict[str, Any] = {
            name: value
            for name in ("partition", "account", "qos", "time", "nodes", "max_parallel", "constraint")
            if (value := getattr(self, name))
        }
        if gpus_per_run is not None:
            given["gpus_per_run"] = gpus_per_run
        given["sbatch"] = defaults.sbatch | sbatch_options(self.sbatch or [])
        return msgspec.structs.replace(defaults, **given)


def seconds_of(option: str, text: str) -> float:
    """A duration as people write it.

    >>> seconds_of("--stop-after", "1h30m"), seconds_of("--stop-after", "90 s")
    (5400.0, 90.0)

    Raises:
        BadInput: the text is not a duration, or the duration is zero.
    """
    found = DURATION.fullmatch(text.strip())
    parts = [float(part or 0) for part in found.groups()] if found else []
    seconds = sum(part * unit for part, unit in zip(parts, (86400, 3600, 60, 1), strict=False))
    if not seconds:
        raise BadInput(f"{option} {text}: must be a duration with its units, such as 4h, 90m or 1h30m")
    return seconds


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Turn the fields of the dataclasses that a verb takes into options of the verb, for typer.

    >>> @dataclass
    ... class Shared:
    ...     root: str = "."
    >>> def verb(shared: Shared, name: str = "") -> None:
    ...     print(shared, name)
    >>> signature(with_options(verb))
    <Signature (*, root: str = '.', name: str = '')>
    >>> with_options(verb)(root="x", name="y")
    Shared(root='x') y
    """
    groups: dict[str, Any] = {}
    parameters: list[Parameter] = []
    for name, parameter in signature(verb).parameters.items():
        group: Any = parameter.annotation
        if isinstance(group, type) and is_dataclass(group):
            groups[name] = group
            parameters += signature(group).parameters.values()
        else:
            parameters.append(parameter)

    def command(**given: Any) -> None:
        for name, group in groups.items():
            given[name] = group(**{field.name: given.pop(field.name) for field in fields(group)})
        verb(**given)

    command.__name__, command.__doc__ = verb.__name__, verb.__doc__
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    command.__signature__ = Signature(  # type: ignore[attr-defined]
        [parameter.replace(kind=Parameter.KEYWORD_ONLY) for parameter in parameters]
    )
    return command


def chosen_study(workspace: Workspace, name: str) -> Study:
    """The study of a name, or the newest.

    Raises:
        BadInput: there is none.
    """
    return read_study(workspace, name) if name else newest_study(workspace)


def whole_numbers(option: str, text: str, example: str) -> list[int]:
    """Numbers with commas between them, each once.

    >>> whole_numbers("--seeds", "0, 2,0", "0,1,2")
    [0, 2]

    Raises:
        BadInput: the text is anything else.
    """
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() for part in parts):
        raise BadInput(f"{option} {text}: must be whole numbers with commas between them, such as {example}")
    return list(dict.fromkeys(map(int, parts)))


def show(
    document: Callable[[], object],
    screen: "Callable[[], Iterable[RenderableType]]",
    as_json: bool = False,
    watch: bool = False,
) -> None:
    """The output of a verb: a JSON document for programs, or a screen for people, once or repeatedly.

    Repeated output into a file or a pipe contains only new lines.
    """
    from analysis.render.screen import print_whole

    if as_json:
        print_json(document())
    elif watch:
        _watch(document, screen)
    else:
        print_whole(*screen())


def _watch(document: Callable[[], object], screen: "Callable[[], Iterable[RenderableType]]") -> None:
    from rich.console import Group
    from rich.live import Live

    from analysis.render.screen import plain_console, print_whole

    console, last = plain_console(), b""
    with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
        while True:
            if live is not None:
                live.update(Group(*screen()), refresh=True)
            elif (seen := msgspec.json.encode(document())) != last:
                last = seen
                print_whole(*screen(), "")
                sys.stdout.flush()
            time.sleep(WATCH_SECONDS)
