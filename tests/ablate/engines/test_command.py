"""A command is filled in whole, ends with all that it has started, and writes neither secrets nor gigabytes."""

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from ablate.config.foreign import CommandConfig
from ablate.config.schema import Coco
from ablate.config.yaml import with_changes
from ablate.engines import command, command_guard
from ablate.engines.command import CommandRun
from ablate.engines.command_guard import MARK, marked
from ablate.engines.command_log import BoundedLog, Redactor
from ablate.engines.command_watch import CurveReader, GpuWatch
from ablate.runs.folder import RunFolder
from analysis.exceptions import BadInput
from tests.ablate.launch.studies import wait_until

HOSTILE = (
    "two words",
    "'\"",
    "$HOME `id` $(id)",
    "{seed} {{x}} {nothing}",
    "--flag",
    "a\nb",
    "*",
    "",
    "é\\n",
    "; rm -rf /",
)
SHOW = "import sys, json; print(json.dumps(sys.argv[1:]))"


def a_config(folder: Path, **keys: object) -> CommandConfig:
    values = {
        "engine": "command",
        "command": "python train.py",
        "predictions": "{run}/p.json",
        "validation": Coco(annotations="gt.json", images="images"),
        "cwd": str(folder),
        "python": sys.executable,
    }
    return CommandConfig(**(values | keys))  # type: ignore[arg-type]


def a_run(folder: Path, **keys: object) -> CommandRun:
    run = RunFolder(folder / "results" / "runs" / "abc")
    run.output.mkdir(parents=True, exist_ok=True)
    return CommandRun(a_config(folder, **keys), run, "a name", ())


@pytest.mark.parametrize("shell", [False, True])
def test_values_arrive_whole(tmp_path: Path, shell: bool) -> None:
    (tmp_path / "show.py").write_text("import sys, json; json.dump(sys.argv[1:], open('shown.json', 'w'))")
    parameters = {f"p{place}": value for place, value in enumerate(HOSTILE)}
    python = f"'{sys.executable}'" if shell else "python"
    words = " ".join(f"{{{name}}} x{{{name}}}" for name in parameters)
    keys = {"parameters": parameters, "command": f"{python} show.py {words} {{{{lr}}}}", "shell": shell}
    one = a_run(tmp_path, **keys, **({"python": "none"} if shell else {}))
    assert one.carry_out(one.config.command).code == 0
    expected = [word for value in HOSTILE for word in (value, f"x{value}")] + ["{lr}"]
    import json

    assert json.loads((tmp_path / "shown.json").read_text()) == expected


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"command": "train {lr}"}, "{lr} is neither a parameter nor provided"),
        ({"parameters": {"lr": 1}}, "parameters.lr: is not a placeholder of the command"),
        ({"command": "train {seed} 'x"}, "cannot be split into arguments"),
        ({"command": "  "}, "is empty"),
        ({"parameters": {"seed": 1}, "command": "train {seed}"}, "choose another name for the parameter"),
        ({"parameters": {"lr": [1]}, "command": "train {lr}"}, "write a list as the text"),
        ({"parameters": {"lr": float("inf")}, "command": "train {lr}"}, "finite"),
        ({"parameters": {"a b": 1}, "command": "train"}, "a name has letters"),
        ({"resume": "train --resume"}, "resume and checkpoint belong together"),
        ({"checkpoint": "{run}/last.pt"}, "resume and checkpoint belong together"),
        ({"shell": True, "python": "none", "command": "echo '{seed}'"}, "is in quotes"),
        ({"shell": True, "command": "python x"}, "write the interpreter into the command"),
        ({"env": {"A": "1"}, "pass_env": ("A",)}, "keep one"),
        ({"pass_env": ("A B",)}, "not a name of an environment variable"),
        ({"env": {"CUDA_VISIBLE_DEVICES": "0"}}, "set for each run"),
        ({"metrics": {"loss": {"file": "{rum}/x", "column": "a"}}}, "{rum} is neither"),
        ({"predictions": "{out}/p.json"}, "{out} is neither"),
    ],
)
def test_a_config_that_cannot_work_is_refused(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    import msgspec

    from ablate.config.yaml import parse

    tree = msgspec.to_builtins(a_config(tmp_path)) | changes
    with pytest.raises(BadInput) as refused:
        parse(tree, CommandConfig, "mine.yaml")
    assert says in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_what_is_not_there_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOWHERE", raising=False)
    for keys, says in (
        ({"pass_env": ("NOWHERE",)}, "NOWHERE is not set"),
        ({"command": "no-such-program-of-ours x"}, "no such program on PATH"),
        ({"command": "./train.sh"}, "no such program that can be run"),
        ({"cwd": str(tmp_path / "none")}, "no such folder"),
    ):
        with pytest.raises(BadInput, match=says):
            a_run(tmp_path, **keys)


def test_the_environment_is_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cret-value")
    monkeypatch.setenv("OTHER", "not asked for")
    (tmp_path / "train.py").write_text("import os; open('env', 'w').write(repr(dict(os.environ)))")
    one = a_run(tmp_path, env={"MODE": 1}, pass_env=("TOKEN",))
    assert one.carry_out(one.config.command).code == 0
    seen = eval((tmp_path / "env").read_text())
    assert (seen["TOKEN"], seen["MODE"], seen["CUDA_VISIBLE_DEVICES"]) == ("s3cret-value", "1", "")
    assert "OTHER" not in seen
    assert "PYTHONPATH" not in seen
    assert seen[MARK] == str(one.folder.path)


FAMILY = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print("asked", flush=True), sys.exit(0)))
sleep = [sys.executable, "-c", "import time; open('child%d' % __import__('os').getpid(), 'w'); time.sleep(600)"]
subprocess.Popen(sleep)
subprocess.Popen(sleep, start_new_session=True)  # a session of its own
subprocess.Popen(sleep, start_new_session=True, env={})  # and without the mark
if os.fork() == 0:  # a daemon: its parent ends at once
    os.setsid()
    if os.fork() == 0:
        os.execv(sleep[0], sleep)
    os._exit(0)
deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + sleep[2]
subprocess.Popen([sys.executable, "-c", deaf])
print("started", flush=True)
if "stay" in sys.argv:
    time.sleep(600)
while len([n for n in os.listdir() if n.startswith("child")]) < 5:
    time.sleep(0.01)
"""
WORKER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from ablate.engines import command
from tests.ablate.engines.test_command import a_run
command.GRACE_SECONDS = 0.5
one = a_run(Path(sys.argv[2]), command="python family.py stay")
ended = one.carry_out(one.config.command)
print(ended.stopped, ended.code)
"""


def children(folder: Path) -> list[int]:
    return [int(path.name.removeprefix("child")) for path in folder.glob("child*")]


def alive(pids: list[int]) -> list[int]:
    found = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        found += [pid] * (state != "Z")
    return found


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")


def test_what_a_command_leaves_behind_is_ended(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "family.py").write_text(FAMILY)
    one = a_run(tmp_path, command="python family.py")
    began = time.monotonic()
    ended = one.carry_out(one.config.command)
    assert (ended.code, ended.stopped) == (0, "")
    assert time.monotonic() - began < 10
    assert len(children(tmp_path)) == 5
    assert alive(children(tmp_path)) == []
    assert "the command left 5 processes running" in capfd.readouterr().err


@pytest.mark.parametrize("how", ["asked", "killed", "both killed"])
def test_no_grandchild_outlives_its_worker(tmp_path: Path, how: str) -> None:
    (tmp_path / "family.py").write_text(FAMILY)
    root = Path(__file__).parents[3]
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER), str(root), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    mark = str(tmp_path / "results" / "runs" / "abc")
    try:
        wait_until(lambda: len(children(tmp_path)) == 5)
        if how == "asked":
            worker.send_signal(signal.SIGTERM)
            assert worker.stdout is not None
            output = worker.stdout.read()
            assert worker.wait(20) == 0
            assert "asked" in output  # politely
            assert "SIGTERM" in output
        elif how == "killed":
            worker.kill()
            wait_until(lambda: not alive(children(tmp_path)), 20)
        else:  # its guard too: the next worker of the run finds the marked ones
            guard = next(pid for pid in marked(mark) if b"command_guard" in Path(f"/proc/{pid}/cmdline").read_bytes())
            worker.kill()
            os.kill(guard, signal.SIGKILL)
            worker.wait(20)
            command_guard.kill_marked(mark)
            left = alive(children(tmp_path))
            assert len(left) <= 1  # the one without the mark, which nothing tells from others any more
            for pid in left:
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not alive(children(tmp_path)), 5)
        wait_until(lambda: not marked(mark), 5)  # its guard among them
    finally:
        worker.kill()
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()


def test_a_log_is_bounded_and_keeps_the_end() -> None:
    file = io.BytesIO()
    log = BoundedLog(file, most=1000)
    for number in range(200_000):
        log.feed(b"line %d\n" % number)
    log.feed(b"the end")
    log.end()
    content = file.getvalue()
    assert len(content) < 70_000
    assert content.startswith(b"line 0\nline 1\n")
    assert b"bytes of output left out" in content
    assert content.endswith(b"line 199999\nthe end\n")
    assert log.last_line == "the end"


def test_a_line_without_end_takes_no_memory() -> None:
    file = io.BytesIO()
    log = BoundedLog(file, most=100_000)
    for _ in range(1000):
        log.feed(b"x" * 10_000)
    log.feed(b"\r 10 %\r 20 %\r 100 %\nlast\n")
    log.end()
    assert len(file.getvalue()) < 250_000
    assert file.getvalue().endswith(b" 100 %\nlast\n")


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 100])
def test_secrets_are_replaced_however_the_stream_is_cut(size: int) -> None:
    secret, key = "aaab-aab", "-----BEGIN\nlines of a key\n-----END"
    text = f"1 aaaaab-aabaaab-aab aaab-aa {key} {key!r} short 12 {secret}".encode()
    redactor = Redactor({"TOKEN": secret, "PEM": key, "N": "12"})
    parts = [redactor.feed(text[at : at + size]) for at in range(0, len(text), size)]
    told = (b"".join(parts) + redactor.end()).decode()
    assert (
        told.replace("[PEM]\\n[PEM]\\n[PEM]", "[PEM]").replace("[PEM]\n[PEM]\n[PEM]", "[PEM]")
        == "1 aa[TOKEN][TOKEN] aaab-aa [PEM] '[PEM]' short 12 [TOKEN]"
    )


def test_gigabytes_of_output_pass_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    (tmp_path / "train.py").write_text(
        "import os\nblock = (b'x' * 99 + b'\\n') * 10_000\nfor _ in range(100): os.write(1, block)\nprint('the end')"
    )
    monkeypatch.setattr("ablate.engines.command.BoundedLog", lambda file: BoundedLog(file, most=10_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    log = tmp_path / "log"
    with log.open("wb") as file:
        monkeypatch.setattr("sys.stderr", io.TextIOWrapper(file, write_through=True))
        one = a_run(tmp_path)
        ended = one.carry_out(one.config.command)
    assert (ended.code, ended.last_line) == (0, "the end")
    assert log.stat().st_size < 100_000
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # KiB


def test_curves_are_read_from_csv_and_json_lines(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    table, lines = tmp_path / "results.csv", tmp_path / "metrics.json"
    reader = CurveReader(folder, {"loss": (table, "train/loss"), "lr": (lines, "lr"), "gone": (tmp_path / "no", "x")})
    assert not reader.look()
    table.write_text("epoch, train/loss\n1, 0.5\n2, nan\n3, 0.2")  # the last line is not whole yet
    lines.write_text('{"lr": 0.1}\n{"lr": 0.2}\n{"lr": 0.3}\n')
    assert reader.look()
    assert folder.read_metrics() == [
        {"iteration": 1, "loss": 0.5, "lr": 0.1},
        {"iteration": 2, "lr": 0.2},
        {"iteration": 3, "lr": 0.3},
    ]
    assert not reader.look()


def test_the_memory_of_gpus_is_asked_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "nvidia-smi"
    script.write_text('#!/bin/sh\necho "$@" > asked\necho "$MIB, NVIDIA H200"\necho "1024, NVIDIA H200"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    watch = GpuWatch(["GPU-1", "GPU-2"])
    for mib in ("2048", "4096", "512"):
        monkeypatch.setenv("MIB", mib)
        watch.look()
    assert (watch.peak_gib, watch.name) == (4.0, "NVIDIA H200")
    assert (tmp_path / "asked").read_text().endswith("-i GPU-1,GPU-2\n")
    script.write_text("#!/bin/sh\nexit 9\n")
    broken = GpuWatch(["GPU-1"])
    broken.look()
    assert broken.peak_gib is None


def test_a_config_is_changed_by_the_names_of_its_parameters(tmp_path: Path) -> None:
    base = a_config(tmp_path, parameters={"optim": {"lr": 0.1}, "shell": "no"}, command="python x {optim.lr} {shell}")
    assert with_changes(base, {"optim.lr": 0.2}).parameters == {"optim": {"lr": 0.2}, "shell": "no"}
    with pytest.raises(BadInput, match=r"parameters\.shell for the parameter"):
        with_changes(base, {"shell": "yes"})
    assert command.parameter_texts(with_changes(base, {"parameters.shell": True}).parameters)["shell"] == "true"
