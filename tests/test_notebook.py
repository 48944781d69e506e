"""The notebook of the documentation runs, without jupyter, and was executed when it was written."""

import ast
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import detablate
from analysis.render.results import figures, frames

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_its_code_runs_and_every_value_that_it_shows_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
    monkeypatch.setattr(detablate, "compare", partial(detablate.compare, resamples=400), raising=False)  # in less time
    names: dict[str, Any] = {}
    for number, cell in enumerate(CELLS):
        tree = ast.parse("".join(cell["source"]).replace("images=200", "images=60"))  # which takes a third of the time
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            shown = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            assert repr(shown)
            rich = [getattr(shown, form)() for form in ("_repr_html_", "_repr_png_") if hasattr(shown, form)]
            assert any(rich) or not rich


def test_the_page_on_python_runs_and_names_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = NOTEBOOK.with_name("python.md").read_text()
    _, files = detablate.write_example(tmp_path, images=40)
    files["sloppy-boxes"].rename(tmp_path / "predictions.json")
    monkeypatch.chdir(tmp_path)
    exec(compile(page.split("```python\n")[1].split("```")[0], "python.md", "exec"), {})
    assert "localisation: box overlaps too little" in capsys.readouterr().out
    assert (tmp_path / "classes.png").stat().st_size > 5000
    gt = detablate.read_ground_truth("ground_truth.json")
    dt = detablate.read_detections("predictions.json", gt)
    for name, shown in {
        "Evaluation": detablate.evaluate(gt, dt),
        "VocAP": detablate.voc_ap(gt, dt),
        "Breakdown": detablate.break_down(gt, dt),
        "RunAtThreshold": detablate.operating_points(gt, [("a", dt)], resamples=0)[0],
    }.items():
        row = next(line for line in page.splitlines() if line.startswith("|") and f"`{name}`" in line).split("|")
        assert [one.strip("` ") for one in row[3].split(",")] == [*frames(shown)]
        assert [one.strip("` ") for one in row[4].split(",")] == [*figures(shown)]


def test_it_was_executed_and_is_small() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert all(output["output_type"] == "execute_result" for output in outputs), "an error or a message"
    assert sum("image/png" in output["data"] for output in outputs) > 2
    assert sys.prefix not in NOTEBOOK.read_text()
    assert "/tmp" not in NOTEBOOK.read_text()
