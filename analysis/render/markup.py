"""HTML and SVG from Python values: whatever is not markup already is escaped, here and nowhere else."""

import html
from collections.abc import Iterable


class Markup(str):
    """Text that is HTML already; made by :func:`tag` and :func:`join` alone."""

    __slots__ = ()


Child = Markup | str | float | None


def escaped(value: Child) -> Markup:
    """A value as HTML text; nothing for None."""
    if isinstance(value, Markup):
        return value
    return Markup("" if value is None else html.escape(str(value)))


def join(children: Iterable[Child]) -> Markup:
    """Children one after another.

    >>> join([tag("b", "1 < 2"), " & more"])
    '<b>1 &lt; 2</b> &amp; more'
    """
    return Markup("".join(map(escaped, children)))


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. ``class_`` is class, ``aria_label`` is aria-label; True is a bare attribute, None and False none.

    >>> tag("td", 'a "name" <b>', class_="num", data_run=1, hidden=True, title=None)
    '<td class="num" data-run="1" hidden>a &quot;name&quot; &lt;b&gt;</td>'
    >>> tag("line", x1="38.2%", stroke_width=2)
    '<line x1="38.2%" stroke-width="2"/>'
    """
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _EMPTY:
        return Markup(f"<{name}{written}{'/' if name in _SVG else ''}>")
    return Markup(f"<{name}{written}>{join(children)}</{name}>")


_SVG = frozenset({"circle", "line", "path", "polygon", "polyline", "rect"})
_EMPTY = frozenset({"br", "col", "hr", "img", "input", "meta", *_SVG})
