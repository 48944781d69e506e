"""A copy of this program at the time of submission: waiting jobs run this copy, independent of later edits.

Other packages are imported from the environment of the interpreter, as usual.
"""

import hashlib
import json
import shutil
from pathlib import Path

from ablate.runs.manifest import SNAPSHOT, git_state
from analysis.exceptions import BadInput
from analysis.files import part_folder

SOURCE = Path(__file__).resolve().parents[2]
# The last ones: of a clone alone.
PARTS = ("ablate", "analysis", "detablate.py", "configs/base", "configs/clusters", "results/paper")
DIGITS = 12


def take_snapshot(folder: Path) -> Path:
    """Copy the program below a folder, once for each state of it -> the copy, to be put on Python's path.

    Raises:
        BadInput: it cannot be written.
    """
    files = _files()
    target = folder / _digest(files)
    if target.is_dir():
        return target
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with part_folder(target) as part:
            for path in files:
                (part / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(SOURCE / path, part / path)
            git = git_state(SOURCE / "ablate")
            (part / SNAPSHOT).write_text(json.dumps(None if git is None else {"sha": git.sha, "dirty": git.dirty}))
            if not target.is_dir():
                part.chmod(0o755)
                part.rename(target)
    except OSError as error:
        if target.is_dir():  # another was faster
            return target
        raise BadInput(f"{folder}: cannot be written ({error.strerror}); choose another --root") from None
    return target


def _files() -> list[Path]:
    """The files of the program, relative to its folder."""
    found: list[Path] = []
    for part in PARTS:
        path = SOURCE / part
        found += [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return sorted(path.relative_to(SOURCE) for path in found if "__pycache__" not in path.parts)


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        content = (SOURCE / path).read_bytes()
        digest.update(f"{path} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:DIGITS]
