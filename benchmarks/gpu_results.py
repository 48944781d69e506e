"""The table and the figure of what `benchmarks/gpu.py` has measured, from its lines of JSON."""

import json
from pathlib import Path
from typing import Any

ABOUT = ("stage", "row", "device", "torch")


def show(lines: Path) -> None:
    """Write ``.md`` and ``.png`` beside a file of results; the newest line of a row counts."""
    found = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    newest = {(line["stage"], line["row"], line.get("images")): line for line in found}
    table = lines.with_suffix(".md")
    table.write_text(as_table(list(newest.values())))
    print(f"\n{lines}\n{table}")
    steps = [line for line in newest.values() if line["stage"] == "steps" and "ms" in line]
    if not steps:
        return
    try:
        print(draw(steps, lines.with_suffix(".png")))
    except ImportError as error:
        print(f"no figure: {error.name} is missing (pip install it)")


def as_table(found: list[dict[str, Any]]) -> str:
    """A Markdown table a stage: its rows, and whatever they measured in columns.

    >>> print(as_table([{"stage": "steps", "row": "ViT-B", "device": "X", "torch": "2", "ms": 3.0}]))
    # Measured on X, torch 2
    <BLANKLINE>
    ## steps
    <BLANKLINE>
    | row | ms |
    |---|---|
    | ViT-B | 3.0 |
    <BLANKLINE>
    """
    where = sorted({f"{line['device']}, torch {line['torch']}" for line in found if "device" in line})
    text = [f"# Measured on {'; '.join(where)}", ""]
    for stage in dict.fromkeys(line["stage"] for line in found):
        rows = [line for line in found if line["stage"] == stage]
        columns = list(dict.fromkeys(key for line in rows for key in line if key not in ABOUT))
        text += [f"## {stage}", "", f"| {' | '.join(['row', *columns])} |", "|---" * (len(columns) + 1) + "|"]
        text += [f"| {' | '.join([line['row'], *(_cell(line.get(key, '')) for key in columns)])} |" for line in rows]
        text.append("")
    return "\n".join(text)


def _cell(value: Any) -> str:
    if isinstance(value, dict):
        value = ", ".join(f"{key} {one}" for key, one in value.items())
    return str(value).replace("|", "\\|").replace("\n", " ")


def draw(steps: list[dict[str, Any]], path: Path) -> Path:
    """Milliseconds of a training step an image, and its memory where it was measured, a bar a row."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = [f"{line['row']}, {line['images']} image{'s' * (line['images'] > 1)}" for line in steps]
    panels = [("ms a training step, per image", [line["ms"] / line["images"] for line in steps])]
    if any("peak_gib" in line for line in steps):
        panels.append(("peak memory, GiB", [line.get("peak_gib", 0) for line in steps]))
    figure, axes = pyplot.subplots(1, len(panels), figsize=(5 + 3.5 * len(panels), 1.2 + 0.3 * len(steps)), sharey=True)
    for axis, (title, values) in zip([axes] if len(panels) == 1 else axes, panels, strict=True):
        axis.barh(names, values, color="#4477aa")
        axis.set_xlabel(title)
        axis.invert_yaxis() if axis is (axes if len(panels) == 1 else axes[0]) else None
    figure.suptitle(f"Training steps on {steps[0]['device']}, torch {steps[0]['torch']}", fontsize=10)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    pyplot.close(figure)
    return path
