"""Tables for papers: columns of siunitx, parts that fit the text, names as they are; compiled where there is TeX."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.render.latex import TEXT, latex
from analysis.render.table import Cell, Column, Table, markdown

HOSTILE = ["a|b", "[x](y)", "a_b*c`d", "50 % & $1 #2 {x} ~^\\", "new\nline", "± † Δ ≤ < > … × – −", "*", "x" * 60]


def compiled(body: str, folder: Path) -> str:
    """The log of a document with the packages that its first line asks for; skips without a TeX."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex on this machine (Debian: texlive-latex-recommended, texlive-science)")
    packages = "".join(rf"\usepackage{{{names}}}" for names in sorted(set(re.findall(r"% needs .*?\{(.*?)\}", body))))
    document = rf"\documentclass{{article}}{packages}\begin{{document}}{body}\end{{document}}"
    (folder / "table.tex").write_text(document)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "table.tex"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    if "siunitx.sty' not found" in done.stdout:
        pytest.skip("this TeX has no siunitx (Debian: texlive-science)")
    assert done.returncode == 0, done.stdout[-1500:]
    return done.stdout


def wide() -> Table:
    """As wide as that of a study: twenty columns in three groups."""
    groups = {"AP": 5, "AP50 to gain": 8, "cost": 7}
    columns = [
        Column(f"number {at}", precision=1, group=group) for group, count in groups.items() for at in range(count)
    ]
    cells = [Cell(41.27, "41.3 ± 10.4", bold=at % 2 == 0, suffix=" *" * (at == 3)) for at in range(len(columns))]
    return Table("Wide", (Column("variant", kind="text"), *columns), (("a", *cells), ("b", *[None] * 20)), label="wide")


def rows_of(tex: str, name: str) -> list[str]:
    return [line for line in tex.splitlines() if line.startswith(f"{name} &")]


def test_twenty_columns_are_parts_with_the_names_in_each_and_nothing_is_shrunk() -> None:
    tex = latex(wide())
    assert "resizebox" not in tex
    assert tex.count(r"\toprule") == tex.count(r"\bottomrule") == len(rows_of(tex, "a")) > 1
    assert sum(row.count(r"$\pm$") for row in rows_of(tex, "a")) == 20
    assert tex.startswith("% needs \\usepackage{booktabs,siunitx}\n\\begin{table*}")
    assert tex.count("{") == tex.count("}")


def test_parts_of_columns_are_even() -> None:
    names = [f"AP{number}" for number in range(9)]
    columns = (Column("run", kind="text"), *(Column(name, precision=1) for name in names))
    interval = tuple(Cell(40.5, "40.5 [35.3, 42.3]") for _ in names)
    tex = latex(Table("t", columns, (("efficientdet-lite2", *interval),)))
    assert [row.count("[") for row in rows_of(tex, "efficientdet-lite2")] == [3, 3, 3]  # not 4, 4 and 1


def test_a_page_ends_with_a_group_and_none_holds_a_few_rows() -> None:
    columns = (Column("run", kind="text"), Column("IoU", kind="text"), Column("AP", precision=1))
    rows = tuple((f"run {run}", f"{iou / 100}", 50.0) for run in range(4) for iou in range(50, 105, 5))
    tex = latex(Table("t", columns, rows, names=2, grouped=True))
    pages = tex.split(r"\begin{table}")[1:]
    assert [page.count(" & 50.0") for page in pages] == [22, 22]
    assert all(f"run {run}" in page for page, runs in zip(pages, ((0, 1), (2, 3)), strict=True) for run in runs)


def test_spanning_heads_caption_label_and_notes() -> None:
    columns = (
        Column("run", kind="text"), Column("AP", group="box"), Column("AP50", group="box"), Column("n"),
    )  # fmt: skip
    tex = latex(Table("50 % of a_b", columns, (("x", 1, 2, 3),), notes=("Over ± seeds.",), label="main"))
    assert r"\caption{50 \% of a\_b.}" in tex
    assert r"\label{tab:main}" in tex
    assert r" & \multicolumn{2}{c}{box} & " in tex
    assert r"\cmidrule(lr){2-3}" in tex
    assert r"\begin{table}" in tex
    assert tex.index(r"\bottomrule") < tex.index(r"Over $\pm$ seeds.\par")


@pytest.mark.parametrize(
    ("cell", "tex", "md"),
    [
        (
            Cell(1.5, "+1.5 [-0.2, 2]", bold=True, suffix="*"),
            r"\bfseries +1.5{{}*} & $[-0.2, 2]$",
            r"**+1.5 [-0.2, 2]**\*",
        ),
        (Cell(41.3, "41.3 ± 0.4"), r"41.3 & $\pm$ 0.4", "41.3 ± 0.4"),
        (Cell(2.0, bold=True), r"\bfseries 2.0", "**2.0**"),
        (Cell(1234), "1234", "1,234"),
        (Cell(-0.01), "0.0", "0.0"),
        (Cell(None), "--", "-"),
        (Cell(float("nan")), "--", "-"),
        (Cell(None, "out of memory"), "out of memory", "out of memory"),
    ],
)  # fmt: skip
def test_a_number_in_papers(cell: Cell, tex: str, md: str) -> None:
    table = Table("", (Column("run", kind="text"), Column("x", precision=1)), (("a", cell),))
    assert rows_of(latex(table), "a") == [rf"a & {tex} \\"]
    assert f"| a | {md} |" in markdown(table)


def test_words_among_numbers_stand_in_braces_and_the_format_has_room_for_all() -> None:
    rows = (("a", Cell(-12.25)), ("b", Cell(None, "out of memory")), ("c", None), ("d", Cell(1234.5)))
    tex = latex(Table("", (Column("run", kind="text"), Column("x", precision=2)), rows))
    assert r"S[table-format=+4.2]" in tex
    assert r"b & {out of memory} \\" in tex
    assert r"c & {--} \\" in tex
    assert r"d & 1234.50 \\" in tex


def test_a_table_taller_than_a_page_is_continued() -> None:
    columns = (Column("run", kind="text"), Column("class", kind="text"), Column("x"))
    rows = [(f"run {at // 50}", f"class {at}", at) for at in range(150)]
    tex = latex(Table("Tall", columns, tuple(rows), notes=("Last.",), label="tall", names=2, grouped=True))
    floats = tex.split(r"\begin{table}")[1:]
    assert len(floats) > 2
    assert max(each.count("class ") for each in floats) <= 50
    assert [f"class {at} " in tex for at in range(150)] == [True] * 150
    assert [(r"\label" in each, "Last." in each) for each in floats] == [
        (at == 0, at == len(floats) - 1) for at in range(len(floats))
    ]
    assert all(r"\caption{Tall (continued).}" in each for each in floats[1:])
    assert all(re.search(r"\\midrule\nrun \d & class", each) for each in floats)  # each says whose rows they are


def test_letters_that_pdflatex_lacks_are_told_of() -> None:
    columns = (Column("run", kind="text"), Column("x"))
    assert "lualatex" in latex(Table("", columns, (("检测", 1),)))
    assert "lualatex" not in latex(Table("", columns, (("é ± 1 …", 1),)))


def test_everything_compiles_and_fits_the_text(tmp_path: Path) -> None:
    """One document: hostile names, long names, groups, headings, intervals, and a table in parts."""
    columns = (
        Column("run", kind="text"), Column("class_%", kind="text"), Column("AP", precision=1, signed=True),
        Column("loc & miss", precision=2, group="lost_to"), Column("1/2", group="lost_to"),
    )  # fmt: skip
    rows = tuple(
        (f"run {at // 3}", name, Cell(1.5, "+1.5 [-0.2, 2.0]", bold=True, suffix="*"), 1.25, "3/4")
        for at, name in enumerate(HOSTILE)
    )
    hostile = Table(" ".join(HOSTILE), columns, ("[heading] & more", *rows), notes=tuple(HOSTILE), label="hostile",
                    names=2, grouped=True)  # fmt: skip
    tall = Table("Tall", (Column("a", kind="text"), Column("b")), tuple((f"{at}", at) for at in range(120)))
    tables = [hostile, wide(), tall, Table("No number", (Column("a", kind="text"),), (("x",),), label="words")]
    log = compiled("\n".join(map(latex, tables)), tmp_path)
    overfull = [float(found) for found in re.findall(r"Overfull \\hbox \(([\d.]+)pt too wide\)", log)]
    assert all(excess < 0.05 * TEXT for excess in overfull), log
    assert "multiply defined" not in log
    assert "Float too large" not in log
    assert (tmp_path / "table.pdf").stat().st_size > 10_000
