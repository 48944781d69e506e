"""Text for LaTeX."""

_ESCAPES = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"} | {
    c: f"\\{c}" for c in "&%$#_{}"
}


def escape(text: str) -> str:
    r"""Text that LaTeX prints as it is.

    >>> print(escape("50 % of a_b"))
    50 \% of a\_b
    >>> print(escape("[1]"))  # the line break of the row before would take it for a length
    {}[1]
    """
    escaped = "".join(_ESCAPES.get(character, character) for character in text)
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
