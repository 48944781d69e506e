"""What other terminals see: all from files."""

import itertools
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from ablate.launch.base import LOG
from ablate.launch.status import RunStatus, StatusReader, counts, launchers_folder, read_statuses
from ablate.launch.view import LiveView, Logs, PlainView, clock, runs_table, summary_words
from ablate.runs.folder import Status, Workspace
from ablate.runs.lock import holding, joining
from ablate.studies.study import Study
from ablate.train.logging import show_messages
from analysis.render.table import Cell
from tests.ablate.finished import end, finish
from tests.ablate.launch.studies import PROJECT, a_run, a_study, folder_of
from tests.command_line import run

NAME = 'it\'s "the" ünïcode / study'


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return a_study(
        tmp_path,
        [
            a_run("window"),
            a_run("hybrid"),
            a_run("global"),
            a_run("naive"),
            a_run("late"),
            a_run("mae", evaluation="", blocked="pass --weights mae=FILE"),
        ],
        NAME,
    )


@pytest.fixture
def on_the_way(tmp_path: Path, study: Study) -> Iterator[Study]:
    """One run finished, one running, one whose process is gone, one out of memory, one not begun, one blocked."""
    window, hybrid, whole, naive, _, _ = (folder_of(tmp_path, run) for run in study.runs)
    for folder in (window, hybrid, whole, naive):
        folder.path.mkdir(parents=True)
    end(window, 400)
    hybrid.write_status(Status(state="running", phase="training", iteration=90, iterations=400))
    hybrid.append_metrics(80, {"loss": 2.0, "seconds_per_iteration": 0.5})
    hybrid.append_metrics(100, {"loss": 1.5, "seconds_per_iteration": 0.25})
    hybrid.append_metrics(100, {"box_AP50": 3.0})
    with hybrid.metrics.open("ab") as file:
        file.write(b'{"iteration": 120, "lo')
    whole.write_status(Status(state="running", phase="training", iteration=7, iterations=400))
    naive.write_status(Status(state="out_of_memory", iteration=0, iterations=400, message="31.9 GiB reached"))
    launchers_folder(Workspace(tmp_path), study.name).mkdir()
    with holding(hybrid.path, "it"), joining(launchers_folder(Workspace(tmp_path), study.name)):
        yield study


def test_states_and_progress_come_from_files(tmp_path: Path, on_the_way: Study) -> None:
    found = read_statuses(Workspace(tmp_path), on_the_way)
    assert [status.state for status in found] == [
        "finished",
        "running",
        "interrupted",
        "out_of_memory",
        "waiting",
        "blocked",
    ]
    running = found[1]
    assert (running.iteration, running.iterations, running.loss, running.remaining) == (100, 400, 1.5, 75.0)
    assert running.owner is not None
    assert counts(found) == dict.fromkeys(
        ["blocked", "waiting", "running", "interrupted", "finished", "out_of_memory"], 1
    )


def test_what_is_done_is_read_once(tmp_path: Path, on_the_way: Study) -> None:
    reader = StatusReader(Workspace(tmp_path), on_the_way)
    first = reader.look()
    folder_of(tmp_path, on_the_way.runs[0]).status.unlink()
    folder_of(tmp_path, on_the_way.runs[3]).status.unlink()
    again = reader.look()
    assert again[0] == first[0]
    assert again[3].state == "waiting", "what ran out of memory may be tried again"


def test_status_shows_every_run(
    tmp_path: Path, on_the_way: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "status", NAME, "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(
        f"{NAME}: 2 of 6 runs done, 1 blocked, 1 not started, 1 running, 1 interrupted\nlaunched by"
    )
    rows = {line.split()[0]: line for line in shown.splitlines()[4:] if line}
    assert "100/400" in rows["hybrid"]
    assert "1.500" in rows["hybrid"]
    assert "1 min 15 s" in rows["hybrid"]
    assert "pass --weights mae=FILE" in rows["mae"]
    assert "31.9 GiB reached" in rows["naive"]


def test_json_is_one_document(
    tmp_path: Path, on_the_way: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["schema"], document["study"]) == (1, NAME)
    assert [record["state"] for record in document["runs"]][:2] == ["finished", "running"]
    assert document["runs"][1]["seconds_left"] == 75.0
    assert len(document["launchers"]) == 1
    assert run(monkeypatch, "ablate", "list", "--root", tmp_path, "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)["studies"]
    assert (listed["name"], listed["runs"]["running"]) == (NAME, 1)


def test_list_and_its_absence(
    tmp_path: Path, on_the_way: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "list", "--root", tmp_path) == 0
    assert NAME in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "list", "--root", tmp_path / "none") == 0
    assert "no study under" in capsys.readouterr().out
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path / "none") == 4
    assert run(monkeypatch, "ablate", "status", "nonesuch", "--root", tmp_path) == 4
    assert f"there are: {NAME}" in capsys.readouterr().err


def test_watching_and_json_exclude_each_other(tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path, "--json", "--watch") == 2


def test_watching_into_a_file_writes_what_is_new(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    looks = itertools.count()

    def sleep(seconds: float) -> None:
        look = next(looks)
        if look == 1:
            end(folder_of(tmp_path, study.runs[0]))
        if look == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path, "--watch") == 130
    heads = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"{NAME}: ")]
    assert [f"{done} of 6" in head for done, head in zip((0, 1), heads, strict=True)] == [True, True]


def test_cancel_says_when_nobody_runs(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "ablate", "cancel", "--root", tmp_path) == 0
    assert capsys.readouterr().out == f"no launcher is running for study {NAME}\n"


def test_logs_are_whole_lines_after_their_runs(tmp_path: Path, study: Study) -> None:
    first, second = (folder_of(tmp_path, chosen).path for chosen in study.runs[:2])
    first.mkdir(parents=True)
    (first / LOG).write_text("one\ntwo\nthr")
    logs = Logs(Workspace(tmp_path), study.runs[:2])
    assert [logs.shown(line) for line in logs.new(1)] == ["window: two"]
    assert list(logs.new()) == []
    second.mkdir()
    (second / LOG).write_text("begun\n")
    with (first / LOG).open("a") as file:
        file.write("ee\n")
    assert [logs.shown(line) for line in logs.new()] == ["window: three", "hybrid: begun"]
    alone = Logs(Workspace(tmp_path), study.runs[:1])
    assert list(Logs(Workspace(tmp_path), study.runs[:1]).new(0)) == []
    assert [alone.shown(line) for line in alone.new(9)] == ["one", "two", "three"]


def test_logs_and_cancel_for_programs(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path, study.runs[0]).path
    folder.mkdir(parents=True)
    (folder / LOG).write_text("said: [1]\nnot whole")
    assert run(monkeypatch, "ablate", "logs", "--root", tmp_path, "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document == {"schema": 1, "study": NAME, "lines": [{"run": "window", "text": "said: [1]"}]}
    assert run(monkeypatch, "ablate", "logs", "--root", tmp_path, "--json", "--follow") == 2
    capsys.readouterr()
    assert run(monkeypatch, "ablate", "cancel", "--root", tmp_path, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "study": NAME, "asked": [], "jobs": []}


def test_logs_of_one_run(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path, study.runs[0]).path
    folder.mkdir(parents=True)
    (folder / LOG).write_text("said\n")
    for name in ("window", "window:0", study.runs[0].run_id):
        assert run(monkeypatch, "ablate", "logs", "--root", tmp_path, "--run", name) == 0
        assert capsys.readouterr().out == "said\n"
    assert run(monkeypatch, "ablate", "logs", "--root", tmp_path, "--run", "window:1") == 4
    assert "has no such run; there are window; hybrid" in capsys.readouterr().err
    assert run(monkeypatch, "ablate", "logs", "--root", tmp_path, "--run", "hybrid") == 0
    assert capsys.readouterr().out.startswith("no log yet: ")


def test_plain_lines_tell_changes_and_from_time_to_time_progress(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ablate")
    now = 0.0
    view = PlainView(clock=lambda: now)
    waiting = RunStatus(variant="window", seed=0, run_id="x", state="waiting")
    running = RunStatus(
        variant="window",
        seed=0,
        run_id="x",
        state="running",
        phase="training",
        iteration=10,
        iterations=40,
        loss=1.25,
        seconds_per_iteration=2.0,
    )
    view.update([waiting], "")
    view.update([running], "")
    now = 10.0
    view.update([running], "")
    now = 31.0
    view.update([running], "")
    view.update([running], "Ctrl-C")
    view.update([RunStatus(variant="window", seed=0, run_id="x", state="diverged", message="no number")], "Ctrl-C")
    view.update([RunStatus(variant="window", seed=0, run_id="x", state="finished", ap=23.44, seconds=64.0)], "Ctrl-C")
    progress = "window, seed 0: iteration 10 of 40, loss 1.250, 1 min 00 s left"
    assert caplog.messages == [
        "1 not started",
        progress,
        progress,
        "stopping (Ctrl-C): every run saves its state; stop again to end them at once",
        "window, seed 0: diverged: no number",
        "window, seed 0: finished, box AP 23.4, 1 min 04 s",
    ]


def test_a_long_table_shows_what_matters_now() -> None:
    found = [
        RunStatus(variant=f"v{number}", seed=0, run_id=str(number), state="finished" if number < 490 else "running")
        for number in range(500)
    ]
    table = runs_table(found, 8)
    assert [row[0].value if isinstance(row[0], Cell) else row[0] for row in table.cells] == [
        *(f"v{number}" for number in range(490, 497)),
        "and 493 more",
    ]
    assert summary_words(found) == "490 of 500 runs done, 10 running"


@pytest.mark.parametrize(
    ("seconds", "words"), [(-5, "0 s"), (59.6, "1 min 00 s"), (61, "1 min 01 s"), (3600 * 30 + 61, "30 h 01 min")]
)
def test_durations(seconds: float, words: str) -> None:
    assert clock(seconds) == words


def test_following_needs_no_torch(tmp_path: Path, study: Study) -> None:
    code = (
        "import sys; sys.argv = ['cli.py', 'ablate', 'status', '--root', sys.argv[1]]\n"
        "import detablate\n"
        "try: detablate.main()\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), 'slow to start'"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=PROJECT, check=True, capture_output=True)


def test_the_live_view_is_redrawn_in_place(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    done = RunStatus(variant="window", seed=0, run_id="x", state="finished", iteration=40, iterations=40)
    half = RunStatus(variant="global", seed=0, run_id="y", state="running", phase="training", iterations=40)
    show_messages()
    view = LiveView("study")
    with view.live:
        view.update([done, half], "")
        first = capsys.readouterr().err
        view.update([done, msgspec.structs.replace(half, iteration=20, loss=1.5, seconds_per_iteration=2.0)], "Ctrl-C")
        second = capsys.readouterr().err
        logging.getLogger("ablate.launch").info("[not markup]")
    assert "study: 1 of 2 runs done, 1 running, 0 s so far" in first
    assert "to go" not in first, "no pace is known yet"
    assert "\x1b[1A" in second, "the cursor goes up: the table is redrawn"
    assert "about 50 s left" in second, "40 s of training, and a tenth of all 80 s to predict and evaluate"
    assert "━━━━━━━━──────── 20/40" in second
    assert "1.500" in second
    assert "stopping (Ctrl-C)" in second
    assert "[not markup]" in capsys.readouterr().err


@pytest.mark.parametrize("width", [120, 80, 60])
def test_the_table_fits_the_terminal_and_its_bars_are_whole(width: int) -> None:
    known = {"iterations": 1200, "seed": 0}
    rows = [
        RunStatus(variant="lr=0.001", run_id="a", state="finished", iteration=1200, ap=23.4, seconds=64.0, **known),
        RunStatus(
            variant="lr=0.002", run_id="b", state="running", phase="training", iteration=600, loss=2.5,
            seconds_per_iteration=0.11, **known,
        ),
        RunStatus(variant="lr=0.004", run_id="c", state="running", phase="predicting", iteration=1200, **known),
        RunStatus(variant="lr=0.008", run_id="d", state="failed", message="no space left on the device", **known),
    ]  # fmt: skip
    console = Console(width=width, file=StringIO())
    console.print(runs_table(rows, 20, width, 30))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert len(lines) == len(rows) + 1, "no row is folded"
    assert max(map(len, lines)) <= width
    assert "23.4" in lines[1]
    assert "1 min 04 s" in lines[1]
    assert "1 min 06 s left" in lines[2]
    bars = [re.search("[━─]+", line) for line in lines[2:4]]
    for bar, share in zip(bars, (0.5, 1.0), strict=True):
        if width == 60:
            assert bar is None, "there is no room for it"
        else:
            assert bar is not None
            assert bar[0].count("━") == share * len(bar[0])
            assert len(bar[0]) >= 6


def test_long_names_are_cut_at_last(tmp_path: Path) -> None:
    row = RunStatus(
        variant="global, checkpointed x large scale jitter [0.1, 2.0]", seed=0, run_id="a", state="running",
        phase="training", iteration=600, iterations=1200, loss=2.5, seconds_per_iteration=0.11,
    )  # fmt: skip
    console = Console(width=60, file=StringIO())
    console.print(runs_table([row], 20, 60, 30))
    _, line = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.startswith("global, ")
    assert "…" in line
    assert "600/1,200" in line


def test_a_finished_run_shows_what_came_out(tmp_path: Path, study: Study) -> None:
    folder = folder_of(tmp_path, study.runs[0])
    folder.path.mkdir(parents=True)
    events = [
        {"time": "2026-01-01T00:00:40.000+00:00", "event": "interrupted", "seconds": 40.0},
        {"time": "2026-01-01T00:02:00.000+00:00", "event": "trained", "seconds": 90.0},
        {"time": "2026-01-01T00:02:12.500+00:00", "event": "finished", "seconds": 62.5},
    ]
    folder.events.write_text("".join(json.dumps(line) + "\n" for line in events))
    end(folder, 400)
    (found, *_) = read_statuses(Workspace(tmp_path), study)
    assert (found.ap, found.seconds, found.seconds_after_training) == (30.0, 102.5, 12.5)


@pytest.mark.parametrize("way", [Path.mkdir, lambda path: path.symlink_to(path.name), os.mkfifo])
def test_a_finished_run_whose_events_cannot_be_read_is_one_row_that_says_so(
    tmp_path: Path,
    study: Study,
    way: Callable[[Path], object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = folder_of(tmp_path, study.runs[0])
    folder.path.mkdir(parents=True)
    way(folder.events)
    end(folder, 400)
    found, *_ = read_statuses(Workspace(tmp_path), study)
    assert (found.state, found.ap, found.seconds) == ("finished", 30.0, None)
    assert "events.jsonl" in found.message
    for verb in ("list", "status"):
        assert run(monkeypatch, "ablate", verb, "--root", tmp_path) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "events.jsonl" in told
    assert str(folder.path) not in told, "the folder is shown elsewhere"


def test_the_loss_is_known_from_the_first_step(tmp_path: Path, study: Study) -> None:
    folder = folder_of(tmp_path, study.runs[0])
    folder.path.mkdir(parents=True)
    folder.write_status(Status(state="running", phase="training", iteration=1, iterations=40, loss=5.25))
    with holding(folder.path, "it"):
        assert read_statuses(Workspace(tmp_path), study)[0].loss == 5.25
        folder.append_metrics(20, {"loss": 3.5})
        assert read_statuses(Workspace(tmp_path), study)[0].loss == 3.5, "a mean counts more than a step"


def test_status_of_a_finished_study_shows_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two = a_study(tmp_path, [a_run("window"), a_run("hybrid")], "two")
    finish(tmp_path, two, two.runs[0], 21.5)
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path) == 0
    assert "box AP" not in capsys.readouterr().out
    finish(tmp_path, two, two.runs[1], 23.7)
    assert run(monkeypatch, "ablate", "status", "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^window \(baseline\) +21\.5 ", shown, re.M)
    assert re.search(r"^hybrid +23\.7 .*\+2\.2", shown, re.M)
    assert re.search(r"^logs +.*ablate logs .*two$", shown, re.M)
    assert re.search(r"^curves +tensorboard --logdir .*results/runs", shown, re.M)


def test_a_note_says_why_without_the_folder() -> None:
    failed = RunStatus(variant="a", seed=0, run_id="ab", state="failed", message="/x/runs/ab: no space: free some")
    blocked = RunStatus(variant="b", seed=0, run_id="", state="blocked", message="pass --weights mae=FILE: now")
    notes = [row[-1].value for row in runs_table([failed, blocked]).cells]
    assert notes == ["no space: free some", "pass --weights mae=FILE: now"]
    assert runs_table([failed], note_width=8).cells[0][-1].value == "no spac…"
