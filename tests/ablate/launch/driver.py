"""A launcher of players, or of real workers: ROOT STUDY OPTIONS -> one JSON line with how it ended."""

import json
import sys
from pathlib import Path

from ablate.launch import local
from ablate.launch.base import Drain, LaunchOptions, worker_command
from ablate.launch.view import view_for
from ablate.runs.folder import Workspace
from ablate.studies.study import read_study
from ablate.train.logging import show_messages
from tests.ablate.launch.studies import player_command

if __name__ == "__main__":
    root, name, given = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
    gpus = given.pop("gpus", None)
    if gpus:
        local.devices_of = lambda *_: tuple(gpus)
    drain = Drain(**given.pop("drain")) if "drain" in given else None
    command = worker_command if given.pop("real", False) else player_command
    options = LaunchOptions(**({"device": "cpu"} | given))
    show_messages()
    study = read_study(Workspace(root), name)
    with view_for(Workspace(root), study) as view:
        outcome = local.launch_here(Workspace(root), study, options, view, command, drain=drain)
    print(
        json.dumps({"failed": outcome.failed, "stopped": outcome.stopped, **({"left": outcome.left} if drain else {})})
    )
