"""The front door itself."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import analysis
import detablate
from analysis.shell import install_command
from tests.command_line import run

ROOT = Path(__file__).parent.parent


def test_a_command_without_its_packages_names_the_extra(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch", None)  # as where it is not installed
    assert run(monkeypatch, "ablate", "describe", "tiny-shapes") == detablate.MISSING_ENGINE
    printed = capsys.readouterr()
    assert printed.out == ""
    assert f"needs the package torch; to install it: {install_command('train')}" in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "meant"),
    [("errors", "'analyze errors'"), ("compare", "'analyze compare' or 'ablate compare'"), ("shapes", "'data shapes'")],
)
def test_a_verb_without_its_group_is_told_with_it(verb, meant, monkeypatch, capsys):
    assert run(monkeypatch, verb, "a.json") == 2
    assert f"No such command '{verb}'. Did you mean {meant}?" in capsys.readouterr().err


def test_a_missing_module_of_our_own_is_no_missing_package(monkeypatch):
    monkeypatch.setattr(detablate, "command_line", lambda: __import__("ablate.not_there"))
    with pytest.raises(ModuleNotFoundError, match="not_there"):
        run(monkeypatch, "analyze")


def test_the_facade_gives_what_the_analysis_gives_and_imports_it_when_it_is_used():
    code = "import sys, detablate; assert 'numpy' not in sys.modules; print(detablate.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == metadata.version("detablate")
    assert all(getattr(detablate, name) is getattr(analysis, name) for name in analysis.__all__)
    assert set(analysis.__all__) <= set(dir(detablate))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = detablate.nothing


@pytest.mark.parametrize(
    "words",
    [
        "analyze --help",
        *(
            pytest.param(words, marks=pytest.mark.campaign)
            for words in ("doctor", "data check shapes", "ablate describe tiny-shapes", "ablate attention --dry-run")
        ),
    ],
)
def test_an_output_that_takes_nothing_is_one_sentence(words: str, tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, str(ROOT / "cli.py"), *words.split()]
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "error: standard output: cannot be written (No space left on device)"
    assert done.returncode == 4


def test_an_error_is_one_short_printable_line_whatever_the_names(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a\nb\x1b[2J.json", "x" * 20_000, "y\udcff.json"):
        assert run(monkeypatch, "analyze", "ap", name, "--gt", name) == 4
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        assert said.count("\n") == 1
        assert said.strip().isprintable()
        assert len(said) < 300


def test_closed_streams_are_as_if_nobody_read_them() -> None:
    """As `>&-` of a shell: no traceback, and no file gets the number of a stream."""
    for closed in ("exec >&-", "exec <&- >&- 2>&-"):
        command = ["sh", "-c", f'{closed}; exec "$@"', "sh", sys.executable, "cli.py", "analyze", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [10**10, 10**400], ids=["11 digits", "401 digits"])
@pytest.mark.parametrize(
    "words", ["errors --max-dets", "compare --resamples", "report --resamples", "example --images"]
)
def test_a_number_that_nothing_can_count_to_is_a_usage_error(
    words: str, number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "analyze", *words.split(), number) == 2
    assert words.split()[1] in capsys.readouterr().err


def test_too_little_memory_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unable(*_: object, **__: object) -> None:
        raise MemoryError("Unable to allocate 745. GiB")

    monkeypatch.setattr("analysis.coco.synthetic.write_example", unable)
    assert run(monkeypatch, "analyze", "example", "--out", tmp_path) == 4
    assert capsys.readouterr().err == (
        "error: out of memory (Unable to allocate 745. GiB); use smaller files or settings\n"
    )
