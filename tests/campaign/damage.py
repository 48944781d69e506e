"""Ways in which a file of any kind can be damaged or replaced, drawn from a seed."""

import json
import os
import random
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.analysis.mutations import mutate


def empty(path: Path, rng: random.Random) -> None:
    path.write_bytes(b"")


def cut(path: Path, rng: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randrange(len(content) + 1)])


def not_utf8(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 3])):
        content.insert(rng.randrange(len(content) + 1), rng.choice(b"\xff\xfe\x80\xc3"))
    path.write_bytes(bytes(content))


def flipped(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes() or b"0")
    for _ in range(rng.choice([1, 1, 4, 40])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(bytes(content))


def nested(path: Path, rng: random.Random) -> None:
    opening, closing = rng.choice([(b"[", b"]"), (b'{"a":', b"}")])
    path.write_bytes(opening * 100_000 + b"1" + closing * 100_000)


def odd_document(path: Path, rng: random.Random) -> None:
    path.write_bytes(
        rng.choice(
            [
                b"null",
                b"[]",
                b"{}",
                b"0",
                b'"x"',
                b'{"schema": 1}',
                b'{"schema": 99}',
                b"\n\n",
                b"1" * 400,
                b"NaN",
                b"- a",
            ]
        )
    )


def other_values(path: Path, rng: random.Random) -> None:
    """JSON, one document or one a line, with other values or without some keys; else the bytes are changed."""
    content = path.read_bytes()
    try:
        documents: list[Any] = [json.loads(content)]
    except ValueError:
        try:
            documents = [json.loads(line) for line in content.splitlines()]
        except ValueError:
            flipped(path, rng)
            return
    if documents:
        place = rng.randrange(len(documents))
        lines = [json.dumps(document).encode() for document in documents]
        path.write_bytes(b"\n".join([*lines[:place], mutate(documents[place], rng), *lines[place + 1 :]]))


def removed(path: Path, rng: random.Random) -> None:
    path.unlink()


def fifo(path: Path, rng: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def folder(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.mkdir()


def loop(path: Path, rng: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def bound_socket(path: Path, rng: random.Random) -> None:
    path.unlink()
    here = Path.cwd()
    try:
        os.chdir(path.parent)  # the path of a socket is short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


OF_CONTENT = (cut, not_utf8, flipped, other_values, other_values, other_values, odd_document)
OF_KIND = (empty, nested, removed, fifo, folder, loop, bound_socket)
WAYS: tuple[Callable[[Path, random.Random], None], ...] = (*OF_CONTENT, *OF_KIND)


def damage(path: Path, rng: random.Random) -> str:
    """Damage a file -> how."""
    way = rng.choice(OF_CONTENT if rng.random() < 0.7 else OF_KIND)
    way(path, rng)
    return way.__name__


def restore(path: Path, content: bytes) -> None:
    """Put a file back, whatever is in its place."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    path.write_bytes(content)
