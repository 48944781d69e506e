"""The cost of a study: each of its variants measured alone, by the Python that has its engine."""

import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from ablate.engines.availability import MissingEngine, package_environment, python_of
from ablate.hints import command
from ablate.probe.cost import FILE, Cost, read_cost
from ablate.probe.prober import Prober
from ablate.store import RunFolder, run_folder, write_json
from ablate.studies.study import Study, StudyRun
from analysis.refusal import BadInput


def _ignore(_: str) -> None:
    """Say nothing."""


def probe_study(
    root: Path,
    study: Study,
    *,
    device: str = "auto",
    again: bool = False,
    engine: str = "",
    say: Callable[[str], None] = _ignore,
) -> None:
    """Measure every variant that has a run folder, one after another, under one of its seeds.

    What was measured on this machine before is left as it is, unless ``again``. Engines that live in another
    environment are measured there, by a process of its own; what cannot be measured is said.

    Args:
        root: above `results/`.
        study: to measure.
        device: auto, cpu or cuda.
        again: also what was measured on this machine.
        engine: measure its runs alone, here.
        say: takes a line for each variant.

    Raises:
        BadInput: no run of the study was started yet.
    """
    from ablate.engines.processes import joined

    started = [(variant, run) for variant in study.variants if (run := _measured_run(root, study, variant))]
    if not started:
        raise BadInput(
            f"no run of study {study.name!r} was started yet; "
            f"run it: {command('ablate', 'launch', root=root, study=study.name)}"
        )
    here = [(variant, run) for variant, run in started if engine in ("", run.config.engine if run.config else "")]
    if not engine:
        elsewhere = _elsewhere(dict.fromkeys(run.config.engine for _, run in started if run.config is not None), say)
        here = [(variant, run) for variant, run in here if run.config is None or run.config.engine not in elsewhere]
        for name, python in elsewhere.items():
            if python:
                _probe_there(python, name, root, study, device, again, say)
    if not here:
        return
    with joined(device) as processes:
        prober = Prober(processes.device, root)
        for variant, run in here:
            folder = run_folder(root, run.identity)
            old = read_cost(folder)
            if old is not None and not again and old.place == prober.place and not _is_out_of_date(old, folder):
                continue
            assert run.config is not None
            cost = prober.measure(run.config, folder)
            write_json(folder.path / FILE, cost)
            say(f"measured {variant}: {_words(cost)}")


def _elsewhere(engines: Iterable[str], say: Callable[[str], None]) -> dict[str, str]:
    """Engines that do not run in this interpreter, and the one in which they do; empty where none does."""
    found = {}
    for engine in engines:
        try:
            python = python_of(engine)
        except MissingEngine as missing:
            say(f"not measured: {missing}")
            python = ""
        if python != sys.executable:
            found[engine] = python
    return found


def _probe_there(
    python: str, engine: str, root: Path, study: Study, device: str, again: bool, say: Callable[[str], None]
) -> None:
    words = [python, "-m", "cli", "ablate", "probe", "--engine", engine, "--root", str(root.absolute())]
    words += ["--device", device, *(["--again"] if again else []), "--", study.name]
    with subprocess.Popen(
        words, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=package_environment()
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith(("measured ", "error: ")):
                say(line.rstrip())
    if process.returncode:
        say(f"not measured: the runs of engine {engine} (exit code {process.returncode} of {python})")


def _measured_run(root: Path, study: Study, variant: str) -> StudyRun | None:
    """The run that stands for a variant: its first finished one, else its first one."""
    runs = [run for run in study.runs if run.variant == variant and run.blocked is None and run.identity]
    folders = [(run, run_folder(root, run.identity)) for run in runs]
    begun = [(run, folder) for run, folder in folders if folder.path.is_dir()]
    finished = [run for run, folder in begun if folder.predictions.exists()]
    return next(iter([*finished, *(run for run, _ in begun)]), None)


def _is_out_of_date(cost: Cost, folder: RunFolder) -> bool:
    """Whether there are weights to predict with now that were not there then."""
    return cost.seconds_per_image is None and not cost.message and folder.predictions.exists()


def _words(cost: Cost) -> str:
    if cost.peak_gib is None:
        return f"out of memory ({cost.message})"
    image = "" if cost.seconds_per_image is None else f", {cost.seconds_per_image:.4f} s an image"
    return f"{cost.peak_gib * 1024:,.0f} MiB, {cost.seconds_per_iteration:.4f} s an iteration{image}"
