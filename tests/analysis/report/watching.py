"""A report opened in a browser, and what goes wrong on it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from analysis import Settings, read_detections, read_ground_truth
from analysis.report.report import build_report
from tests.analysis.report.pages import write_data

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@dataclass
class Watched:
    """A page and what went wrong on it."""

    page: Any
    troubles: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


def write_page(folder: Path, names: tuple[str, ...], run: str, title: str) -> Path:
    truth, images, files = write_data(folder, names)
    gt = read_ground_truth(truth)
    runs = [(name, read_detections(path, gt)) for name, path in zip((run, "b"), files, strict=True)]
    report = build_report(gt, runs, Settings(), title=title, images=images, pictures=240)
    path = folder / "report.html"
    path.write_bytes(report.content)
    return path


def watch(browser: Any, file: Path) -> Watched:
    """Open a page from disk, and note what goes wrong on it: errors, dialogs, other windows."""
    found = Watched(browser.new_page())
    page = found.page

    def refuse(dialog: Any) -> None:
        found.troubles.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("console", lambda message: found.troubles.append(message.text) if message.type != "log" else None)
    page.on("pageerror", lambda error: found.troubles.append(str(error)))
    page.on("dialog", refuse)
    page.on("popup", lambda popup: found.troubles.append(f"window: {popup.url}"))
    page.on("request", lambda request: found.requests.append(request.url))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(file.as_uri())
    return found


def check_nothing_wrong(found: Watched, file: Path) -> None:
    assert found.page.evaluate("window.hacked") is None
    found.page.close()
    assert found.troubles == []
    assert {url for url in found.requests if not url.startswith("data:image/jpeg")} == {file.as_uri()}
