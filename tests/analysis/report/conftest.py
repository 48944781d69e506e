"""One browser, and one report of two runs with hostile names, for all tests of the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analysis.report import categories
from tests.analysis.report.pages import HOSTILE
from tests.analysis.report.watching import FLAGS, Watched, check_nothing_wrong, watch, write_page


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A browser with an empty profile."""
    driver = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    with driver.sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            tmp_path_factory.mktemp("profile"), executable_path=found, headless=True, args=list(FLAGS)
        )
        yield context
        context.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two runs with hostile names, whose few classes can be searched as many are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(categories, "LONG", len(HOSTILE))
        return write_page(tmp_path_factory.mktemp("röot with space"), HOSTILE, HOSTILE[0], HOSTILE[1])


@pytest.fixture
def watched(browser: Any, file: Path) -> Iterator[Watched]:
    """The report, opened from disk; afterwards nothing may have gone wrong."""
    found = watch(browser, file)
    yield found
    check_nothing_wrong(found, file)
