"""What ``--weights`` names: files by the name of what they hold, or a row of files by their epochs."""

import re
from collections.abc import Sequence
from pathlib import Path

from analysis.refusal import BadInput

EPOCHS = "{epochs}"
FORMS = "NAME=FILE, for example mae=mae_base.pth, or FILE with {epochs} in its place, such as pretrain-{epochs}.pth"


def weights_from(arguments: Sequence[str]) -> dict[str, str]:
    """Names to absolute paths. ``pretrain-{epochs}.pth`` stands for every file of that form, named by its epochs.

    Raises:
        BadInput: a form that is none, a file that is missing, a name given twice.
    """
    files: dict[str, str] = {}
    for argument in arguments:
        name, sign, file = argument.partition("=")
        if EPOCHS in argument:
            found = _expanded(argument, file if sign and EPOCHS in file and EPOCHS not in name else argument)
        elif not sign or not name:
            raise BadInput(f"--weights {argument}: write {FORMS}")
        else:
            found = {name: Path(file).expanduser()}
        for key, path in found.items():
            if not path.is_file():
                raise BadInput(f"--weights {argument}: no such file; write {FORMS}")
            if key in files:
                raise BadInput(f"--weights names {key} twice: {files[key]} and {path}")
            files[key] = str(path.absolute())
    return files


def _expanded(argument: str, pattern: str) -> dict[str, Path]:
    """Files by their epochs, fewest first."""
    place = Path(pattern).expanduser()
    if EPOCHS not in place.name or place.name.count(EPOCHS) > 1:
        raise BadInput(f"--weights {argument}: {EPOCHS} belongs once into the name of the file")
    before, _, after = place.name.partition(EPOCHS)
    form = re.compile(rf"{re.escape(before)}(\d+){re.escape(after)}")
    there = sorted(place.parent.iterdir()) if place.parent.is_dir() else []
    found = {int(match[1]): path for path in there if (match := form.fullmatch(path.name))}
    if not found:
        raise BadInput(f"--weights {argument}: no file in {place.parent} has this form")
    return {str(epochs): found[epochs] for epochs in sorted(found)}
