"""``analyze report`` as a person calls it."""

import base64
import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from analysis.coco.synthetic import write_example
from tests.analysis.report.pages import text_of, write_data
from tests.command_line import run


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Path]]:
    return write_data(tmp_path_factory.mktemp("data"))


def test_it_writes_one_file_and_says_what_it_lacks(data, tmp_path, monkeypatch, capsys) -> None:
    truth, images, files = data
    out = tmp_path / "new folder" / "page.html"
    named = [f"<one>={files[0]}", files[1]]
    arguments = ("--gt", truth, "--images", images, "--out", out, "--pictures", 24, "--title", "A <b> & c")
    assert run(monkeypatch, "analyze", "report", *named, *arguments, "--baseline", "second") == 0
    printed = capsys.readouterr()
    assert "1 of the required images are not in the image folder" in printed.err
    assert "1 of the required images cannot be read" in printed.err
    assert f"written to {out}: " in printed.out
    assert "examples in the gallery" in printed.out
    assert list(out.parent.iterdir()) == [out]
    said = " ".join(text_of(out.read_text()).split())
    assert said.startswith("A <b> & c")
    assert "Compared with second" in said
    assert "With only 6 images" in said


def test_without_images_and_without_intervals(data, tmp_path, monkeypatch) -> None:
    truth, _, files = data
    out = tmp_path / "page.html"
    assert run(monkeypatch, "analyze", "report", *files, "--gt", truth, "--out", out, "--resamples", 0) == 0
    page = out.read_text()
    assert "data:image" not in page
    said = " ".join(text_of(page).split())
    assert "No image folder was given" in said
    assert "it is not known which differences are significant" in said
    assert "Outcomes of the objects" in said


def test_eight_runs_and_tidecv(tmp_path, monkeypatch) -> None:
    truth, files = write_example(tmp_path / "example", images=30)
    named = [f"{name}-{number}={path}" for number in range(4) for name, path in files.items()]
    out = tmp_path / "page.html"
    arguments = ("--gt", truth, "--out", out, "--convention", "tidecv", "--pictures", 48)
    assert run(monkeypatch, "analyze", "report", *named, *arguments) == 0
    page = out.read_text()
    assert "tidecv convention" in page
    assert page.count('<li class="example"') == 48
    assert '<span class="badge r7" aria-hidden="true">H</span>' in page


def test_pictures_lie_in_a_folder_beside_the_page(data, tmp_path, monkeypatch, capsys) -> None:
    truth, images, files = data
    out, assets = tmp_path / "page.html", tmp_path / "its pictures" / 'ö"<b>'
    assets.mkdir(parents=True)
    (assets / "notes.txt").write_text("kept")
    arguments = ("--gt", truth, "--images", images, "--pictures", 24, "--resamples", 0, "--out", out)
    assert run(monkeypatch, "analyze", "report", *files, *arguments) == 0
    embedded = [base64.b64decode(text) for text in re.findall('src="data:image/jpeg;base64,([^"]+)"', out.read_text())]
    assert run(monkeypatch, "analyze", "report", *files, *arguments, "--assets", assets) == 0
    page = out.read_text()
    assert "data:image" not in page
    assert "img-src &#x27;self&#x27; file:;" in page
    addresses = re.findall(r'<img src="([^"]+)"', page)
    assert [(tmp_path / unquote(address)).read_bytes() for address in addresses] == embedded
    names = {Path(unquote(address)).name for address in addresses}
    assert {path.name for path in assets.iterdir()} == names | {"notes.txt"}
    assert all(re.fullmatch(r"[0-9a-f]{24}\.jpg", name) for name in names)
    assert f"{len(names)} pictures in {assets}" in capsys.readouterr().out
    before = {name: (assets / name).stat().st_mtime_ns for name in names}
    (assets / min(names)).write_bytes(b"cut")
    assert run(monkeypatch, "analyze", "report", *files, *arguments, "--assets", assets) == 0
    assert (assets / min(names)).read_bytes() in embedded
    assert {name: (assets / name).stat().st_mtime_ns for name in names - {min(names)}}.items() <= before.items()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["its pictures", "page.html"]


@pytest.mark.parametrize(
    ("assets", "code", "sentence"),
    [
        ("elsewhere", 4, "is not below the folder of the page"),
        ("site", 4, "is not below the folder of the page"),
        ("site/../elsewhere", 4, "such as site/page_pictures"),
        ("site/page.html", 4, "is a file, not a folder"),
        ("site/images/new", 4, "is in the image folder, to which nothing is written"),
    ],
)
def test_a_folder_of_pictures_that_cannot_be(data, tmp_path, monkeypatch, capsys, assets, code, sentence) -> None:
    truth, images, files = data
    monkeypatch.chdir(tmp_path)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "page.html").write_text("old")
    (tmp_path / "site" / "images").symlink_to(images)
    arguments = ("--gt", truth, "--images", "site/images", "--out", "site/page.html", "--assets", assets)
    assert run(monkeypatch, "analyze", "report", *files, *arguments) == code
    assert sentence in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "site" / "page.html").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["site"]


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["--assets", "pictures"], 2, "--assets needs --images"),
        (["--images", "nowhere"], 4, "nowhere: image folder not found"),
        (["--out", "."], 4, "is a folder; give the HTML file to write, such as report.html"),
        (["--baseline", "third"], 4, "baseline 'third' is not one of the runs; choose from first, second"),
        (["--iou", "2"], 2, "0 < --background-iou <= --iou <= 1"),
        (["--convention", "tidecv", "--resamples", "9"], 2, "intervals exist in the coco convention only"),
        (["--out", "gt/page.html"], 4, "cannot be written"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(data, arguments, code, sentence, tmp_path, monkeypatch, capsys) -> None:
    truth, _, files = data
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gt").write_text("a file where a folder should be")
    assert run(monkeypatch, "analyze", "report", *files, "--gt", truth, "--pictures", 6, *arguments) == code
    captured = capsys.readouterr()
    assert sentence in " ".join(captured.err.split())
    assert "Traceback" not in captured.err
    assert [path.name for path in tmp_path.iterdir()] == ["gt"]
