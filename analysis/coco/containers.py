"""Find the list of records in a prediction file, and the names of images and categories around it."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from analysis.exceptions import BadInput
from analysis.io import decode_any, is_list

RESULT_KEYS = ("annotations", "predictions", "results", "detections")  # under which tools write the list
OTHER_TABLES = ("images", "categories", "licenses", "videos")
_OBJECT_DECODER = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ANY_DECODER = msgspec.json.Decoder()
_WHOLE = re.compile(r"-?\d{1,18}")
_RECORDS = re.compile(rb"\s*\[\s*(?P<first>.)")


@dataclass(frozen=True)
class Container:
    """What a prediction file holds.

    Attributes:
        records: the list of records, as JSON.
        file_names: of the images, by the text of their ids in this file, where it lists its images.
        category_names: by their ids in this file, where it lists its categories.
    """

    records: bytes
    file_names: Mapping[str, str]
    category_names: Mapping[int, str]


def open_container(path: Path, content: bytes) -> Container:
    """Find the list of records: the document itself, the only such list of a JSON object, or one record on each line.

    Raises:
        BadInput: there is none, or there are several.
    """
    if is_list(content):
        return Container(content, {}, {})
    lines = _lines(content)
    if lines:
        return Container(b"[" + b",".join(lines) + b"]", {}, {})
    fields = _fields(path, content)
    key = _key_of_records(path, fields)
    categories = _names(path, "categories", fields.get("categories", b""), "name")
    return Container(
        fields[key],
        _names(path, "images", fields.get("images", b""), "file_name"),
        {int(one): name for one, name in categories.items() if _WHOLE.fullmatch(one)},
    )


def _lines(content: bytes) -> list[bytes]:
    """The records that stand one on a line; none where the content is something else."""
    first, _, rest = content.lstrip().partition(b"\n")
    try:
        record = json.loads(first)  # also with NaN
    except (ValueError, RecursionError):
        return []
    if not isinstance(record, dict) or not (rest.strip() or {"image_id", "score"} <= record.keys()):
        return []
    return [line for line in content.splitlines() if line.strip()]


def _fields(path: Path, content: bytes) -> dict[str, bytes]:
    """The values of a JSON object, undecoded."""
    try:
        return {key: bytes(value) for key, value in _OBJECT_DECODER.decode(content).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        document = decode_any(path, content)
    if not isinstance(document, dict):
        kind = {str: "text", type(None): "null"}.get(type(document), "number")
        raise BadInput(f"{path}: is a single {kind}, but predictions are a list of records (a COCO results file)")
    return {key: json.dumps(value).encode() for key, value in document.items()}  # NaN as it was written


def _key_of_records(path: Path, fields: Mapping[str, bytes]) -> str:
    """The key of the one list of records."""
    if {"images", "annotations"} <= fields.keys() and b'"score"' not in fields["annotations"]:
        raise BadInput(
            f"{path}: is a COCO ground truth document, not predictions (its annotations have no score); give it with "
            "--gt, and the detector's results list here"
        )
    found = []
    for key, value in fields.items():
        start = _RECORDS.match(value)
        if (
            start
            and key not in OTHER_TABLES
            and (start["first"] == b"{" or (key in RESULT_KEYS and start["first"] == b"]"))
        ):
            found.append(key)
    if len(found) == 1:
        return found[0]
    if found:
        raise BadInput(
            f"{path}: is a JSON object with several lists of records ({', '.join(found[:5])}); write the list of "
            "predictions to a separate file"
        )
    raise BadInput(
        f"{path}: is a JSON object with {', '.join(list(fields)[:5]) or 'nothing'}, but predictions are a list of "
        "records (a COCO results file)"
    )


def _names(path: Path, table: str, content: bytes, key: str) -> dict[str, str]:
    """The names in a table of records by the texts of their ids; entries without a name are left out.

    Raises:
        BadInput: an id has two names.
    """
    try:
        records = _ANY_DECODER.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    names: dict[str, str] = {}
    for record in records if isinstance(records, list) else []:
        if not isinstance(record, dict) or not isinstance(record.get(key), str):
            continue
        value = record.get("id")
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int | str) and names.setdefault(str(value), record[key]) != record[key]:
            raise BadInput(
                f"{path}: id {value!r} of the {table} has two names, {names[str(value)]!r} and {record[key]!r}; write "
                "one name for each"
            )
    return names
