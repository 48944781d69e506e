"""Observe a running command from outside: its curves in its own files, and the memory of its GPUs."""

import csv
import io
import logging
import math
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from ablate.runs.folder import RunFolder, json_lines, replacing
from analysis.files import open_regular

logger = logging.getLogger(__name__)

LARGEST_CURVES = 2**26  # bytes of a file of curves; a larger one is not read
NVIDIA_SMI = "nvidia-smi"
ANSWER_SECONDS = 10.0


class CurveReader:
    """Copies numbers that a command writes into the curves of its run, a row a measurement.

    Args:
        folder: of the run.
        sources: file and column of each number, by its name in the curves.
    """

    def __init__(self, folder: RunFolder, sources: Mapping[str, tuple[Path, str]]) -> None:
        self._folder, self._sources = folder, sources
        self._stamps: dict[Path, tuple[int, int]] = {}
        self.rows = 0

    def look(self) -> bool:
        """Read what has changed -> whether anything has. Files that are missing or cannot be read are left out."""
        stamps = {}
        for path, _ in self._sources.values():
            with suppress(OSError):
                found = path.stat()
                stamps[path] = (found.st_size, found.st_mtime_ns)
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        rows = {path: _rows(path) for path in stamps}
        values = {
            name: [_number(row.get(column)) for row in rows.get(path, [])]
            for name, (path, column) in self._sources.items()
        }
        self.rows = max(map(len, values.values()), default=0)
        with replacing(self._folder.metrics) as file:
            for place in range(self.rows):
                known = {name: found[place] for name, found in values.items() if place < len(found)}
                line = {name: value for name, value in known.items() if value is not None}
                file.write(msgspec.json.encode({"iteration": place + 1, **line}) + b"\n")
        return True


def _rows(path: Path) -> list[Mapping[str, object]]:
    """The rows of a CSV file with a head, or the objects in lines of JSON; a line that is not whole yet is left out."""
    try:
        with open_regular(path) as file:
            content = file.read(LARGEST_CURVES + 1)
    except OSError:
        return []
    if len(content) > LARGEST_CURVES:
        return []
    whole = content[: content.rfind(b"\n") + 1]
    if whole.lstrip().startswith(b"{"):
        return list(json_lines(whole))
    with suppress(csv.Error):
        reader = csv.DictReader(io.StringIO(whole.decode(errors="replace")), skipinitialspace=True)
        return [{str(key).strip(): value for key, value in row.items()} for row in reader]
    return []


def _number(value: object) -> float | None:
    with suppress(TypeError, ValueError):
        number = float(value)  # type: ignore[arg-type]
        return number if math.isfinite(number) else None
    return None


class GpuWatch:
    """The most memory in use on any of some GPUs, by `nvidia-smi`: of everything that runs there.

    Args:
        gpus: as CUDA_VISIBLE_DEVICES names them.
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        self._gpus = gpus
        self.peak_gib: float | None = None
        self.name = ""

    def look(self) -> None:
        """Ask for the memory now; where there is no answer, nothing is known."""
        if not self._gpus:
            return
        command = [NVIDIA_SMI, "--query-gpu=memory.used,name", "--format=csv,noheader,nounits", "-i"]
        try:
            done = subprocess.run(
                [*command, ",".join(self._gpus)], capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
            )
            rows = [row.split(",", 1) for row in done.stdout.splitlines() if row.strip()]
            used = [float(mib) / 1024 for mib, _ in rows]
            self.peak_gib = max([*used, *([] if self.peak_gib is None else [self.peak_gib])])
            self.name = rows[0][1].strip()
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            logger.info("GPU memory is not measured: %s does not answer (%s)", NVIDIA_SMI, error)
            self._gpus = ()
