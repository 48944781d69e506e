"""The page in a real browser, without a window: it works by mouse and keys, asks the network nothing, runs no name."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from analysis import Settings, read_detections, read_ground_truth
from analysis.files import fill_folder
from analysis.report.report import build_report
from tests.analysis.report.pages import HOSTILE, write_data
from tests.analysis.report.watching import Watched, check_nothing_wrong, watch, write_page

pytestmark = pytest.mark.browser
ACTING = (  # names that would open a dialog or ask the network if they were taken for HTML, CSS or script
    "<svg onload=alert(1)>",
    "<style>@import url(http://127.0.0.1:9/a.css)</style>",
    "'-prompt(2)-'",
    "javascript:confirm(3)",
    "</textarea></select></title><iframe srcdoc='<script>parent.hacked=1</script>'>",
    "url(http://127.0.0.1:9/b.png)",
    "${alert(4)}`;alert(5);//",
)


def test_the_watch_sees_dialogs_requests_and_errors(browser: Any, tmp_path: Path) -> None:
    path = tmp_path / "bad.html"
    path.write_text("<img src='http://127.0.0.1:9/x.png'><script>alert('hey'); throw new Error('oh')</script>")
    found = watch(browser, path)
    found.page.close()
    assert "dialog: hey" in found.troubles
    assert any("oh" in trouble for trouble in found.troubles)
    assert "http://127.0.0.1:9/x.png" in found.requests


def test_names_that_would_act_are_text(browser: Any, tmp_path: Path) -> None:
    path = write_page(tmp_path / "acting", ACTING, ACTING[0], ACTING[1])
    found = watch(browser, path)
    page = found.page
    page.evaluate("""() => {
      for (const button of document.querySelectorAll("button")) {
        button.click();
        document.getElementById("viewer").close();
      }
    }""")
    shown = page.locator("#filter-class option").all_inner_texts()
    assert set(ACTING) <= set(shown)
    page.evaluate("localStorage.clear()")  # a theme was chosen, which pages from disk share
    check_nothing_wrong(found, path)


def test_pictures_of_a_folder_are_loaded_and_nothing_else(browser: Any, tmp_path: Path) -> None:
    truth, images, files = write_data(tmp_path / "data")
    gt = read_ground_truth(truth)
    folder, path = tmp_path / "it's % of #1?" / "pic <ö>", tmp_path / "it's % of #1?" / "page.html"
    report = build_report(
        gt, [(HOSTILE[0], read_detections(files[0], gt))], Settings(), images=images, assets=folder.name, pictures=12
    )
    fill_folder(folder, report.files)
    path.write_bytes(report.content)
    found = watch(browser, path)
    page = found.page
    page.evaluate("[...document.images].forEach((image) => { image.loading = 'eager'; })")
    page.wait_for_function("() => [...document.images].every((image) => image.complete && image.naturalWidth > 0)")
    loaded = {unquote(url.removeprefix("file://")) for url in found.requests} - {str(path)}
    assert loaded
    assert loaded <= {str(folder / name) for name in report.files}
    assert (
        page.evaluate("""() => new Promise((resolve) => {
      const image = new Image();
      image.onload = () => resolve("loaded");
      image.onerror = () => resolve("refused");
      image.src = "http://127.0.0.1:9/x.png";
    })""")
        == "refused"
    )
    assert any("Content Security Policy" in trouble for trouble in found.troubles)
    found.troubles.clear()
    assert page.evaluate("window.hacked") is None
    page.close()


def visible(page: Any) -> int:
    return int(page.locator(".example:visible").count())


def test_filters_show_what_they_say(watched: Watched) -> None:
    page = watched.page
    total = page.locator(".example").count()
    assert page.locator("#shown").inner_text() == f"{total} of {total} examples"
    page.select_option("#filter-error", "loc")
    assert {card.get_attribute("data-error") for card in page.locator(".example:visible").all()} == {"loc"}
    assert visible(page) == page.locator('.example[data-error="loc"]').count() > 0
    page.select_option("#filter-run", "1")
    assert visible(page) == page.locator('.example[data-error="loc"][data-run="1"]').count() > 0
    page.select_option("#filter-class", "4")
    shown = page.locator(".example:visible").all()
    assert shown
    assert all("4" in (card.get_attribute("data-class") or "").split() for card in shown)
    assert page.locator("#shown").inner_text() == f"{len(shown)} of {total} examples"
    page.select_option("#filter-error", "")
    page.select_option("#filter-run", "")
    page.select_option("#filter-class", "")
    assert visible(page) < total
    page.locator(".more:visible").first.click()
    assert page.locator(".group").first.locator(".example:visible").count() > 8


def test_an_example_is_enlarged_and_walked_through_by_keys(watched: Watched) -> None:
    page = watched.page
    first = page.locator(".example .open").first
    first.focus()
    page.keyboard.press("Enter")
    viewer = page.locator("#viewer")
    assert viewer.is_visible()
    begin = page.locator("#place").inner_text()
    assert begin.startswith("1 of ")
    said = page.locator("#large .view").get_attribute("aria-label")
    page.keyboard.press("ArrowRight")
    assert page.locator("#place").inner_text().startswith("2 of ")
    assert page.locator("#large .view").get_attribute("aria-label") != said
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    last = begin.removeprefix("1 of ")
    assert page.locator("#place").inner_text() == f"{last} of {last}"
    page.keyboard.press("Escape")
    assert not viewer.is_visible()
    assert first.evaluate("element => element === document.activeElement")


def test_boxes_lie_on_their_pictures_and_can_be_hidden(watched: Watched) -> None:
    page = watched.page
    card = page.locator('.example[data-error="cls"]:has(img)').first
    card.scroll_into_view_if_needed()
    image = card.locator("img").element_handle()
    page.wait_for_function("image => image.complete && image.naturalWidth > 0", arg=image)
    picture, drawing = card.locator(".view").bounding_box(), card.locator(".overlay").bounding_box()
    assert picture == drawing
    found = card.locator(".overlay .found rect").bounding_box()
    assert picture["x"] <= found["x"] < found["x"] + found["width"] <= picture["x"] + picture["width"]
    page.locator("#show-marks").uncheck()
    assert not card.locator(".overlay").is_visible()
    page.locator("#show-marks").check()
    page.locator("#show-others").uncheck()
    assert not card.locator(".overlay .other").is_visible()
    assert card.locator(".overlay .found").last.is_visible()


def test_tabs_and_columns_by_keys(watched: Watched) -> None:
    page = watched.page
    page.locator("#classes-tab-0").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#classes-tab-1").get_attribute("aria-selected") == "true"
    assert page.locator("#classes-panel-1").is_visible()
    assert not page.locator("#classes-panel-0").is_visible()
    head = page.locator("#classes-panel-1 .sort", has_text="Objects")
    for direction, reverse in (("descending", True), ("ascending", False)):
        head.press("Enter")
        assert page.locator("#classes-panel-1 th[aria-sort]").get_attribute("aria-sort") == direction
        values = [int(cell.inner_text()) for cell in page.locator("#classes-panel-1 tbody td:nth-child(2)").all()]
        assert values == sorted(values, reverse=reverse)
    page.locator("#classes-panel-1 .sort", has_text="Class").click()
    names = page.locator("#classes-panel-1 tbody th").all_inner_texts()
    assert set(map(str.strip, names)) == {" ".join(name.split()) for name in HOSTILE}


def test_curves_of_a_class_replace_the_mean(watched: Watched) -> None:
    page = watched.page
    line = page.locator("#curve-figures polyline").first
    mean = line.get_attribute("points")
    page.select_option("#curve-category", label="plain")
    assert line.get_attribute("points") != mean
    assert "plain" in page.locator("#curve-figures figcaption").first.inner_text()
    page.select_option("#curve-category", "")
    assert line.get_attribute("points") == mean


def test_the_theme_follows_the_system_until_it_is_chosen(watched: Watched) -> None:
    page = watched.page
    ground = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    page.emulate_media(color_scheme="dark")
    dark = page.evaluate(ground)
    assert light != dark
    page.locator("#theme").click()
    assert (page.locator("#theme").inner_text(), page.evaluate(ground)) == ("Theme: light", light)
    page.locator("#theme").click()
    assert page.evaluate(ground) == dark
    page.reload()
    assert page.locator("#theme").inner_text() == "Theme: dark"
    page.locator("#theme").click()


@pytest.mark.parametrize("width", [320, 390, 1280])
def test_no_width_makes_the_page_scroll_sideways(watched: Watched, width: int) -> None:
    page = watched.page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_it_prints_and_has_its_picture_taken(watched: Watched, tmp_path: Path) -> None:
    page = watched.page
    page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert (tmp_path / "page.png").stat().st_size > 50_000
    page.pdf(path=tmp_path / "page.pdf", format="A4")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_without_a_script_everything_is_still_there(browser: Any, file: Path) -> None:
    bare = browser.browser.new_context(java_script_enabled=False) if browser.browser else None
    if bare is None:
        pytest.skip("a persistent context hands out no other one")
    page = bare.new_page()
    page.goto(file.as_uri())
    assert page.locator(".example:visible").count() == page.locator(".example").count()
    assert page.locator("#classes-panel-2").is_visible()
    bare.close()
