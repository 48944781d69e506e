"""One table in every format: no digit and no name is lost, whatever they are and however narrow the terminal is."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from analysis.render.latex import latex
from analysis.render.markup import Markup, tag
from analysis.render.table import Cell, Column, Table, best, csv_text, html, markdown, records

WIDTHS = (60, 80)


def in_terminal(table: Table, width: int) -> list[str]:
    console = Console(width=width, markup=False, emoji=False, highlight=False, color_system=None, file=io.StringIO())
    console.print(table)
    return console.file.getvalue().splitlines()


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


letters = st.characters(codec="utf-8", categories=("Lu", "Ll", "Nd", "Lo"), include_characters="-_[]&%|=,.")
names = st.text(letters, min_size=1, max_size=70).filter(str.isprintable)
numbers = st.floats(-1e6, 1e6)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """A name, some of them twice and with a second one, and up to twelve columns of numbers under heads of any kind."""
    how_many = draw(st.integers(1, 12))
    heads = [
        Column(draw(names), precision=draw(st.integers(0, 3)), signed=draw(st.booleans())) for _ in range(how_many)
    ]
    naming = draw(st.integers(1, 2))
    columns = (*(Column(draw(names), kind="text") for _ in range(naming)), *heads)
    rows = [
        (*(draw(names) for _ in range(naming)), *(draw(numbers) for _ in heads)) for _ in range(draw(st.integers(1, 5)))
    ]
    return Table("", columns, tuple(rows), names=naming)


def shown(column: Column, value: float) -> str:
    return f"{value:{'+' * column.signed}z,.{column.precision}f}"


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=80, deadline=None)
@given(tables())
def test_every_number_stands_whole_and_every_line_fits(width: int, table: Table) -> None:
    lines = in_terminal(table, width)
    assert max(Console().render_str(line, markup=False, emoji=False).cell_len for line in lines) <= width
    words = [word for line in lines for word in line.split()]
    for place, column in enumerate(table.columns):
        if column.kind == "number":
            for row in table.cells:
                assert shown(column, row[place].value) in words


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=80, deadline=None)
@given(st.lists(names.filter(lambda name: "12.25" not in name), min_size=1, max_size=4), st.integers(1, 12))
def test_every_name_is_there_to_its_last_letter(width: int, rows: list[str], how_many: int) -> None:
    """Wrapped to its column, never cut: its pieces, from the line with its numbers to the next such line, are it."""
    columns = (Column("run", kind="text"), *[Column("n", precision=2)] * how_many)
    lines = in_terminal(Table("", columns, tuple((name, *[12.25] * how_many) for name in rows)), width)
    found: list[str] = []
    parts = 0
    for line in lines:
        if re.fullmatch(r"run( +n)+", line):
            parts += 1
        elif "12.25" in line:
            found.append(re.sub(r"( +12\.25)+$", "", line))
        else:
            found[-1] += line
    assert [squeezed(name) for name in found] == [squeezed(name) for name in rows] * parts


@pytest.mark.parametrize("width", WIDTHS)
@settings(max_examples=80, deadline=None)
@given(names.filter(lambda name: "12.25" not in name))
def test_every_head_is_there_to_its_last_letter(width: int, head: str) -> None:
    lines = in_terminal(Table("", (Column("n", kind="text"), Column(head)), (("a" * 30, 12.25),)), width)
    over = next(number for number, line in enumerate(lines) if "12.25" in line)
    assert squeezed("".join(lines[:over])).startswith("n")
    assert squeezed("".join(lines[:over])).removeprefix("n") == squeezed(head)


def test_a_long_name_leaves_room_for_the_numbers() -> None:
    name = "vit-base-with-windowed-attention-and-relative-positions-seed-3"
    columns = (Column("run", kind="text"), *(Column(f"n{number}", precision=2) for number in range(4)))
    lines = in_terminal(Table("", columns, ((name, 1.0, 22.5, 3.25, 100.0),)), 60)
    assert len(lines) == 3  # one part: a head, and the name on two lines
    assert lines[1].split()[1:] == ["1.00", "22.50", "3.25", "100.00"]
    assert squeezed("".join(line.split()[0] for line in lines[1:])) == name


def test_a_bar_stays_beside_its_number_and_all_bars_share_one_scale() -> None:
    columns = [Column("error", kind="text")]
    for run in "abcd":
        columns += [Column(run, precision=1), Column("", kind="bar"), Column("count", attached=True)]
    rows = tuple(
        (name, *[value, value, 7] * 3, 2 * value, 2 * value, 7) for name, value in (("cls", 1.0), ("loc", 4.0))
    )
    lines = in_terminal(Table("", tuple(columns), rows), 80)
    assert max(map(len, lines)) <= 80
    drawn = [re.findall(r"(\d\.\d)\s+(█*[▏▎▍▌▋▊▉]?)\s+7", line) for line in lines if line.startswith(("cls", "loc"))]
    assert drawn == [
        [("1.0", "██")] * 2, [("4.0", "████████")] * 2,
        [("1.0", "██"), ("2.0", "████")], [("4.0", "████████"), ("8.0", "████████████████")],
    ]  # fmt: skip


@pytest.mark.parametrize("width", WIDTHS)
def test_headings_and_notes_are_wrapped_and_make_no_column_wide(width: int) -> None:
    long = "points of AP50 to gain if this type of error alone were fixed everywhere in all of the images"
    table = Table("", (Column("n", kind="text"), Column("x")), (long, ("a", 1)), notes=(f"{long}.",))
    lines = in_terminal(table, width)
    assert lines[0] == "n  x"
    assert "a  1" in lines
    assert squeezed("".join(lines)) == squeezed(f"nx{long}a1{long}.")
    assert max(map(len, lines)) <= width


def test_a_heading_stands_in_the_column_of_words() -> None:
    columns = (Column("n", kind="text"), Column("what", kind="text"), Column("x"))
    lines = in_terminal(Table("", columns, ("to gain", ("a", "b", 1))), 60)
    assert lines == ["n  what     x", "   to gain", "a  b        1"]


def test_groups_show_their_name_once_with_a_rule_between() -> None:
    columns = (Column("run", kind="text"), Column("class", kind="text"), Column("AP", precision=1))
    rows = (("a", "cat", 1.0), ("a", "dog", 2.0), ("b", "cat", 3.0))
    table = Table("", columns, rows, names=2, grouped=True)
    assert in_terminal(table, 60) == ["run  class   AP", "a    cat    1.0", "     dog    2.0", "", "b    cat    3.0"]
    tex = latex(table)
    assert tex.count(r"\midrule") == 2
    assert "\n & dog & 2.0 \\\\\n" in tex
    assert "| a | dog | 2.0 |" in markdown(table)  # Markdown has no groups


HOSTILE = ["a|b", "[x](y)", "<script>", "a_b*c`d", "50 % & $1 #2 {x} ~^\\", "new\nline\x1b[2J"]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_stay_names_in_every_format(name: str) -> None:
    table = Table(name, (Column(name, kind="text"), Column("x")), ((name, 1),), notes=(name,))
    assert all("\x1b" not in line for line in in_terminal(table, 60))
    rows = [line for line in markdown(table).splitlines() if line.startswith("|")]
    assert {re.sub(r"\\.", "", row).count("|") for row in rows} == {3}
    assert "<script>" not in markdown(table).replace(r"\<script\>", "")
    body = latex(table).splitlines()
    assert sum(line.endswith(r"\\") for line in body) == 2
    assert list(csv.reader(io.StringIO(csv_text(table)))) == [[name, "x"], [name, "1"]]
    assert records(table) == [{name: name, "x": 1}]
    parser = Texts()
    parser.feed(html(table))
    assert parser.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td"}


class Texts(HTMLParser):
    """The elements of a piece of HTML."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)


def test_csv_and_json_hold_raw_values_and_no_drawings() -> None:
    columns = (
        Column("run", kind="text", key="name"), Column("AP", precision=1), Column("", kind="bar"),
        Column("", kind="chart"), Column("best", precision=0, unit="%"),
    )  # fmt: skip
    rows = (
        ("a", Cell(41.27777, bold=True, suffix="*"), 4.0, tag("svg"), float("nan")),
        "heading",
        ("b", 2, 1, None, 7),
    )
    table = Table("", columns, rows)
    assert records(table) == [{"name": "a", "AP": 41.27777, "best": None}, {"name": "b", "AP": 2, "best": 7}]
    assert csv_text(table) == "name,AP,best (%)\na,41.27777,\nb,2,7\n"


def test_html_escapes_text_keeps_markup_and_tells_the_script_how_to_sort() -> None:
    columns = (Column("run", kind="text"), Column("AP", precision=1, hint="mean"), Column("bar", kind="chart"))
    rows = (("<b>", Cell(1.23456, bold=True, below="[1, 2]", class_="h1"), tag("svg")), (tag("i", "x"), None, Markup()))
    page = html(Table("A & B", columns, rows), class_="wide", sortable=True)
    assert page.startswith('<table class="wide"><caption>A &amp; B</caption>')
    assert '<th scope="row">&lt;b&gt;</th>' in page
    assert '<th scope="row"><i>x</i></th>' in page
    assert '<td class="num lead h1" data-value="1.2346">1.2<span class="interval">[1, 2]</span></td>' in page
    assert '<td class="num" data-value="-1000000000.0">–</td>' in page
    assert '<td class="plot"><svg></svg></td>' in page
    assert page.count("<button") == 2  # charts cannot be sorted


def test_the_best_are_those_that_look_alike() -> None:
    column = Column("AP", precision=1)
    bold = [isinstance(cell, Cell) and cell.bold for cell in best([41.26, 41.31, None, 40.0, float("nan")], column)]
    assert bold == [True, True, False, False, False]
    assert best([41.26], column) == [41.26]  # nothing to be better than
    assert [Cell.of(cell).bold for cell in best([2.0, 1.0], column, low=True)] == [False, True]


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"table 'T': a row has 2 cells, not 1"):
        Table("T", (Column("a"),), ((1, 2),))


def test_a_column_is_added_to_rows_and_not_to_headings() -> None:
    table = Table("", (Column("a"), Column("c")), ("heading", (1, 3))).with_column(1, Column("b"), [2])
    assert table.rows == ("heading", (1, 2, 3))
    assert [column.name for column in table.columns] == ["a", "b", "c"]
