"""Writing: what is replaced and what is not, and what killed writers leave."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.config.yaml import dump_config
from analysis import BadInput
from analysis.coco.synthetic import write_example
from analysis.files import part_folder, replacing, sweep_parts, write_all, write_bytes
from tests.ablate.tiny import tiny_config, write_data
from tests.command_line import run


def parts(folder: Path) -> list[Path]:
    return list(folder.rglob("*.part"))


@pytest.mark.parametrize(
    ("make", "what"),
    [(os.mkfifo, "a FIFO"), (os.mkdir, "a folder"), (lambda path: os.symlink("/dev/null", path), "a device")],
)
def test_only_files_are_replaced(tmp_path: Path, make: Callable[[Path], None], what: str) -> None:
    path = tmp_path / "out.html"
    make(path)
    before = path.lstat()
    with pytest.raises(BadInput, match=f"out.html: is {what}, which is not replaced; name a file to write"):
        write_bytes(path, b"new")
    assert path.lstat() == before
    assert os.path.exists("/dev/null")
    assert not parts(tmp_path)


def test_a_link_is_followed_and_stays(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link.html", tmp_path / "there" / "page.html"
    link.symlink_to(target)
    for content in (b"first", b"second"):  # of a file that is not there yet, and of one that is
        write_bytes(link, content)
        assert target.read_bytes() == content
    assert link.is_symlink()
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with pytest.raises(BadInput, match="loop: cannot be written"):
        write_bytes(loop, b"new")


def test_a_full_disk_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadInput, match=r"out.html: cannot be written \(No space left on device\); free space"):
        write_bytes(tmp_path / "out.html", b"new")
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_written_where_one_of_several_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with pytest.raises(BadInput, match="b: is a folder"):
        write_all(tmp_path, {"a": b"1", "b": b"2"})
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("verb", ["errors", "compare", "report", "report link"])
def test_no_input_is_replaced(
    tmp_path: Path, verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = write_example(tmp_path / "example", images=20)
    name = {"errors": "errors.json", "compare": "comparison.json"}.get(verb)
    predictions = [truth.rename(truth.with_name(name)) if name else truth, *files.values()]
    out = tmp_path / "example" if name else truth
    if verb == "report link":
        out = tmp_path / "link.html"
        out.symlink_to(truth)
    before = predictions[0].read_bytes()
    code = run(
        monkeypatch,
        "analyze",
        verb.split()[0],
        *predictions[1:],
        "--gt",
        predictions[0],
        "--out",
        out,
        *["--resamples=400"] * (verb != "errors"),
    )
    assert code == 4
    assert "is an input of this command, which is not replaced; name another file" in capsys.readouterr().err
    assert predictions[0].read_bytes() == before
    assert {path.name for path in truth.parent.iterdir()} == {path.name for path in predictions}


@pytest.mark.parametrize("place", ["input", "folder", "file", "device"])
def test_compare_refuses_what_it_would_not_replace_before_it_reads_or_resamples(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truth, files = write_example(tmp_path / "example", images=5)
    out, words = tmp_path / "out", {"input": "is an input", "folder": "is a folder", "file": "not a folder"}
    if place == "input":
        out.mkdir()
        truth = truth.rename(out / "comparison.json")
    elif place == "folder":
        (out / "comparison.tex").mkdir(parents=True)
    elif place == "file":
        out.write_text("mine")
    else:
        out = Path("/dev/null")
    monkeypatch.setattr("analysis.cli.compare.read_files", lambda *_: pytest.fail("work began"))
    assert run(monkeypatch, "analyze", "compare", *files.values(), "--gt", truth, "--out", out) == 4
    assert words.get(place, "is a device, not a folder") in capsys.readouterr().err
    if place == "file":
        assert out.read_text() == "mine"


def test_an_exported_config_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.yaml"
    path.write_text(dump_config(tiny_config(write_data(tmp_path / "data"))))
    before = path.read_bytes()
    assert run(monkeypatch, "ablate", "export", path, "--out", path) == 4
    assert "is an input of this command" in capsys.readouterr().err
    assert path.read_bytes() == before


KILLED = """
import os, signal, sys
from pathlib import Path
from analysis.files import replacing
with replacing(Path(sys.argv[1])) as file:
    file.write(b"half")
    print("begun", flush=True)
    sys.stdin.read()
"""


def test_what_a_killed_writer_left_is_swept_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    target = tmp_path / "page.html"
    (tmp_path / ".mine.part").write_text("somebody's")
    command = [sys.executable, "-c", KILLED, str(target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        (part,) = (path for path in parts(tmp_path) if path.name.startswith(".page.html."))
        write_bytes(target, b"another's")
        sweep_parts(tmp_path, target.name)
        assert part.exists(), "its writer lives"
        writer.send_signal(signal.SIGKILL)
    write_bytes(target, b"new")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".mine.part", "page.html"]


def test_half_made_folders_are_swept_too(tmp_path: Path) -> None:
    left = tmp_path / ".data.abcdefgh.part"
    (left / "train").mkdir(parents=True)
    with part_folder(tmp_path / "data") as ours:
        assert list(tmp_path.iterdir()) == [ours]
        sweep_parts(tmp_path)
        assert ours.exists()
        ours.rename(tmp_path / "data")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    real, swept = fcntl.flock, []

    def flock(file: object, how: int) -> None:
        if not swept:
            swept.extend(parts(tmp_path))
            swept[0].unlink()
        real(file, how)  # type: ignore[arg-type]

    monkeypatch.setattr(fcntl, "flock", flock)
    with replacing(tmp_path / "a") as file:
        file.write(b"new")
    assert (tmp_path / "a").read_bytes() == b"new"
    assert len(swept) == 1
