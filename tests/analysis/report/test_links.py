"""Numbers lead to their pictures, and an address holds what was chosen; in a real browser."""

from pathlib import Path
from typing import Any

import pytest

from tests.analysis.report.pages import HOSTILE
from tests.analysis.report.watching import Watched, check_nothing_wrong, watch

pytestmark = pytest.mark.browser
HOSTILE_ADDRESSES = (
    "#gallery?error=<svg onload=alert(1)>&run=99&class=-1&from=abc&to=1e999",
    "#gallery?classes=length&confusion=__proto__&sort0=99down&sort1=constructor&curve=<b>&example=../x",
    "#%3Cscript%3Ealert(1)%3C/script%3E?error=loc%00&%%%&=&&&__proto__=1&from=%ff",
    "#javascript:alert(1)?run=javascript:alert(1)",
    "#?",
)


def shown(page: Any) -> list[dict[str, str]]:
    """What the visible cards say of themselves."""
    found: list[dict[str, str]] = page.eval_on_selector_all(
        "li.example:not([hidden])", "cards => cards.map((card) => ({ id: card.id, ...card.dataset }))"
    )
    return found


def test_a_number_leads_to_its_pictures_and_back(watched: Watched) -> None:
    page = watched.page
    page.locator("#classes-tab-2").click()
    links = page.locator("#classes-panel-2 a.pictures")
    hrefs = links.evaluate_all("links => links.map((link) => link.getAttribute('href'))")
    assert "#gallery?run=1&error=loc&class=4" in hrefs
    link = page.locator('#classes-panel-2 a[href="#gallery?run=1&error=loc&class=4"]')
    before = link.inner_text()
    link.click()
    cards = shown(page)
    assert cards
    assert all(card["error"] == "loc" and card["run"] == "1" and "4" in card["class"].split() for card in cards)
    assert page.locator("#shown").inner_text().startswith(f"{len(cards)} of ")
    assert 0 <= page.locator("#gallery").bounding_box()["y"] < 200
    assert page.evaluate("document.activeElement.className") == "open"
    page.go_back()
    page.wait_for_function("!location.hash.includes('error')")
    assert link.inner_text() == before
    assert 0 <= link.bounding_box()["y"] < 900
    assert page.locator("#clear").is_hidden()


def test_every_link_leads_to_some_picture(watched: Watched) -> None:
    page = watched.page
    found = page.evaluate("""async () => {
      const found = [];
      for (const hash of new Set([...document.querySelectorAll("a.pictures")].map((link) => link.hash))) {
        const arrived = new Promise((resolve) => addEventListener("hashchange", resolve, { once: true }));
        location.hash = hash;
        await arrived;
        found.push([hash, parseInt(document.getElementById("shown").textContent)]);
      }
      return found;
    }""")
    assert len(found) > 20
    assert all(count > 0 for _, count in found), found


def test_an_address_holds_what_was_chosen(watched: Watched, browser: Any, file: Path) -> None:
    page = watched.page
    page.select_option("#filter-error", "bg")
    page.fill("#filter-from", "0.42")
    page.locator("#filter-from").blur()
    page.locator("#classes-tab-1").click()
    page.locator("#classes-panel-1 .sort", has_text="Objects").click()
    page.select_option("#curve-category", label="plain")
    page.locator(".example .open:visible").nth(1).click()
    other = watch(browser, file)
    other.page.goto("about:blank")
    other.page.goto(page.url)
    assert shown(other.page) == shown(page)
    assert all(card["error"] == "bg" and float(card["score"]) >= 0.42 for card in shown(page))
    for selector in ("#place", "#curve-figures figcaption >> nth=0", "#classes-panel-1 tbody tr >> nth=0"):
        assert other.page.locator(selector).inner_text() == page.locator(selector).inner_text()
    assert other.page.locator("#classes-tab-1").get_attribute("aria-selected") == "true"
    assert other.page.locator("#viewer").is_visible()
    other.requests = [url for url in other.requests if url.split("#")[0] != "about:blank"]
    other.requests = [url.split("#")[0] for url in other.requests]
    check_nothing_wrong(other, file)


def test_an_address_can_do_nothing_else(watched: Watched) -> None:
    page = watched.page
    total = page.locator(".example").count()
    for address in HOSTILE_ADDRESSES:
        page.evaluate("address => { location.hash = address; }", address)
        page.wait_for_timeout(50)
        assert page.locator("#filter-to").input_value() == ""
        assert page.locator("#shown").inner_text() == f"{total} of {total} examples"
        assert page.locator("#classes-panel-0").is_visible()
        assert not page.locator("#viewer").is_visible()


def test_scores_are_filtered(watched: Watched) -> None:
    page = watched.page
    every = page.eval_on_selector_all(".example", "cards => cards.map((card) => card.dataset.score)")
    page.fill("#filter-from", "0.5")
    page.fill("#filter-to", "0.7")
    page.locator("#filter-to").blur()
    fitting = sum(score is not None and 0.5 <= float(score) <= 0.7 for score in every)
    assert 0 < fitting < len(every)
    assert page.locator("#shown").inner_text() == f"{fitting} of {len(every)} examples"
    page.locator("#clear").click()
    assert page.locator("#shown").inner_text() == f"{len(every)} of {len(every)} examples"
    assert page.evaluate("location.hash") == "#gallery"


def test_a_print_holds_what_is_selected_away(watched: Watched) -> None:
    page = watched.page
    page.select_option("#filter-error", "loc")
    hidden = ".example[hidden], .panel[hidden], .group[hidden]"
    assert page.locator(hidden).count()
    page.emulate_media(media="print")
    assert page.locator(".example:visible").count() == page.locator(".example").count()
    assert page.locator(".panel:visible").count() == page.locator(".panel").count()
    assert not page.locator("#filters").is_visible()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("img[loading=lazy]").count() == 0
    page.emulate_media(media="screen")


def test_on_a_phone_the_contents_are_whole_and_wide_tables_say_so(watched: Watched) -> None:
    page = watched.page
    page.set_viewport_size({"width": 390, "height": 800})
    for link in page.locator(".top a").all():
        box = link.bounding_box()
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= 390
    box = page.locator("#summary .scroller").first
    page.wait_for_function("box => box.classList.contains('more-right')", arg=box.element_handle())
    assert "more-left" not in box.get_attribute("class")
    box.locator(".scroll").evaluate("region => { region.scrollLeft = region.scrollWidth; }")
    page.wait_for_function("box => !box.classList.contains('more-right')", arg=box.element_handle())
    assert "more-left" in box.get_attribute("class")
    page.set_viewport_size({"width": 1600, "height": 900})
    page.wait_for_function("box => !box.classList.contains('more-left')", arg=box.element_handle())
    assert box.locator(".scroll").get_attribute("tabindex") is None


def test_a_class_is_found_by_name_and_stays_in_the_address(watched: Watched) -> None:
    page = watched.page
    rows = "#classes-panel-{} tbody tr:visible"
    total = page.locator(rows.format(0)).count()
    page.fill("#find-class", " <SCRIPT>WINDOW.HACKED =")
    page.locator("#find-class").blur()
    assert page.locator(f"{rows.format(0)} th").all_inner_texts() == [HOSTILE[0]]
    assert page.locator("#found-classes").inner_text() == f"1 of {total} classes"
    page.locator("#classes-tab-1").click()
    assert page.locator(f"{rows.format(1)} th").all_inner_texts() == [HOSTILE[0]]
    page.reload()
    assert page.locator("#find-class").input_value() == " <SCRIPT>WINDOW.HACKED ="
    assert page.locator(rows.format(1)).count() == 1
    page.emulate_media(media="print")
    assert page.locator(rows.format(1)).count() == total
    page.emulate_media(media="screen")
