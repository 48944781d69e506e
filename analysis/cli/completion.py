"""Completions of the values of options, for the Tab key in a shell."""

from collections.abc import Callable, Iterable


def one_of(*words: str) -> Callable[[str], list[str]]:
    """Offers words.

    >>> one_of("AP", "AP50", "AP75")("AP5")
    ['AP50']
    """

    def complete(incomplete: str) -> list[str]:
        return beginning(words, incomplete)

    return complete


def several_of(*words: str) -> Callable[[str], list[str]]:
    """Offers words with commas between them, each once.

    >>> several_of("class", "size", "iou")("class,s"), several_of("class", "size")("class,")
    (['class,size'], ['class,size'])
    """

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        left = [word for word in words if word not in before.split(",")]
        return [f"{before}{comma}{word}" for word in beginning(left, last)]

    return complete


def beginning(words: Iterable[str], incomplete: str) -> list[str]:
    """The words that begin so."""
    return [word for word in words if word.startswith(incomplete)]
