"""Carries out the command of a run (``engine: command``), and ends everything that it starts.

The command runs behind a guard (`ablate.engines.command_guard`) in an environment of its own: what it needs of this
machine (`PASSED`), the literal ``env`` of its config, and the variables that ``pass_env`` names. The values of the
latter are never written: where the command prints one, its name stands in the log.
"""

import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from ablate.config.foreign import NOTHING, CommandConfig, parameter_texts
from ablate.config.template import arguments, fill, shell_line
from ablate.engines import command_guard
from ablate.engines.command_log import BoundedLog, Redactor
from ablate.engines.command_watch import CurveReader, GpuWatch
from ablate.runs.folder import RunFolder
from ablate.runs.signals import handle, restore
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)

# Of the environment that every command gets, as far as it is set.
PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TERM", "TMPDIR", "XDG_*_HOME"),
    *("VIRTUAL_ENV", "CONDA_PREFIX", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "NVIDIA_VISIBLE_DEVICES"),
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS"),
)
VISIBLE = "CUDA_VISIBLE_DEVICES"  # set to the GPUs of the run
PYTHONPATH = "PYTHONPATH"
INTERPRETERS = ("python", "python3")
GRACE_SECONDS = 30.0  # that a command has to save what it has, after it was asked to stop
TICK_SECONDS = 0.1
LOOK_SECONDS = 2.0  # between two looks at curves and GPUs
DRAIN_SECONDS = 5.0  # for the last output, when all processes have ended
PART = 2**16  # bytes of output that are read at once


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended.

    Attributes:
        code: exit code; 128 + N where signal N killed it.
        stopped: the name of the signal by which this process was asked to stop it; empty where it ended by itself.
        last_line: of its output.
        seconds: that it took.
        peak_gpu_gib: the most memory in use on one of its GPUs; none where that is not known.
        gpu: the name of its GPUs; empty where it is not known.
    """

    code: int
    stopped: str
    last_line: str
    seconds: float
    peak_gpu_gib: float | None
    gpu: str


class CommandRun:
    """The command of one run, ready to be started.

    Args:
        config: of the run.
        folder: of the run.
        name: of the run, for ``{name}``.
        gpus: that the run has, as CUDA_VISIBLE_DEVICES names them.

    Raises:
        BadInput: a variable to be handed on is not set, or there is no such program or working directory.
    """

    def __init__(self, config: CommandConfig, folder: RunFolder, name: str, gpus: Sequence[str]) -> None:
        self.config, self.folder, self._gpus = config, folder, gpus
        self._mark = str(folder.path.absolute())
        provided = {"run": str(folder.output.absolute()), "gpus": str(len(gpus)), "seed": str(config.seed)}
        self.values = {**parameter_texts(config.parameters), **provided, "name": name}
        self._secrets = passed_values(config)
        self._environment = {**command_environment(config, self._secrets), VISIBLE: ",".join(gpus)}
        if not Path(config.cwd).is_dir():
            raise BadInput(f"{config.cwd}: no such folder; correct `cwd` in the config")
        self._program(self.arguments(config.command))

    @property
    def checkpoint(self) -> Path | None:
        """The checkpoint to resume from, if it exists."""
        path = None if self.config.checkpoint == NOTHING else self.path(self.config.checkpoint)
        return path if path is not None and path.is_file() else None

    def path(self, template: str, quote: Callable[[str], str] = str) -> Path:
        """A path of the config, filled in; a relative one counts from the working directory.

        Args:
            template: with placeholders.
            quote: applied to each value first.
        """
        values = {name: quote(value) for name, value in self.values.items()}
        return Path(quote(str(Path(self.config.cwd).absolute()))) / fill(template, values)

    def arguments(self, command: str) -> list[str]:
        """The command line of a command of the config."""
        if self.config.shell:
            return ["/bin/sh", "-c", shell_line(command, self.values)]
        words = arguments(command, self.values)
        if words[0] in INTERPRETERS and self.config.python != NOTHING:
            words[0] = self.config.python
        return words

    def redacted(self, text: str) -> str:
        """A sentence without the values of variables that are handed on."""
        return Redactor(self._secrets).text(text)

    def carry_out(self, command: str) -> Ended:
        """Run a command of the config to its end, or until this process is asked to stop.

        Raises:
            BadInput: there is no such program.
        """
        words = self.arguments(command)
        self._program(words)
        left = command_guard.kill_marked(self._mark)  # of a worker and a guard that were killed
        if left:
            logger.warning("ended %s processes that were left over from an earlier attempt", left)
        began = time.monotonic()
        watch = GpuWatch(self._gpus)
        guarded = [self._mark, str(GRACE_SECONDS), *words]
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", command_guard.__file__, *guarded],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**self._environment, command_guard.MARK: self._mark},
            cwd=self.config.cwd,
            start_new_session=True,
        )
        log = BoundedLog(sys.stderr.buffer)
        pump = threading.Thread(target=self._pump, args=(process, log), name="output", daemon=True)
        pump.start()
        stopped = self._wait(process, watch)
        pump.join(DRAIN_SECONDS)
        if not pump.is_alive():  # else something that cannot be seen still holds the other end
            assert process.stdout is not None
            process.stdout.close()
        return Ended(
            code=process.returncode if process.returncode >= 0 else 128 - process.returncode,
            stopped=stopped,
            last_line=log.last_line,
            seconds=time.monotonic() - began,
            peak_gpu_gib=watch.peak_gib,
            gpu=watch.name,
        )

    def _wait(self, process: "subprocess.Popen[bytes]", watch: GpuWatch) -> str:
        """Wait for the guard to end, while watching curves and GPUs -> who asked to stop."""
        asked: list[str] = []

        def ask(number: int, _: object) -> None:
            asked.append(signal.Signals(number).name)
            process.terminate()

        curves = CurveReader(
            self.folder,
            {name: (self.path(metric.file), metric.column) for name, metric in self.config.metrics.items()},
        )
        main = threading.current_thread() is threading.main_thread()
        before = handle((signal.SIGINT, signal.SIGTERM), ask) if main else {}
        try:
            looked = float("-inf")
            while process.poll() is None:
                if time.monotonic() - looked > LOOK_SECONDS:
                    looked = time.monotonic()
                    watch.look()
                    curves.look()
                time.sleep(TICK_SECONDS)
            curves.look()
        finally:
            if process.poll() is None:  # something went wrong here
                process.terminate()
                process.terminate()
                process.wait()
            restore(before)
        return asked[0] if asked else ""

    def _pump(self, process: "subprocess.Popen[bytes]", log: BoundedLog) -> None:
        """Pass the output on until it ends, whatever becomes of the log."""
        assert process.stdout is not None
        redactor, is_lost = Redactor(self._secrets), False
        while part := os.read(process.stdout.fileno(), PART):
            try:
                if not is_lost:
                    log.feed(redactor.feed(part))
                    sys.stderr.flush()
            except OSError:  # the disk is full, or the reader is gone: the command goes on
                is_lost = True
        if not is_lost:
            log.feed(redactor.end())
            log.end()
            sys.stderr.flush()

    def _program(self, words: Sequence[str]) -> None:
        program = words[0]
        path = os.path.join(self.config.cwd, program) if "/" in program else program
        if shutil.which(path, path=self._environment.get("PATH")) is None:
            where = "that can be run" if "/" in program else "on PATH"
            raise BadInput(f"{program}: there is no such program {where}; correct the command, or set `python` or PATH")


def passed_values(config: CommandConfig) -> dict[str, str]:
    """The variables that ``pass_env`` names, with their values, which must not be written anywhere.

    Raises:
        BadInput: one is not set.
    """
    missing = [name for name in config.pass_env if name not in os.environ]
    if missing:
        raise BadInput(
            f"pass_env: {', '.join(missing)} is not set in this environment; set it, or remove it from pass_env"
        )
    found = {name: os.environ[name] for name in config.pass_env}
    if PYTHONPATH in found:  # a launcher puts this package first
        own = str(Path(__file__).resolve().parents[2])
        found[PYTHONPATH] = os.pathsep.join(one for one in found[PYTHONPATH].split(os.pathsep) if one != own)
    return found


def command_environment(config: CommandConfig, passed: Mapping[str, str]) -> dict[str, str]:
    """The whole environment of a command."""
    kept = {name: value for name, value in os.environ.items() if any(fnmatch(name, one) for one in PASSED)}
    return {**kept, **config.variables, **passed}
