"""Checks of a model's arguments, which raise ValueError with one sentence."""

from collections.abc import Sequence


def require(condition: bool, sentence: str) -> None:
    """Raise ValueError with the sentence if the condition does not hold."""
    if not condition:
        raise ValueError(sentence)


def check_choice(kind: str, value: str, choices: Sequence[str]) -> None:
    """Raise ValueError if a setting is not one of its choices."""
    require(value in choices, f"{kind} {value!r} is unknown; choose one of {', '.join(choices)}")
