"""The page as a file: what it holds, that names stay names, that nothing in it may load or run."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from analysis import Detections, Settings, read_detections, read_ground_truth
from analysis.evaluation.ap_evaluation import coco_metrics
from analysis.evaluation.error_types import ERRORS
from analysis.report.charts import FRAME, PlotLine, curves
from analysis.report.report import Report, build_report
from analysis.report.report_data import find_alike
from tests.analysis.cases import found, object_, read
from tests.analysis.report.pages import HOSTILE, text_of, write_data


class Elements(HTMLParser):
    """Every tag with its attributes, and that all are closed in order."""

    VOID = frozenset({"meta", "img", "input", "br", "hr", "col"})

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} is closed where it was not open"


def elements(page: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Elements()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser.found


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    return write_data(tmp_path_factory.mktemp("data"))


def build(data: tuple[Path, Path, list[Path]], *, iou_type: str = "bbox", pictures: int = 60) -> Report:
    truth, images, files = data
    gt = read_ground_truth(truth)
    runs = [(f"run {n} <b>", read_detections(path, gt)) for n, path in enumerate(files)]
    return build_report(gt, runs, Settings(iou_type), title="A & <B>", images=images, pictures=pictures)


@pytest.fixture(scope="module")
def page(data: tuple[Path, Path, list[Path]]) -> str:
    return build(data).content.decode()


def test_names_are_text_and_nothing_else(page: str) -> None:
    assert "hacked" in text_of(page)
    for name in HOSTILE[:3]:
        assert name not in re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL)
    tags = elements(page)
    assert [attributes.get("type") for tag, attributes in tags if tag == "script"] == ["application/json", None]
    assert not any(name.startswith("on") or name == "style" for _, attributes in tags for name in attributes)
    images = [attributes for tag, attributes in tags if tag == "img"]
    assert images
    assert all((image["src"] or "").startswith("data:image/jpeg;base64,") for image in images)
    said = text_of(page)
    assert all(name in said for name in HOSTILE)


def test_the_data_of_the_script_cannot_end_its_element(page: str) -> None:
    (content,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, flags=re.DOTALL)
    assert "<" not in content
    assert list(json.loads(content)["categories"].values()) == list(HOSTILE)


def test_the_policy_lets_this_script_and_this_style_run_and_nothing_else(page: str) -> None:
    tags = elements(page)
    (policy,) = [a["content"] or "" for tag, a in tags if a.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives.keys() == {"default-src", "img-src", "style-src", "script-src", "base-uri", "form-action"}
    assert directives["default-src"] == directives["base-uri"] == directives["form-action"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert directives[directive] == f"'sha256-{digest}'"


def test_nothing_points_outside(page: str) -> None:
    for tag, attributes in elements(page):
        for name in ("src", "href", "xlink:href", "action", "srcset", "poster", "data"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/jpeg")), (tag, attributes)
    assert not re.search(r"url\(|@import|https?://", page)


def test_ids_are_unique_and_references_lead_somewhere(page: str) -> None:
    tags = elements(page)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in tags:
        for name in ("aria-labelledby", "aria-controls"):
            assert attributes.get(name) is None or attributes[name] in ids
        if (attributes.get("href") or "").startswith("#"):
            assert (attributes["href"] or "")[1:] in ids


def test_every_type_of_error_is_drawn_with_what_it_points_at(page: str) -> None:
    cards = re.findall(r'<li class="example".*?</li>', page, flags=re.DOTALL)
    assert {re.search(r'data-error="(\w+)"', card)[1] for card in cards} == set(ERRORS)  # type: ignore[index]
    for card in cards:
        error = re.search(r'data-error="(\w+)"', card)[1]  # type: ignore[index]
        assert ('class="found"' in card) == (error != "miss")
        assert ('class="object"' in card) == (error in ("cls", "loc", "dup", "miss"))
        assert ('class="winner"' in card) == (error == "dup")
        assert re.search(r'aria-label="Enlarge: [^"]*costs (?:under |no |)[\d.]*\s?AP50', card)


def test_what_cannot_be_shown_is_counted(data: tuple[Path, Path, list[Path]]) -> None:
    report = build(data)
    assert [(one.cause, one.images) for one in report.not_shown] == [
        ("are not in the image folder", 1),
        ("cannot be read", 1),
    ]
    said = text_of(report.content.decode())
    assert "1 of the required images are not in the image folder: only boxes are shown" in said
    assert "1 of the required images cannot be read" in said
    assert "picture missing" in said


def test_masks_are_outlines(data: tuple[Path, Path, list[Path]]) -> None:
    page = build(data, iou_type="segm").content.decode()
    cards = "".join(re.findall(r'<li class="example".*?</li>', page, flags=re.DOTALL))
    assert re.search(r'<g class="found"><path d="M[\d ,.]+z" fill-rule="evenodd"/>', cards)
    assert "<rect" not in cards


def test_the_same_input_gives_the_same_bytes(data: tuple[Path, Path, list[Path]]) -> None:
    assert build(data).content == build(data).content


def test_numbers_are_those_of_the_breakdown(data: tuple[Path, Path, list[Path]], page: str) -> None:
    from analysis import break_down

    truth, _, files = data
    gt = read_ground_truth(truth)
    said = " ".join(text_of(page).split())
    for path in files:
        breakdown = break_down(gt, read_detections(path, gt))
        for error in ERRORS:
            assert re.search(rf"{breakdown.delta_ap[error]:.2f} \d+/{breakdown.count[error]}\b", said)
        assert f"{breakdown.ap:.1f}" in said


def test_all_twelve_numbers_of_coco(tmp_path: Path) -> None:
    boxes = [[10, 10, 20, 20], [40, 40, 40, 40], [90, 90, 100, 100]]  # small, medium, large
    gt, dt = read(tmp_path, [object_(1, box) for box in boxes], [found(1, box, 0.9) for box in boxes[:2]])
    page = build_report(gt, [("only", dt)], Settings()).content.decode()
    table = page[page.index("AP of each run") :].partition("</table>")[0]
    heads = re.findall(r'<th scope="col" class="num"[^>]*>([^<]*)</th>', table)
    numbers = re.findall(r'<td class="num[^>]*>([^<]*)<', table)
    expected = coco_metrics(gt, dt)
    assert len(expected) == 12
    assert dict(zip(heads, numbers, strict=True)) == {
        **{name: f"{value:.1f}" for name, value in expected.items()},
        "Detections": "2",
    }


def test_the_confusion_matrix_is_in_the_order_of_the_costliest_pairs(page: str) -> None:
    section = page[page.index('id="confusion-panel-0"') : page.index('id="confusion-panel-1"')]
    listed, matrix = section.split('class="matrix"')
    pairs = re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td>', listed)
    assert len(pairs) > 2
    in_order = list(dict.fromkeys(name for pair in pairs for name in pair))
    rows = re.findall(r'<th scope="row">(.*?)</th>', matrix)
    assert rows[: len(in_order)] == in_order
    heads = re.findall(r'<span class="upright">(.*?)</span>', matrix)
    assert [" ".join(head.split()) for head in heads] == [" ".join(row.split()) for row in rows]


def test_runs_with_the_same_predictions_share_their_examples(data: tuple[Path, Path, list[Path]]) -> None:
    truth, _, files = data
    gt = read_ground_truth(truth)
    runs = [(name, read_detections(files[name == "other"], gt)) for name in ("one", "other", "again")]
    page = build_report(gt, runs, Settings(), pictures=48).content.decode()
    cards = re.findall(r'<li class="example"[^>]*data-run="([^"]*)".*?</li>', page, flags=re.DOTALL)
    assert set(cards) == {"0 2", "1"}
    assert cards.count("0 2") > 12  # four of each type: the pictures are shared by two runs, not by three
    said = " ".join(text_of(page).split())
    assert "again: identical to one; the gallery shows their examples once" in said
    alone = build_report(gt, runs[:2], Settings(), pictures=48).content.decode()
    assert alone.count('<li class="example"') == len(cards)


def test_alike_are_equal_masks_where_masks_are_compared(tmp_path: Path) -> None:
    def mask(size: int) -> list[list[int]]:
        return [[10, 10, 10 + size, 10, 10 + size, 50, 10, 50]]

    gt = read(tmp_path, [object_(1, [10, 10, 40, 40], segmentation=mask(40))], [])[0]
    one, other = (
        Detections.from_records([found(1, [10, 10, 40, 40], 0.9, segmentation=mask(size))], gt) for size in (40, 30)
    )
    assert find_alike([one, other, one], "bbox") == [0, 0, 0]
    assert find_alike([one, other, one], "segm") == [0, 1, 0]


BOX, FAR = [10, 10, 40, 40], [120, 120, 30, 30]


@pytest.mark.parametrize(
    ("objects", "results", "says"),
    [
        ([object_(1, BOX)], [found(1, BOX, 0.9)], "There are no errors to show."),
        ([object_(1, BOX)], [found(1, FAR, 0.9)], "no object annotated here"),
        ([object_(1, BOX)], [], "Never detected"),
        ([], [found(1, FAR, 0.9)], "No annotated object counts"),
        ([], [], "There are no errors to show."),
    ],
)
def test_one_image_all_right_all_wrong_nothing(
    tmp_path: Path, objects: list[dict[str, object]], results: list[dict[str, object]], says: str
) -> None:
    gt, dt = read(tmp_path, objects, results)
    page = build_report(gt, [("only", dt)], Settings()).content.decode()
    elements(page)
    assert says.lower() in " ".join(text_of(page).split()).lower()
    assert not re.search(r"\bnan\b|\binf\b", re.sub(r"<script.*|<style.*?</style>", "", page, flags=re.DOTALL).lower())


def test_a_class_that_nothing_detects_and_one_without_objects(tmp_path: Path) -> None:
    gt, dt = read(tmp_path, [object_(1, BOX), object_(2, FAR)], [found(1, BOX, 0.9)], categories=3)
    said = " ".join(text_of(build_report(gt, [("only", dt)], Settings()).content.decode()).split())
    assert "Never detected: category 2" in said
    assert "1 classes have no object in this ground truth" not in said
    assert "1 class has no object in this ground truth" in said


def test_intervals_are_whiskers_and_brackets_and_differences_lines(data: tuple[Path, Path, list[Path]]) -> None:
    from analysis.render.comparison import interval_text
    from analysis.stats.compare import Candidate, compare

    truth, _, files = data
    gt = read_ground_truth(truth)
    runs = [(path.stem, read_detections(path, gt)) for path in files]
    page = build_report(gt, runs, Settings(), resamples=400, pictures=0).content.decode()
    expected = compare(gt, [Candidate(name, (dt,)) for name, dt in runs], resamples=400)
    said = text_of(page)
    for known in expected.vs_baseline[0].differences.values():
        assert interval_text(known, sign=True) in said
    for candidate in expected.candidates:
        for name in ("AP", "AP50", *ERRORS):
            known = candidate.numbers[name]
            assert f"[{known.low:.1f}, {known.high:.1f}]" in said
    assert page.count('class="whisker"') == 3 * (1 + 8) * 2  # AP and eight errors of two runs, three lines each
    assert page.count('class="reach"') >= len(expected.numbers)


def test_the_letter_of_a_run_stands_at_its_threshold() -> None:
    score = np.linspace(0, 1, 101)
    lines = [PlotLine(0, score, score, mark=0.25), PlotLine(1, 1 - score, score, mark=0.75)]
    found = elements(str(curves(lines, label="F1", x_title="score", y_title="F1")))
    left, _, right, _ = FRAME
    places = [float(attributes["cx"] or 0) for tag, attributes in found if tag == "circle"]
    assert places == pytest.approx([left + 0.25 * (right - left), left + 0.75 * (right - left)], abs=0.1)


def test_the_names_of_runs_keep_their_letters(data: tuple[Path, Path, list[Path]]) -> None:
    text = " ".join(text_of(build(data, pictures=0).content.decode()).split())
    assert "F1 minus run 0 <b>" in text
