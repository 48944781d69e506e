"""The picture of the packages in docs/architecture.md is what the code imports."""

import re
from pathlib import Path

import grimp

PAGE = Path(__file__).parent.parent / "docs" / "architecture.md"
ROW = re.compile(r"^(?P<package>(?:ablate|analysis)(?:\.\w+)?) +(?:<- +(?P<imports>.*))?$", re.MULTILINE)


def package_of(module: str) -> str:
    """``ablate.runs`` for ``ablate.runs.folder``."""
    return ".".join(module.split(".")[:2])


def imports_of_the_code() -> dict[str, set[str]]:
    """The packages that each package imports from, lazy and type-checking imports included."""
    graph = grimp.build_graph("ablate", "analysis", cache_dir=None)
    found: dict[str, set[str]] = {package_of(module): set() for module in graph.modules if "." in module}
    for module in graph.modules:
        if "." in module:
            mine = package_of(module)
            found[mine] |= {package_of(other) for other in graph.find_modules_directly_imported_by(module)} - {mine}
    return found


def test_the_picture_shows_every_package_and_every_import() -> None:
    picture = PAGE.read_text(encoding="utf-8").split("<!-- packages -->")[1]
    shown = {
        row["package"]: {name.strip() for name in (row["imports"] or "").split(",") if name.strip()}
        for row in ROW.finditer(picture)
    }
    assert shown == imports_of_the_code()


def test_a_package_stands_above_what_it_imports() -> None:
    picture = PAGE.read_text(encoding="utf-8").split("<!-- packages -->")[1]
    order = [row["package"] for row in ROW.finditer(picture)]
    for package, imports in imports_of_the_code().items():
        for other in imports - {"analysis", "ablate"}:
            assert order.index(package) < order.index(other), f"{package} imports {other}, which stands above it"
