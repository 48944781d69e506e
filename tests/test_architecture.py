"""The picture of the packages in docs/architecture.md is what the code imports."""

import re
from pathlib import Path

import grimp

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
ROW = re.compile(
    r"^(?P<package>(?P<top>ablate|analysis)\.\w+) *(?:<- (?P<own>[\w, ]*))?(?:; analysis: (?P<others>.*))?$", re.M
)


def package_of(module: str) -> str:
    """``ablate.runs`` for ``ablate.runs.folder``."""
    return ".".join(module.split(".")[:2])


def imports_of_the_code() -> dict[str, set[str]]:
    """What each package imports from, lazy and type-checking imports included; all may import the exceptions."""
    graph = grimp.build_graph("ablate", "analysis", cache_dir=None)
    found: dict[str, set[str]] = {package_of(module): set() for module in graph.modules if "." in module}
    for module in graph.modules:
        if "." in module:
            found[package_of(module)] |= {
                package_of(other) for other in graph.find_modules_directly_imported_by(module)
            }
    return {package: imports - {package, "analysis.exceptions"} for package, imports in found.items()}


def picture() -> dict[str, set[str]]:
    """The imports that the page shows, by package, in its order from the top."""
    block = PAGE.read_text(encoding="utf-8").split("<!-- packages -->")[1]
    shown: dict[str, set[str]] = {}
    for row in ROW.finditer(block):
        own = {f"{row['top']}.{name.strip()}" for name in (row["own"] or "").split(",") if name.strip()}
        others = {name.strip() for name in (row["others"] or "").split(",") if name.strip()}
        shown[row["package"]] = own | {
            "analysis" if name == "(its interface)" else f"analysis.{name}" for name in others
        }
    return shown


def test_the_picture_shows_every_package_and_every_import() -> None:
    assert picture() == imports_of_the_code()


def test_a_package_stands_above_what_it_imports() -> None:
    order = list(picture())
    for package, imports in imports_of_the_code().items():
        for other in imports - {"analysis"}:
            assert order.index(package) < order.index(other), f"{package} imports {other}, which stands above it"


def test_every_file_that_the_page_names_is_there() -> None:
    root = PAGE.parent.parent
    named = set(re.findall(r"`((?:ablate|analysis|docs|tests|benchmarks|configs|results)/[\w./-]+)`", PAGE.read_text()))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (root / name).exists()] == []
