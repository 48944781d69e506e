"""What comes after the last run: the cost of every variant, the table, and a word about what is missing."""

import logging

from ablate.launch.base import LaunchOptions, Outcome, SomeFailed, Stopped, waiting_for_first
from ablate.launch.status import DONE, counts, without_pretrainings
from ablate.runs.folder import FAILURES, Workspace
from ablate.shell import shell_command
from ablate.studies.study import Study
from analysis.exceptions import BadInput

logger = logging.getLogger(__name__)


def finish(workspace: Workspace, study: Study, options: LaunchOptions, outcome: Outcome) -> None:
    """Measure, show, and say what failed.

    Raises:
        SomeFailed: not every run came to a result.
        Stopped: somebody asked to stop.
        BadInput: no run could begin.
    """
    numbers = counts(outcome.statuses)
    if outcome.stopped and not (outcome.failed and outcome.stopped == "--fail-fast"):
        done = sum(numbers.get(state, 0) for state in DONE)
        kept = "every run goes on from what it saved last" if outcome.at_once else "everything is saved"
        raise Stopped(
            f"stopped{' at once' * outcome.at_once} by {outcome.stopped} with {done} of {sum(numbers.values())} runs "
            f"done, {kept}; the same command continues"
        )
    measured = any(status.state in DONE for status in without_pretrainings(outcome.statuses))
    if measured:
        measure_and_show(workspace, study, options)
    if outcome.failed:
        retry = ["--retry"] * any(status.state in FAILURES and status.state not in DONE for status in outcome.statuses)
        again = shell_command("ablate", "launch", *retry, root=workspace.root, study=study.name)
        for sentence in outcome.failed:
            logger.error("%s", sentence)
        raise SomeFailed(
            f"{len(outcome.failed)} of {sum(numbers.values())} runs came to no result; the others are not affected; "
            f"when the reason is gone, try them again: {again}"
        )
    if not measured:
        reasons = dict.fromkeys(status.message for status in outcome.statuses)
        raise BadInput(f"study {study.name}: nothing of it can run: {'; '.join(reasons)}")


def measure_and_show(workspace: Workspace, study: Study, options: LaunchOptions) -> None:
    """What every variant costs, measured while nothing else is on the device, and the table.

    Raises:
        Stopped: Ctrl-C or another signal meanwhile.
    """
    from ablate.studies.benchmark import probe_study
    from ablate.studies.show_results import show_table

    try:
        with waiting_for_first(options.device):
            probe_study(workspace, study, device=options.device)
    except KeyboardInterrupt as error:
        name = str(error).replace("SIGINT", "") or "Ctrl-C"
        raise Stopped(
            f"stopped by {name} while measuring what the variants cost; the runs are done, and the same command goes on"
        ) from None
    show_table(workspace, study)
