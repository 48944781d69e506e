"""What comes after the last run: the cost of every variant, the table, and a word about what is missing."""

from ablate.launch.base import Options, Outcome, SomeFailed, Stopped, waiting_for_first
from ablate.launch.status import DONE, counts, runs_alone
from ablate.runs.folder import Workspace
from ablate.shell import shell_command
from ablate.studies.study import Study
from analysis.exceptions import BadInput


def finish(workspace: Workspace, study: Study, options: Options, outcome: Outcome) -> None:
    """Measure, show, and say what failed.

    Raises:
        SomeFailed: not every run came to a result.
        Stopped: somebody asked to stop.
    """
    numbers = counts(outcome.standings)
    if outcome.stopped and not (outcome.failed and outcome.stopped == "--fail-fast"):
        done = numbers.get("finished", 0) + numbers.get("out_of_memory", 0)
        kept = "every run goes on from what it saved last" if outcome.at_once else "everything is saved"
        raise Stopped(
            f"stopped{' at once' * outcome.at_once} by {outcome.stopped} with {done} of {sum(numbers.values())} runs "
            f"done, {kept}; the same command continues"
        )
    measured = any(run.state in DONE for run in runs_alone(outcome.standings))
    if measured:
        measure_and_show(workspace, study, options)
    if outcome.failed:
        again = shell_command("ablate", "launch", "--retry", root=workspace.root, study=study.name)
        listed = "".join(f"\n  {sentence}" for sentence in outcome.failed)
        raise SomeFailed(
            f"{len(outcome.failed)} of {sum(numbers.values())} runs came to no result; the others are not affected; "
            f"when the reason is gone, try them again: {again}{listed}"
        )
    if not measured:
        raise BadInput(
            f"study {study.name}: nothing of it can run: "
            + "; ".join(dict.fromkeys(standing.message for standing in outcome.standings))
        )


def measure_and_show(workspace: Workspace, study: Study, options: Options) -> None:
    """What every variant costs, measured while nothing else is on the device, and the table."""
    from ablate.studies.benchmark import probe_study
    from ablate.studies.show_results import show_table

    try:
        with waiting_for_first(options.device):
            probe_study(workspace, study, device=options.device)
    except KeyboardInterrupt:
        raise Stopped(
            "stopped by Ctrl-C while measuring what the variants cost; the runs are done, and the same command goes on"
        ) from None
    show_table(workspace, study)
