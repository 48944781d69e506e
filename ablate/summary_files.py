"""The answer of a study as files for programs and papers: JSON, CSV, Markdown, LaTeX, figures."""

import csv
import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import msgspec

from ablate.estimate import Estimate
from ablate.summary import ERRORS, METRICS, Row, Summary
from ablate.summary_screen import banner, interval, kinds

LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


class Column(msgspec.Struct, frozen=True):
    """One column of a printed table."""

    group: str
    name: str
    cell: Callable[[Row], str]


def write_files(out: Path, summary: Summary) -> list[Path]:
    """Write `table.csv`, `.md`, `.tex`, `.json` and the figures; all are made before the first is written.

    Raises:
        BadInput: the folder cannot be written.
    """
    from ablate.summary_plots import curves_figure, errors_figure
    from analysis.atomic import write_bytes

    contents = {
        "table.csv": as_csv(summary).encode(),
        "table.md": as_markdown(summary).encode(),
        "table.tex": as_latex(summary).encode(),
        "table.json": as_json(summary),
    }
    for name, pictures in (("errors", errors_figure(summary)), ("curve", curves_figure(summary))):
        contents |= {f"{name}.{kind}": picture for kind, picture in pictures.items()}
    for file, content in contents.items():
        write_bytes(out / file, content)
    return [out / file for file in contents]


def as_json(summary: Summary) -> bytes:
    """Everything, unrounded."""
    return msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n"


def as_csv(summary: Summary) -> str:
    """A row a variant; for estimates the mean, and half the width of the interval where there is one."""
    kind, other = kinds(summary)
    records = []
    for row in summary.rows:
        record: dict[str, object] = {
            "study": summary.study,
            "variant": row.variant,
            "baseline": row.baseline,
            "not_controlled": " ".join(row.uncontrolled),
            "synthetic": summary.synthetic,
            "state": row.state,
            "n": row.n,
        }
        for name in METRICS:
            record |= _mean_and_half(f"{kind}_{name}", row.metrics.get(name))
        record |= _mean_and_half(f"{other}_AP", row.other_ap)
        record |= _mean_and_half(f"{kind}_AP_difference", row.difference)
        for name in ERRORS:
            record |= _mean_and_half(name, row.errors.get(name))
        size = row.size
        record |= {
            "peak_gib": row.peak_gib,
            "seconds_per_iteration": row.seconds_per_iteration,
            "seconds_per_image": row.seconds_per_image,
            "parameters": size.parameters if size else None,
            "macs": size.macs if size else None,
            "activations": size.activations if size else None,
        }
        records.append(record)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _mean_and_half(name: str, found: Estimate | None) -> dict[str, object]:
    return {name: found.mean if found else None, f"{name}_half": found.half if found else None}


def columns(summary: Summary) -> list[Column]:
    """What a printed table shows of a variant; what nobody measured is left out."""
    kind, other = kinds(summary)
    percent = f"AP{round((summary.iou or 0) * 100)}"
    found = [Column(f"{kind} AP", name, partial(_metric, name)) for name in METRICS]
    found.append(Column(f"{kind} AP", "against baseline", lambda row: interval(row.difference, sign=True)))
    found.append(Column(f"{other} AP", "AP", lambda row: interval(row.other_ap)))
    found += [
        Column(f"{percent} to gain", name.upper() if name in ("fp", "fn") else name, partial(_error, name))
        for name in ERRORS
    ]
    found += [
        Column("cost", "GiB", lambda row: _number(row.peak_gib, ".3f")),
        Column("cost", "s/iter.", lambda row: _number(row.seconds_per_iteration, ".4f")),
        Column("cost", "s/image", lambda row: _number(row.seconds_per_image, ".4f")),
        Column("cost", "param. M", lambda row: _number(row.size.parameters / 1e6 if row.size else None, ".2f")),
        Column("cost", "GMAC", lambda row: _number(row.size.macs / 1e9 if row.size else None, ".2f")),
        Column("cost", "activ. M", lambda row: _number(row.size.activations / 1e6 if row.size else None, ".1f")),
    ]
    if any(row.published for row in summary.rows):
        found.append(Column("published", "AP", lambda row: _number(_published_ap(row, kind), ".1f")))
    if len(summary.seeds) > 1:
        found.append(Column("", "n", lambda row: str(row.n)))
    return [column for column in found if any(column.cell(row) for row in summary.rows)]


def _metric(name: str, row: Row) -> str:
    return interval(row.metrics.get(name))


def _error(name: str, row: Row) -> str:
    return interval(row.errors.get(name), 1 if row.n > 1 else 2)


def _published_ap(row: Row, kind: str) -> float | None:
    if row.published is None:
        return None
    return row.published.box_ap if kind == "box" else row.published.mask_ap


def _number(value: float | None, shape: str) -> str:
    return "" if value is None else format(value, shape)


def as_markdown(summary: Summary) -> str:
    """One table a group of columns, published findings, and what a reader has to know."""
    groups: dict[str, list[Column]] = {"": []}
    for column in columns(summary):
        name = "AP" if column.group.endswith(" AP") or column.group in ("", "published") else column.group
        groups.setdefault(name, []).append(column)
    lines = [f"## {summary.title}", ""]
    if banner(summary):
        lines += [f"**{banner(summary)}**", ""]
    for group, own in groups.items():
        if not own:
            continue
        heads = [column.name if group != "AP" else _full_name(column) for column in own]
        lines += [
            "| " + " | ".join([f"{group or 'AP'}: variant", *heads, *(["state"] if group == "AP" else [])]) + " |"
        ]
        lines += ["|---|" + "---:|" * len(own) + ("---|" if group == "AP" else "")]
        for row in summary.rows:
            cells = [_markdown_name(row), *(column.cell(row) or "-" for column in own)]
            cells += [_state(row)] if group == "AP" else []
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    if summary.published:
        lines += ["| published | size | box AP | against baseline | mask AP | against baseline | trained | source |"]
        lines += ["|---|---|---:|---:|---:|---:|---|---|"]
        for one in summary.published:
            f = one.finding
            cells = [f.variant, f.size, _number(f.box_ap, ".1f"), _number(one.box_difference, "+.1f")]
            cells += [_number(f.mask_ap, ".1f"), _number(one.mask_difference, "+.1f"), f.training, f.source]
            lines.append("| " + " | ".join(cells) + " |")
        lines.append("")
    return "\n".join([*lines, *_facts(summary), ""])


def _full_name(column: Column) -> str:
    if column.group.endswith(" AP"):
        return f"{column.group.removesuffix('AP')}{column.name}" if column.name.startswith("AP") else column.name
    return f"{column.group} {column.name}".strip()


def _markdown_name(row: Row) -> str:
    name = row.variant.replace("|", "\\|") + (" (baseline)" if row.baseline else "")
    return name + (f" (not controlled: {', '.join(row.uncontrolled)})" if row.uncontrolled else "")


def _state(row: Row) -> str:
    return (row.message if row.state == "blocked" else row.state).replace("|", "\\|")


def _facts(summary: Summary) -> list[str]:
    seeds = f"n = {len(summary.seeds)}" + ("" if len(summary.seeds) > 1 else ", no interval")
    lines = [f"Study {summary.study}, base {summary.base}, {seeds}; AP in points, 0 to 100."]
    if any(row.n > 1 for row in summary.rows):
        lines.append("Mean ± 95 % interval (Student's t) over seeds; differences seed by seed.")
    if summary.images is not None:
        lines.append(f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}.")
    if summary.cost_place:
        lines.append(f"Cost of one image at a time, alone on {summary.cost_place}; memory {summary.cost_memory}.")
    return [*lines, *summary.notes]


def as_latex(summary: Summary) -> str:
    r"""A ``table*`` for papers that use booktabs and graphicx; comments say where it comes from."""
    shown = columns(summary)
    groups: list[tuple[str, int]] = []
    for column in shown:
        if groups and groups[-1][0] == column.group:
            groups[-1] = (column.group, groups[-1][1] + 1)
        else:
            groups.append((column.group, 1))
    heads, rules, at = [], [], 2
    for name, width in groups:
        heads.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{at}-{at + width - 1}}}" if name else "")
        at += width
    caption = ". ".join([_tex(summary.title), *([f"{_tex(banner(summary)).capitalize()}"] if banner(summary) else [])])
    lines = [
        f"% {' '.join(_facts(summary))}",
        r"% needs \usepackage{booktabs,graphicx}",
        r"\begin{table*}",
        r"\centering",
        rf"\caption{{{caption}.}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * len(shown)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        " ".join(rule for rule in rules if rule),
        " & ".join(["variant", *(_tex_head(column.name) for column in shown)]) + r" \\",
        r"\midrule",
    ]
    for row in summary.rows:
        name = (
            _tex(row.variant) + (r" (baseline)" if row.baseline else "") + (r"$^\dagger$" if row.uncontrolled else "")
        )
        cells = [_tex_number(column.cell(row)) for column in shown]
        if not row.n:  # a word in the place of all that was not measured, the cost stays
            width = next((at for at, column in enumerate(shown) if column.group == "cost"), len(shown))
            cells[:width] = [rf"\multicolumn{{{width}}}{{c}}{{{_tex(_state(row))}}}"]
        lines.append(" & ".join([name, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [r"\par\footnotesize $^\dagger$ not controlled" for row in summary.rows if row.uncontrolled][:1]
    lines += [r"\end{table*}"]
    return "\n".join(line for line in lines if line) + "\n"


def _tex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in text)


def _tex_head(name: str) -> str:
    return r"$\Delta$" if name == "against baseline" else _tex(name)


def _tex_number(text: str) -> str:
    if not text:
        return "--"
    return "$" + text.replace(" ± ", r" \pm ") + "$" if text[0] in "+-" or "±" in text else text
