"""A weights file of any origin as named tensors, and the digest of its content.

Nothing in a file is ever executed. In the identity of a run weights are their digest, wherever the file lies.
"""

import argparse
import hashlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import torch
from safetensors.torch import load
from torch import Tensor

from ablate.config.schema import Init
from analysis.exceptions import BadInput
from analysis.files import fault_of_archive, kind_of_file, unchanging

Tensors = Mapping[str, Tensor]
KEYS = ("model", "module", "state_dict")  # where published checkpoints keep the weights
WRAPPER = "module."  # of DistributedDataParallel
LONGEST_HEADER = 100_000_000  # bytes, safetensors' own limit
NOT_CHECKPOINTS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file it points to; fetch that with git lfs pull",
    b"<": "is a web page, not a checkpoint; download the file itself",
}


@dataclass(frozen=True)
class Checkpoint:
    """The weights in a file.

    Attributes:
        path: of the file.
        container: what they lay in, such as ``["model"]``; empty where the file holds nothing else.
        tensors: by their names, without the prefix that data-parallel training puts before all of them.
        beside: what else the file holds, by name: the optimizer, the epoch.
    """

    path: Path
    container: str
    tensors: Tensors
    beside: tuple[str, ...] = ()


def read_checkpoint(path: Path) -> Checkpoint:
    """The tensors of a ``.pth``, ``.pth.tar`` or ``.safetensors`` file, recognised by its content, in main memory.

    Raises:
        BadInput: it is missing, cut short, damaged, no checkpoint, or holds code.
    """
    try:
        stat = path.stat()
        if not path.is_file():
            raise BadInput(f"{path}: is {kind_of_file(stat.st_mode)}, not a file of weights")
        return _read(path, stat.st_mtime_ns, stat.st_size)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file of weights; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        raise BadInput(f"{path}: weights cannot be read ({_why(error)})") from None


def forget() -> None:
    """Let go of the tensors that were read last."""
    _read.cache_clear()


@lru_cache(maxsize=2)
def _read(path: Path, modified: int, size: int) -> Checkpoint:
    with unchanging(path) as file:
        return _unwrapped(path, _loaded(path, file))


def _loaded(path: Path, file: IO[bytes]) -> object:
    """The content of an open file of weights, copied into memory: a mapped file that is cut short kills the process."""
    head = file.read(32)
    if not head:
        raise BadInput(f"{path}: is empty; download or copy it again")
    for start, reason in NOT_CHECKPOINTS.items():
        if head.lstrip().startswith(start):
            raise BadInput(f"{path}: {reason}")
    is_safetensors = head[8:9] == b"{" and 0 < int.from_bytes(head[:8], "little") < LONGEST_HEADER
    file.seek(0)
    try:
        return load(file.read()) if is_safetensors else _read_torch(path, file)
    except pickle.UnpicklingError as error:
        culprit = re.search(r"GLOBAL ([\w.]+)", str(error))
        if culprit is None:
            raise _damaged(path, error) from None
        raise BadInput(
            f"{path}: contains code or objects besides tensors ({culprit[1]}), and code in a weights file is never "
            "run; save only its state_dict, best as .safetensors"
        ) from None
    except BadInput:
        raise
    except Exception as error:  # whatever a loader trips over in damaged bytes: ten types were seen, assertions too
        raise _damaged(path, error) from None


def _read_torch(path: Path, file: IO[bytes]) -> Any:
    if zipfile.is_zipfile(file):
        fault = fault_of_archive(file)
        if fault:
            raise BadInput(f"{path}: is damaged ({fault}); copy it again, or load it once with torch and save it again")
    # Official training scripts keep their command line beside the weights: a plain record, no code.
    with torch.serialization.safe_globals([argparse.Namespace]), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about the protocol of a pickle
        file.seek(0)
        return torch.load(file, map_location="cpu", weights_only=True)


def _damaged(path: Path, error: Exception) -> BadInput:
    said = str(error).rpartition("WeightsUnpickler error:")[2].strip().splitlines() or [type(error).__name__]
    reason = said[0].partition(". ")[0].rstrip(".")
    return BadInput(f"{path}: is incomplete, damaged or not a checkpoint ({reason}); download or copy it again")


def _unwrapped(path: Path, loaded: object) -> Checkpoint:
    if not isinstance(loaded, Mapping) or not loaded:
        raise BadInput(f"{path}: contains {_what(loaded)}, not named weights; save a state_dict")
    container = next((key for key in KEYS if _are_weights(loaded.get(key))), "")
    if not container and not _are_weights(loaded):
        there = ", ".join(map(str, list(loaded)[:8]))
        raise BadInput(
            f"{path}: contains no weights, neither at the top level nor under {', '.join(KEYS)}; it has {there}"
        )
    tensors = loaded[container] if container else loaded
    strangers = [key for key, value in tensors.items() if not isinstance(value, Tensor)]
    if strangers:
        raise BadInput(f"{path}: {strangers[0]} among its weights is {_what(tensors[strangers[0]])}, not a tensor")
    if all(name.startswith(WRAPPER) for name in tensors):
        tensors = {name.removeprefix(WRAPPER): tensor for name, tensor in tensors.items()}
    beside = tuple(sorted(str(key) for key in loaded if key != container)) if container else ()
    return Checkpoint(path, f'["{container}"]' if container else "", dict(tensors), beside)


def _are_weights(value: object) -> bool:
    """Whether it is a state dict: names to tensors, perhaps with strangers among them."""
    return (
        isinstance(value, Mapping)
        and bool(value)
        and all(isinstance(key, str) for key in value)
        and any(isinstance(item, Tensor) for item in value.values())
    )


def _what(value: object) -> str:
    return "nothing" if value is None or value == {} else f"a {type(value).__name__}"


def init_digest(init: Init) -> str:
    """SHA-256 (64 hex digits) of the file of initial weights; empty where there is none.

    Raises:
        BadInput: the file cannot be read.
    """
    return "" if init.weights == "none" else file_digest(Path(init.weights).expanduser())


def file_digest(path: Path) -> str:
    """SHA-256 (64 hex digits) of a file; one that did not change is read once a process.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        return _digest(path.absolute(), path.stat().st_mtime_ns, path.stat().st_size)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: weights cannot be read ({_why(error)}); check init.weights") from None


def _why(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


@lru_cache(maxsize=64)
def _digest(path: Path, modified: int, size: int) -> str:
    with unchanging(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
