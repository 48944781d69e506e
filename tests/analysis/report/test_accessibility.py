"""The page against axe-core's rules, in both themes, on a screen and on a phone; it takes a copy of axe-core."""

import os
from pathlib import Path
from typing import Any

import pytest

AXE = "DETABLATE_AXE"  # names axe.min.js, as `npm install axe-core` leaves it in node_modules/axe-core
SCRIPT = Path(os.environ.get(AXE, "axe.min.js"))
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not SCRIPT.is_file(), reason=f"no axe-core: {AXE} names no axe.min.js (npm install axe-core)"),
]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_no_rule_is_violated(browser: Any, file: Path, theme: str) -> None:
    page = browser.new_page()
    page.emulate_media(color_scheme=theme)
    page.goto(file.as_uri())
    page.evaluate(SCRIPT.read_text(encoding="utf-8"))  # as the debugger, past the page's policy
    for width in (390, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        found = page.evaluate("axe.run({ resultTypes: ['violations'] })")["violations"]
        assert [(one["id"], [node["target"] for node in one["nodes"]]) for one in found] == []
    page.close()
