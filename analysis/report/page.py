"""The page itself: one HTML file that loads nothing, or nothing but its own pictures from the folder beside it."""

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import msgspec

from analysis.render.markup import Markup, escaped, join, tag


@dataclass(frozen=True)
class Section:
    """A part of the page with an entry in its contents."""

    anchor: str
    entry: str  # in the contents, a word
    title: str
    body: Markup


def page(
    title: str,
    heading: Markup,
    sections: Sequence[Section],
    data: Mapping[str, Any],
    footer: Markup,
    *,
    has_assets: bool = False,
) -> bytes:
    """The whole file.

    The Content-Security-Policy lets exactly one script and one style sheet run, those of this project, by their
    hashes; everything else, from the network or written into the page by a hostile name, is refused by the browser.

    Args:
        title: of the window.
        heading: what stands at the top.
        sections: in their order.
        data: what the script reads, as JSON.
        footer: what stands at the end.
        has_assets: whether pictures are files beside the page, which may then load images from where it lies itself.
    """
    style, script = _file("page.css"), _file("page.js")
    pictures = "'self' file:" if has_assets else "data:"  # not every browser takes a file's own folder for 'self'
    parts = {
        "policy": escaped(
            f"default-src 'none'; img-src {pictures}; style-src {_hash(style)}; script-src {_hash(script)}; "
            "base-uri 'none'; form-action 'none'"
        ),
        "title": escaped(title),
        "style": Markup(style),
        "script": Markup(script),
        "heading": heading,
        "contents": join(tag("li", tag("a", one.entry, href=f"#{one.anchor}")) for one in sections),
        "sections": join(
            tag("section", tag("h2", one.title, id=f"{one.anchor}-title"), one.body,
                id=one.anchor, aria_labelledby=f"{one.anchor}-title")
            for one in sections
        ),
        "data": Markup(_harmless_json(data)),
        "footer": footer,
    }  # fmt: skip
    return re.sub(r"\{\{ *(\w+) *\}\}", lambda place: parts[place[1]], _file("page.html")).encode()


def _file(name: str) -> str:
    return (files("analysis.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _harmless_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in, whatever the names in it."""
    text = msgspec.json.encode(data).decode()
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
