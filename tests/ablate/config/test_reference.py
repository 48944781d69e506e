"""The page of config keys is the schema's, and has every key."""

from pathlib import Path
from typing import Any

import msgspec

from ablate.config.reference import reference_page
from ablate.config.yaml import load_config, preset_names

PAGE = Path(__file__).parents[3] / "docs" / "config.md"


def keys(values: dict[str, Any], prefix: str = "") -> list[str]:
    return [
        key
        for name, value in values.items()
        for key in (keys(value, f"{prefix}{name}.") if isinstance(value, dict) and value else [f"{prefix}{name}"])
    ]


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text() == reference_page(), "to write it: python -m ablate.config.reference > docs/config.md"


def test_every_key_of_every_preset_is_there() -> None:
    page = reference_page()
    for name in preset_names():
        for key in keys(msgspec.to_builtins(load_config(name))):
            if not key.endswith(".type"):
                assert f"| `{key.replace('data.validation.', 'data.train.')}` |" in page, f"{key} of {name}"
