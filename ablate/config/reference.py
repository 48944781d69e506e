"""The page of all config keys, from the schema: ``python -m ablate.config.reference > docs/config.md``."""

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import inspect

from ablate.config.schema import Coco, Folder, Pretrain, RunConfig, Shapes

INTRODUCTION = """# Config keys

A config is a YAML file that decides everything about one run. `base:` names a preset or another file; the keys below
it replace those of the base ([own](own.md)). `--set train.lr=8e-5` sets any key on the command line. `detablate ablate
describe CONFIG` shows a config with all keys, parameters and multiply-adds; `detablate ablate new preset NAME` writes a
start file.

A key without a default must be set, in the file or in its base. `none` switches a feature off. The keys of `engine:
command` are described on [their own page](command.md). This page is generated from `ablate/config/schema.py`.
"""


def reference_page() -> str:
    """The page in Markdown: a table of keys of a run, of each type of backbone and data, and of pre-training."""
    groups, pretraining = ("model.backbone", "data.train", "data.validation"), "init.pretraining."
    backbone = next(one for one in _bare(_field(RunConfig, "model").type).fields if one.name == "backbone")
    parts = [
        INTRODUCTION,
        _section("A run", RunConfig, skip=groups),
        *(
            _section(f"`{groups[0]}` of type `{_tag(kind.cls)}`", kind.cls, f"{groups[0]}.")
            for kind in _bare(backbone.type).types
        ),
        *(
            _section(f"`{groups[1]}` and `{groups[2]}` of type `{_tag(cls)}`", cls, f"{groups[1]}.")
            for cls in (Shapes, Coco)
        ),
        _section(
            "`init.pretraining`: a masked autoencoder that is trained first",
            Pretrain,
            pretraining,
            skip=(f"{pretraining}images",),
        ),
        *(
            _section(f"`{pretraining}images` of type `{_tag(cls)}`", cls, f"{pretraining}images.")
            for cls in (Folder, Shapes)
        ),
    ]
    return "\n".join(parts)


def _tag(cls: Any) -> str:
    tag: str = cls.__struct_config__.tag
    return tag


def _field(cls: Any, name: str) -> Any:
    info: Any = inspect.type_info(cls)
    return next(field for field in info.fields if field.name == name)


def _section(title: str, cls: Any, prefix: str = "", skip: tuple[str, ...] = ()) -> str:
    lines = [f"## {title}", ""]
    about = (cls.__doc__ or "").strip().splitlines()[0]
    lines += [about, "", "| key | values | default | meaning |", "|---|---|---|---|"]
    for key, field in _keys(inspect.type_info(cls), prefix, skip):
        values, meaning = _values(field.type), _meaning(field.type)
        lines.append(f"| `{key}` | {values} | {_default(field)} | {meaning} |")
    return "\n".join(lines) + "\n"


def _keys(struct: Any, prefix: str, skip: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Every key below a struct but those to skip, its whole path, and its field."""
    for field in struct.fields:
        key, bare = f"{prefix}{field.name}", _bare(field.type)
        if key in skip:
            continue
        if isinstance(bare, inspect.StructType):
            yield from _keys(bare, f"{key}.", skip)
        elif field.required or _has_default(field):  # else an old spelling, which is read and never written
            yield key, field


def _has_default(field: Any) -> bool:
    return field.default is not msgspec.NODEFAULT or field.default_factory is not msgspec.NODEFAULT


def _bare(type_: Any) -> Any:
    return _bare(type_.type) if isinstance(type_, inspect.Metadata) else type_


def _meaning(type_: Any) -> str:
    found = ""
    while isinstance(type_, inspect.Metadata):
        found = (type_.extra_json_schema or {}).get("description", "") or found
        type_ = type_.type
    return found.replace("|", r"\|")


def _values(type_: Any) -> str:
    """The values that a key accepts, in words."""
    type_ = _bare(type_)
    if isinstance(type_, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in type_.values)
    if isinstance(type_, inspect.UnionType):
        words = [_values(one) for one in type_.types]
        return ", ".join(dict.fromkeys(sorted(words, key=lambda word: word.startswith("`"))))
    if isinstance(type_, inspect.BoolType):
        return "`true`, `false`"
    if isinstance(type_, inspect.IntType | inspect.FloatType):
        kind = "whole number" if isinstance(type_, inspect.IntType) else "number"
        return f"{kind}{_bounds(type_)}"
    if isinstance(type_, inspect.VarTupleType | inspect.ListType):
        return f"list of {_plural(_values(type_.item_type))}"
    if isinstance(type_, inspect.TupleType):
        return f"{len(type_.item_types)} {_plural(_values(type_.item_types[0]))}"
    others: dict[Any, str] = {inspect.StrType: "text", inspect.DictType: "mapping", inspect.StructType: "group of keys"}
    return others[type(type_)]


def _plural(words: str) -> str:
    return words.replace("number", "numbers", 1)


def _bounds(type_: Any) -> str:
    bounds = (("from", type_.ge), ("above", type_.gt), ("up to", type_.le), ("below", type_.lt))
    told = [f"{word} {value:,}" for word, value in bounds if value is not None and abs(value) < 2**32 - 1]
    return f" {' '.join(told)}" if told else ""


def _default(field: Any) -> str:
    if field.required:
        return ""
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return f"`{_spelled(value)}`"


def _spelled(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(map(_spelled, value))}]"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    print(reference_page(), end="")
