"""What a shell offers when the user presses Tab, and how long that takes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from ablate.cli.completion import config_keys
from ablate.config.yaml import load_config, preset_names
from ablate.studies.study import leaves
from detablate import command_line

ROOT = Path(__file__).parents[3]


def offered(words: str) -> list[str]:
    """What Tab offers after ``detablate WORDS``, of which the last one is being typed."""
    from typer._completion_classes import BashComplete

    *args, incomplete = words.split(" ")
    completer = BashComplete(typer.main.get_command(command_line()), {}, "detablate", "_DETABLATE_COMPLETE")
    return [item.value for item in completer.get_completions(args, incomplete)]


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two studies, the older one first, and a config."""
    for age, name in ((100, "older"), (50, "newer")):
        path = tmp_path / "results" / "studies" / name / "study.json"
        path.parent.mkdir(parents=True)
        runs = [{"variant": f"{name} {v}", "seed": seed} for v in ("a", "b") for seed in (0, 1)]
        path.write_text(json.dumps({"name": name, "runs": runs}))
        os.utime(path, (path.stat().st_mtime - age,) * 2)
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "more").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_studies_and_their_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert offered("ablate launch ") == ["newer", "older"]
    assert offered("ablate table newer o") == ["older"]
    assert offered("ablate logs --run ") == ["newer a", "newer b", "newer a:0", "newer a:1", "newer b:0", "newer b:1"]
    assert offered("ablate logs older --run ")[0] == "older a"
    monkeypatch.chdir("/")
    assert offered(f"ablate launch --root {root} n") == ["newer"]


@pytest.mark.parametrize("content", ["{", "[]", '{"runs": 3}', '{"runs": [{}]}'])
def test_a_damaged_study_offers_no_run(content: str, root: Path) -> None:
    (root / "results" / "studies" / "newer" / "study.json").write_text(content)
    assert offered("ablate logs newer --run ") == []


def test_configs_axes_variants_and_parts(root: Path) -> None:
    assert set(offered("ablate run ")) == {*preset_names(), "mine.yaml", "more/", "results/"}
    assert offered("ablate attention --base mi") == ["mine.yaml"]
    assert offered("ablate axes po") == ["position"]
    assert "hybrid" in offered("ablate attention --only ")
    assert offered("ablate attention --base nothing --only ") == []
    assert offered("ablate attention --only nothing") == []
    assert offered("analyze errors --by class,s") == ["class,size"]
    assert "launch" in offered("ablate la")
    assert "--seeds" in offered("ablate attention --se")


def test_keys_are_those_of_configs() -> None:
    assert offered("ablate run --set train.lr") == ["train.lr="]
    known = set(config_keys())
    for preset in preset_names():
        of_preset: dict[str, Any] = dict(leaves(msgspec.to_builtins(load_config(preset))))
        assert {key for key in of_preset if key not in known} == set(), preset


def test_a_key_press_takes_no_longer_than_typer_and_a_moment() -> None:
    """Beyond Python and typer, 0.15 seconds of a CPU; nothing that reads numbers is imported."""
    code = (
        "import sys, time, typer, detablate\n"
        "typer.main.get_command(detablate.command_line())\n"
        "began = time.process_time()\n"
        "from ablate.cli.verbs import ablate_verbs\n"
        "rows = {row.name: row for row in ablate_verbs()}\n"
        "import ablate.cli.study, ablate.cli.completion\n"
        "ablate.cli.completion.config_keys()\n"
        "print(time.process_time() - began)\n"
        "assert not {'numpy', 'rich', 'torch'} & set(sys.modules)\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    took = []
    for _ in range(3):
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        took.append(float(done.stdout))
    assert min(took) < 0.15
