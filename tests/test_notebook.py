"""The notebook of the documentation runs, without jupyter, and was executed when it was written."""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"
CELLS = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]


def test_its_code_runs_and_every_value_that_it_shows_can_be_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.mkdtemp", lambda: str(tmp_path))
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


def test_it_was_executed_and_is_small() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert all(output["output_type"] == "execute_result" for output in outputs), "an error or a message"
    assert sum("image/png" in output["data"] for output in outputs) > 2
    assert sys.prefix not in NOTEBOOK.read_text()
    assert "/tmp" not in NOTEBOOK.read_text()
