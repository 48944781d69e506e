"""Every verb of the command line: its help page, its examples, its options, and how long help takes."""

import os
import re
import resource
import shlex
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer

from analysis.cli.help import EXIT_CODES
from analysis.cli.verbs import Group, Verb, VerbGroup
from analysis.coco.synthetic import write_example
from analysis.shell import program
from detablate import command_line
from tests.command_line import run

ROOT = Path(__file__).parent.parent
# Options that mean something else in another verb of the same group; all others mean one thing.
DIFFER = {
    "analyze": {"--out", "--iou", "--max-dets", "--by", "--all", "--images", "--seed", "--resamples"},
    "ablate": {
        *("--out", "--set", "--weights", "--engine", "--seeds", "--dry-run", "--launch"),
        *("--max-runs", "--follow", "--resamples", "--base", "--yes"),
    },
    "data": {"--out"},
    "weights": {"--base"},
}


def rows(group: VerbGroup, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Verb | Group]]:
    for name, row in group.rows.items():
        yield (*path, name), row
        if isinstance(row, Group):
            yield from rows(row.load(), (*path, name))


@cache
def front_door() -> Any:
    return typer.main.get_command(command_line())


ROWS = dict(rows(front_door()))


@cache
def loaded(path: tuple[str, ...]) -> Any:
    return ROWS[path].load()


@pytest.mark.parametrize("path", ROWS, ids=" ".join)
def test_a_help_page_begins_as_the_list_says_and_ends_with_an_example_and_the_exit_codes(
    path: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(monkeypatch, *path, "--help") == 0
    page = capsys.readouterr().out
    row = ROWS[path]
    assert " ".join(loaded(path).help.split("\n\n")[0].split()) == row.summary
    assert row.examples
    for example in row.examples:
        assert f"\n  {program()} {example}\n" in page
        assert example.startswith(" ".join(path))
    for code in (0, 2, 4, *getattr(row, "exit_codes", ())):
        assert f"{code} {EXIT_CODES[code]}" in " ".join(page.split("Exit codes:")[1].split())
    assert not re.search(r"<(int|str|float|path)|\[default: \(|\[default: \]", page)
    for line in page.splitlines():
        assert len(line) <= 80 or line.startswith(f"  {program()} "), line


@pytest.mark.parametrize("example", [one for row in ROWS.values() for one in row.examples])
def test_an_example_is_understood(example: str) -> None:
    """Its options are there and take these values; nothing is run."""
    words = shlex.split(example)
    path = max((one for one in ROWS if tuple(words[: len(one)]) == one), key=len)
    loaded(path).make_context(" ".join(path), words[len(path) :])


def test_an_option_means_the_same_in_all_verbs_of_a_group() -> None:
    texts: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    shorts: dict[str, set[str]] = defaultdict(set)
    longs: dict[str, set[str]] = defaultdict(set)
    for path, row in ROWS.items():
        if isinstance(row, Group):
            continue
        for one in loaded(path).params:
            names = [name for name in one.opts if name.startswith("-")]
            if names:
                long = max(names, key=len)
                texts[path[0], long][one.help].append(" ".join(path))
                longs[long].add(min(names, key=len))
                for short in set(names) - {long}:
                    shorts[short].add(long)
    differing = {(group, name): dict(found) for (group, name), found in texts.items() if len(found) > 1}
    allowed = {(group, name) for group, names in DIFFER.items() for name in names}
    assert {key: found for key, found in differing.items() if key not in allowed} == {}
    assert allowed == set(differing), "an option is listed that does not differ"
    assert {short: found for short, found in shorts.items() if len(found) > 1} == {}
    assert {long: found for long, found in longs.items() if len(found) > 1} == {}
    assert longs["--out"] == {"-o"}
    assert longs["--yes"] == {"-y"}


def test_every_verb_that_reads_prints_json_on_demand() -> None:
    writes = {
        *(("analyze", "report"), ("analyze", "example"), ("ablate", "report"), ("ablate", "export")),
        *(("ablate", "probe"), ("ablate", "launch"), ("ablate", "adopt")),
        *(("ablate", "new", "axis"), ("ablate", "new", "preset")),
        *(("data", "shapes"), ("weights", "pretrain")),
    }
    without = {
        path
        for path, row in ROWS.items()
        if isinstance(row, Verb) and not any("--json" in one.opts for one in loaded(path).params)
    }
    assert without == writes


def test_a_misspelt_verb_names_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "lauch") == 2
    assert "'launch'" in capsys.readouterr().err


def test_help_is_there_at_once() -> None:
    """A quarter of a second of a CPU, and nothing imported that only numbers, configs or tables need."""
    code = (
        "import sys, detablate\n"
        "sys.argv = ['cli.py', '--help']\n"
        "try:\n    detablate.main()\n"
        "finally:\n    print(*{'numpy', 'msgspec', 'rich', 'torch', 'pandas'} & set(sys.modules), file=sys.stderr)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == []
    assert all(name in done.stdout for name in ("analyze", "ablate", "data", "weights", "doctor"))
    assert min(_cpu([sys.executable, "cli.py", "--help"], environment) for _ in range(3)) < 0.25


def _cpu(command: list[str], environment: dict[str, str]) -> float:
    """Seconds of CPU that a command takes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("verb", ["errors", "ap", "threshold"])
def test_a_screen_needs_no_library_of_figures(verb: str, tmp_path: Path) -> None:
    """matplotlib, seaborn and pandas take half a second to import."""
    truth, files = write_example(tmp_path, images=12)
    words = ["analyze", verb, str(files["sloppy-boxes"]), "--gt", str(truth)]
    words += ["--resamples", "0"] if verb == "threshold" else []
    code = (
        f"import sys, detablate\nsys.argv = ['cli.py', *{words!r}]\n"
        "try:\n    detablate.main()\n"
        "finally:\n    assert not {'matplotlib', 'seaborn', 'pandas'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=True)
