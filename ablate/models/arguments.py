"""Checks of a model's arguments; what does not fit ends in a ValueError of one sentence."""

from collections.abc import Sequence


def require(condition: bool, sentence: str) -> None:
    """Raises ValueError with the sentence where the condition does not hold."""
    if not condition:
        raise ValueError(sentence)


def check_choice(kind: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError where a setting is none of its choices."""
    require(value in choices, f"{kind} {value!r} is unknown; choose one of {', '.join(choices)}")
