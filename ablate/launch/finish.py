"""The end of a launch: measure the cost of every variant, show the table, and name missing results."""

import logging
from contextlib import ExitStack

from ablate.launch.base import LaunchOptions, Outcome, SomeFailed, Stopped, waiting_for_first
from ablate.launch.status import DONE, counts, without_pretrainings
from ablate.launch.view import summary_words
from ablate.runs.folder import FAILURES, Workspace
from ablate.runs.lock import LockHeld, holding
from ablate.studies.study import Study, study_folder
from analysis.exceptions import BadInput
from analysis.shell import shell_command

logger = logging.getLogger(__name__)


def finish(workspace: Workspace, study: Study, options: LaunchOptions, outcome: Outcome) -> None:
    """Measure the costs, show the table, and report failures.

    Raises:
        SomeFailed: not every run has a result.
        Stopped: the user or a signal asked to stop.
        BadInput: no run could begin.
    """
    numbers = counts(outcome.statuses)
    check_not_stopped(outcome)
    measured = any(status.state in DONE for status in without_pretrainings(outcome.statuses))
    if measured:
        measure_and_show(workspace, study, options)
    if outcome.failed:
        retry = ["--retry"] * any(status.state in FAILURES and status.state not in DONE for status in outcome.statuses)
        again = shell_command("ablate", "launch", *retry, root=workspace.root, study=study.name)
        for sentence in outcome.failed:
            logger.error("%s", sentence)
        raise SomeFailed(
            f"{len(outcome.failed)} of {sum(numbers.values())} runs have no result; the others are not affected; once "
            f"the cause is fixed, run them again: {again}"
        )
    if not measured:
        reasons = dict.fromkeys(status.message for status in outcome.statuses)
        raise BadInput(f"study {study.name}: none of its runs can start: {'; '.join(reasons)}")


def check_not_stopped(outcome: Outcome) -> None:
    """Raise an error if a stop was requested, unless a failure caused it.

    Raises:
        Stopped: the user or a signal did.
    """
    if outcome.stopped and not (outcome.failed and outcome.stopped == "--fail-fast"):
        numbers = counts(outcome.statuses)
        done = sum(numbers.get(state, 0) for state in DONE)
        kept = "every run continues from its last checkpoint" if outcome.at_once else "everything is saved"
        raise Stopped(
            f"stopped; run the same command to continue ({done} of {sum(numbers.values())} runs done, by "
            f"{outcome.stopped}{', without saving' * outcome.at_once}, {kept})"
        )


def finish_drain(workspace: Workspace, study: Study, options: LaunchOptions, outcome: Outcome) -> None:
    """End a drain: the last one of a study measures the costs and shows the table, the others say what is left.

    Raises:
        SomeFailed: not every run has a result.
        Stopped: the user or a signal asked to stop.
    """
    if outcome.stopped and not outcome.time_is_up:
        finish(workspace, study, options, outcome)
    if not outcome.left and not outcome.stopped:
        with ExitStack() as alone:
            try:
                alone.enter_context(holding(study_folder(workspace, study.name), "the last step of the study"))
            except LockHeld:
                logger.info("another drain measures the costs and shows the table")
                return
            finish(workspace, study, options, outcome)
        return
    numbers = counts(outcome.statuses)
    why = f"stopped by {outcome.stopped}" if outcome.time_is_up else "there is no run left for this drain to start"
    logger.info("%s: %s; see: %s", why, summary_words(outcome.statuses), status_command(workspace, study))
    if outcome.failed:
        for sentence in outcome.failed:
            logger.error("%s", sentence)
        raise SomeFailed(f"{len(outcome.failed)} of {sum(numbers.values())} runs have no result")


def status_command(workspace: Workspace, study: Study) -> str:
    """The command that shows the status of a study."""
    return shell_command("ablate", "status", root=workspace.root, study=study.name)


def measure_and_show(workspace: Workspace, study: Study, options: LaunchOptions) -> None:
    """Measure the cost of every variant, while nothing else uses the device, and show the table.

    Raises:
        Stopped: Ctrl-C or another signal meanwhile.
    """
    from ablate.studies.show_results import show_table

    if not study.is_foreign:
        _measure(workspace, study, options)
    show_table(workspace, study)


def _measure(workspace: Workspace, study: Study, options: LaunchOptions) -> None:
    from ablate.studies.benchmark import probe_study

    try:
        with waiting_for_first(options.device):
            probe_study(workspace, study, device=options.device)
    except KeyboardInterrupt as error:
        name = str(error).replace("SIGINT", "") or "Ctrl-C"
        raise Stopped(
            f"stopped; run the same command to continue (by {name}, while measuring the cost of the variants; the runs "
            "are done)"
        ) from None
