"""The answer of a study as files for programs and papers: JSON, CSV, Markdown, LaTeX, figures.

The section of a report that is the study itself: its table, what each variant costs, what to be careful about.
"""

import csv
import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import msgspec

from ablate.detector.flops import decimals
from ablate.studies.results import ERRORS, METRICS, Row, Summary
from ablate.studies.show_results import (
    COUNTED,
    COUNTS,
    MARK,
    banner,
    in_columns,
    in_print,
    interval,
    over_seeds,
    place,
)
from analysis.render.markup import Markup, join, tag
from analysis.render.printed_tables import Printed, escape
from analysis.report.components import Column as Head
from analysis.report.components import note, row_head, scrolling, table
from analysis.report.page import Section
from analysis.stats.intervals import Estimate


class Column(msgspec.Struct, frozen=True):
    """One column of a printed table."""

    group: str
    name: str
    cell: Callable[[Row], str]


def write_files(out: Path, summary: Summary) -> list[Path]:
    """Write `table.csv`, `.md`, `.tex`, `.json`, what was published, and the figures; all is made before it is written.

    Raises:
        BadInput: the folder cannot be written.
    """
    from ablate.studies.plots import curves_figure, errors_figure
    from analysis.io import write_bytes

    contents = {
        "table.csv": as_csv(summary).encode(),
        "table.md": as_markdown(summary).encode(),
        "table.tex": as_latex(summary).encode(),
        "table.json": as_json(summary),
    }
    if summary.published:
        contents |= {
            "published.csv": published_csv(summary).encode(),
            "published.tex": published_latex(summary).encode(),
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
    kind, other = summary.kinds
    records = []
    for row in summary.rows:
        record: dict[str, object] = {
            "study": summary.study,
            "variant": row.variant,
            "baseline": row.baseline,
            "not_controlled": " ".join(row.confounders),
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
            "cost_measured_on": summary.cost_place,
            "published_box_AP": row.published.box_ap if row.published else None,
            "published_mask_AP": row.published.mask_ap if row.published else None,
            "published_by": row.published.source if row.published else None,
        }
        records.append(record)
    return _csv(records)


def published_csv(summary: Summary) -> str:
    """A row a published number that stands beside no run, with its difference to the same source's baseline."""
    return _csv(
        [
            {
                "study": summary.study,
                **msgspec.to_builtins(one.finding),
                "box_difference": one.box_difference,
                "mask_difference": one.mask_difference,
            }
            for one in summary.published
        ]
    )


def _csv(records: Sequence[dict[str, object]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return stream.getvalue()


def _mean_and_half(name: str, found: Estimate | None) -> dict[str, object]:
    return {name: found.mean if found else None, f"{name}_half": found.half if found else None}


def columns(summary: Summary) -> list[Column]:
    """What a printed table shows of a variant; what nobody measured is left out."""
    kind, other = summary.kinds
    percent = f"AP{round((summary.iou or 0) * 100)}"
    digits = 1 if any(row.n > 1 for row in summary.rows) else 2
    found = [Column(f"{kind} AP", name, partial(_metric, name)) for name in METRICS]
    found.append(Column(f"{kind} AP", "against baseline", lambda row: interval(row.difference, sign=True)))
    found.append(Column(f"{other} AP", "AP", lambda row: interval(row.other_ap)))
    found += [
        Column(f"{percent} to gain", name.upper() if name in ("fp", "fn") else name, partial(_error, name, digits))
        for name in ERRORS
    ]
    in_gib = any((row.peak_gib or 0) >= 1 for row in summary.rows)
    found += [
        Column("cost", *(("GiB", partial(_peak, 1.0, ".2f")) if in_gib else ("MiB", partial(_peak, 1024.0, ".1f")))),
        Column("cost", "s/iter.", lambda row: _number(row.seconds_per_iteration, ".4f")),
        Column("cost", "s/image", lambda row: _number(row.seconds_per_image, ".4f")),
    ]
    for name, of, fewest in COUNTS:
        shape = f".{decimals(map(of, summary.rows), fewest)}f"
        found.append(Column("cost", name, partial(_counted, of=of, shape=shape)))
    if any(row.published for row in summary.rows):
        found.append(Column("published", "AP", lambda row: _number(_published_ap(row, kind), ".1f")))
    if len(summary.seeds) > 1:
        found.append(Column("", "n", lambda row: str(row.n)))
    return [column for column in found if any(column.cell(row) for row in summary.rows)]


def _metric(name: str, row: Row) -> str:
    return interval(row.metrics.get(name))


def _error(name: str, digits: int, row: Row) -> str:
    return interval(row.errors.get(name), digits)


def _peak(scale: float, shape: str, row: Row) -> str:
    if row.peak_gib is None:
        return "OOM" if row.cost_message else ""
    return format(row.peak_gib * scale, shape)


def _published_ap(row: Row, kind: str) -> float | None:
    if row.published is None:
        return None
    return row.published.box_ap if kind == "box" else row.published.mask_ap


def _counted(row: Row, of: Callable[[Row], float], shape: str) -> str:
    return _number(of(row) if row.size else None, shape)


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
        lines += ["Published on COCO under other conditions:", "", _published(summary).markdown().rstrip(), ""]
    return "\n".join([*lines, *_facts(summary), ""])


def _published(summary: Summary) -> Printed:
    """What was published under other conditions, and how far from the baseline of its own source."""
    rows = []
    for one in summary.published:
        f = one.finding
        differences = _number(one.box_difference, "+.1f"), _number(one.mask_difference, "+.1f")
        own = _number(f.box_ap, ".1f"), differences[0], _number(f.mask_ap, ".1f"), differences[1]
        rows.append((f.variant, f.size, f.training, f.source, *own))
    rows.sort(key=lambda row: place(summary.rows, row[0]))
    head = ("variant", "size", "trained", "source", "box AP", "against baseline", "mask AP", "against baseline")
    return Printed("", head, tuple(rows), words=4)


def _full_name(column: Column) -> str:
    if column.group.endswith(" AP"):
        return f"{column.group.removesuffix('AP')}{column.name}" if column.name.startswith("AP") else column.name
    return f"{column.group} {column.name}".strip()


def _markdown_name(row: Row) -> str:
    name = row.variant.replace("|", "\\|") + (" (baseline)" if row.baseline else "")
    return name + (f" (not controlled: {', '.join(row.confounders)})" if row.confounders else "")


def _state(row: Row) -> str:
    return (row.message if row.state == "blocked" else row.state).replace("|", "\\|")


def _facts(summary: Summary) -> list[str]:
    about = ", ".join(part for part in (f"Study {summary.study}", f"base {summary.base}", over_seeds(summary)) if part)
    lines = [f"{about}; AP in points, 0 to 100."]
    if any(row.n > 1 for row in summary.rows):
        lines.append("Mean ± 95 % interval (Student's t) over seeds; differences seed by seed.")
    if summary.images is not None:
        lines.append(f"{summary.images:,} images, {summary.objects:,} objects, digest {summary.validation_data[:12]}.")
    if summary.cost_place:
        lines.append(f"Cost of one image at a time, alone on {summary.cost_place}; memory {summary.cost_memory}.")
    if any(row.size for row in summary.rows):
        lines.append(COUNTED)
    failed = [f"{row.variant}: {row.state}." for row in summary.rows if row.state not in ("finished", "to run")]
    return [*lines, *failed, *summary.notes]


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
    notes = _facts(summary)
    notes += [
        f"† not controlled: {row.variant} also changes {', '.join(row.confounders)}."
        for row in summary.rows
        if row.confounders
    ]
    lines = [
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
        name = _tex(row.variant) + (r" (baseline)" if row.baseline else "") + (r"$^\dagger$" if row.confounders else "")
        cells = [_tex_number(column.cell(row)) for column in shown]
        if not row.n:  # a word in the place of all that was not measured, the cost stays
            width = next((at for at, column in enumerate(shown) if column.group == "cost"), len(shown))
            cells[:width] = [rf"\multicolumn{{{width}}}{{c}}{{{_tex(row.state)}}}"]
        lines.append(" & ".join([name, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}}"]
    lines += [r"\par\smallskip", r"\raggedright\footnotesize", *map(_tex, notes), r"\end{table*}"]
    return "\n".join(line for line in lines if line) + "\n"


def published_latex(summary: Summary) -> str:
    """A ``table`` of the published numbers, a column a source and size; what each stands for below."""
    kind, _ = summary.kinds
    block = in_columns(summary, kind)
    count = len(block.columns)
    heads = [rf"\multicolumn{{2}}{{c}}{{[{number}]}}" for number in range(1, count + 1)]
    rules = [rf"\cmidrule(lr){{{2 * number}-{2 * number + 1}}}" for number in range(1, count + 1)]
    to_baseline = rf"; $\Delta$: to {_tex(block.baseline)}" if block.baseline else ""
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_tex(summary.title)}: {kind} AP published on COCO under other conditions{to_baseline}.}}",
        rf"\begin{{tabular}}{{l{'rr' * count}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        " ".join(rules),
        " & ".join(["variant", *[r"AP & $\Delta$"] * count]) + r" \\",
        r"\midrule",
    ]
    for name in block.variants:
        pairs = [in_print(column[name], kind) if name in column else ("", "") for column in block.columns]
        cells = [_tex_number(cell) if cell else "" for pair in pairs for cell in pair]
        lines.append(" & ".join([_tex(name), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\par\smallskip", r"\raggedright\footnotesize"]
    return "\n".join([*lines, *(rf"{_tex(about)}.\par" for about in block.about), r"\end{table}", ""])


def _tex(text: str) -> str:
    return escape(text).replace("±", r"$\pm$").replace("†", r"$^\dagger$")


def _tex_head(name: str) -> str:
    return r"$\Delta$" if name == "against baseline" else _tex(name)


def _tex_number(text: str) -> str:
    if not text:
        return "--"
    return "$" + text.replace(" ± ", r" \pm ") + "$" if text[0] in "+-" or "±" in text else text


def study_section(summary: Summary) -> Section:
    """AP, errors and cost of every variant; more than one seed as mean and interval."""
    groups: dict[str, list[Column]] = {}
    for column in columns(summary):
        name = "AP" if column.group.endswith(" AP") or column.group in ("", "published") else column.group
        groups.setdefault(name, []).append(column)
    titles = {"AP": "What it scores", "cost": "What it costs"}
    parts = [_table(summary, titles.get(group, group), own) for group, own in groups.items()]
    parts += [note(text) for text in _notes(summary)]
    return Section("study", "Study", "What was varied, and what it does", join(parts))


def study_facts(summary: Summary) -> list[Markup | str]:
    """What the study is, in sentences, and first what must stand over every number of it."""
    seeds = ", ".join(map(str, summary.seeds))
    held = f"Everything else of {summary.base} is held; seed{'s' * (len(summary.seeds) > 1)} {seeds}."
    careful = [tag("strong", f"{banner(summary).capitalize()}.")] if banner(summary) else []
    return [*careful, f"Asked by {summary.source}. {held}" if summary.source else held]


def _table(summary: Summary, title: str, own: list[Column]) -> Markup:
    with_state = title == "What it scores" and any(row.state != "finished" for row in summary.rows)
    heads = [Head("Variant"), *(Head(_gallery_name(column), number=True) for column in own)]
    rows = [
        [
            row_head(_name(row)),
            *(tag("td", column.cell(row) or "–", class_="num") for column in own),
            *([tag("td", row.message if row.state == "blocked" else row.state)] if with_state else []),
        ]
        for row in summary.rows
    ]
    content = table(heads + [Head("State")] * with_state, rows, caption=title)
    return scrolling(content, title)


def _gallery_name(column: Column) -> str:
    if column.group.endswith(" AP"):
        return f"{column.group.removesuffix('AP')}{column.name}" if column.name.startswith("AP") else column.name
    return f"published {column.name}" if column.group == "published" else column.name


def _name(row: Row) -> Markup:
    parts: list[Markup | str] = [row.variant]
    if row.baseline:
        parts.append(tag("span", " (baseline)", class_="dim"))
    if row.confounders:
        parts.append(f" {MARK}")
    return join(parts)


def _notes(summary: Summary) -> list[str]:
    found = [
        f"{MARK} not controlled: {row.variant} also changes {', '.join(row.confounders)}."
        for row in summary.rows
        if row.confounders
    ]
    if any(row.n > 1 for row in summary.rows):
        found.append("Mean ± 95 % interval (Student's t) over seeds; differences seed by seed.")
    if summary.cost_place:
        place = f"Cost of one image at a time, alone on {summary.cost_place}; memory {summary.cost_memory}."
        found.append(place)
    if any(row.size for row in summary.rows):
        found.append(COUNTED)
    return [*found, *summary.notes]
