"""Run configs as text: YAML 1.2 in and out, presets, ``base:`` and dotted changes.

A config file is a short diff: ``base:`` names a preset or another file (relative to this one), and every key below it
replaces the base's. A mapping of another kind than the base's (a backbone or a data set of another ``type``)
replaces it whole. Everything wrong becomes a ``BadInput`` of one sentence that names the file, the key and the valid
choices.

The presets lie in ``configs/base`` of a source tree, and in ``ablate/presets`` of an installed package.

ruamel.yaml parses. Writing is done here: ruamel's round-trip types write ``8.0e-05`` for 8e-5, quote with single
quotes, and place comments by absolute columns, so the same text would take more code with them than without.
"""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ablate.config.foreign import NOTHING, AnyConfig, CommandConfig
from ablate.config.schema import Data, Part, RunConfig
from analysis.exceptions import BadInput
from analysis.files import NotAFile, read_whole

_PACKAGE = Path(__file__).resolve().parents[1]


def presets_folder() -> Path:
    """The folder of the presets, absolute and without links, whatever the working directory."""
    installed = _PACKAGE / "presets"
    return installed if installed.is_dir() else _PACKAGE.parent / "configs" / "base"


def preset_names() -> tuple[str, ...]:
    """The names that ``base:`` and the command line accept, sorted."""
    return tuple(sorted(path.stem for path in presets_folder().glob("*.yaml")))


P = TypeVar("P", bound=Part)
Tree = dict[str, Any]
PLAIN = r"[A-Za-z][\w./+ -]*[\w+]|[A-Za-z]"  # text that needs no quotes, unless YAML reads something else in it
UNPRINTABLE = re.compile("[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
MOST_BYTES = 2**20  # of a YAML file; the parser takes ten seconds for as many
TOO_DEEP = re.compile(r"(?:[\[{]\s*){100}")
MOST_VALUES = 10_000  # that the aliases of a document may expand to
PATH_KEYS = ("annotations", "images", "path", "limit_list")  # of a data set
RUNS_COMMANDS = "ablate vary and ablate run"


def load_config(source: str | Path, changes: Sequence[str] = (), data: Data | None = None) -> RunConfig:
    """The config of a preset's name or a YAML file, with ``changes`` such as ``train.lr=8e-5`` on top.

    The sets of ``data`` take the place of the file's; what the file says of their use stays.

    Relative paths of data and weights count from the file that holds them; in presets, by name or by path, and in
    changes, from the current directory.
    """
    tree = _with_base(*_locate(str(source), Path()), seen=())
    if tree.get("engine") == "command":
        raise BadInput(f"{source}: is a command of your own (engine: command), which only {RUNS_COMMANDS} accept")
    if data is not None:
        sets = {"data.train": as_given(data.train), "data.validation": as_given(data.validation)}
        tree = changed(tree, sets.items())
    return parse(changed(tree, map(parse_change, changes)), RunConfig, str(source))


def load_any_config(source: str | Path, changes: Sequence[str] = ()) -> RunConfig | CommandConfig:
    """As `load_config`, of a detector of ours or of a command; parameters of the latter need no ``parameters.``."""
    tree = _with_base(*_locate(str(source), Path()), seen=())
    if tree.get("engine") != "command":
        if "command" in tree:
            raise BadInput(f"{source}: has the key `command`, so write engine: command, not {tree.get('engine')!r}")
        return load_config(source, changes)
    return with_changes(parse(tree, CommandConfig, str(source)), dict(map(parse_change, changes)))


def config_files(source: str | Path) -> list[Path]:
    """The file of a config that can be loaded, and those to which its ``base:`` leads, one after the other."""
    found: list[Path] = []
    base: object = str(source)
    folder = Path()
    while isinstance(base, str):
        path, _ = _locate(base, folder)
        found.append(path)
        base, folder = read_yaml(path).get("base"), path.resolve().parent
    return found


def parse_change(change: str) -> tuple[str, Any]:
    """The dotted key and the value of ``key=value``."""
    key, sign, text = (part.strip() for part in change.partition("="))
    if not sign or not key:
        raise BadInput(f"'{change}' is not a change: write KEY=VALUE, for example train.lr=8e-5")
    return key, parse_yaml(text, f"the value of {key}")


C = TypeVar("C", bound=RunConfig | CommandConfig)


def with_changes(config: C, changes: Mapping[str, object]) -> C:
    """``config`` with dotted keys set to parsed values, for example ``{"model.backbone.attention.window_size": 7}``."""
    items = [(key_of(config, key), value) for key, value in changes.items()]
    return parse(changed(msgspec.to_builtins(config), items), type(config), "the changed config")


def key_of(config: AnyConfig, name: str) -> str:
    """The dotted key that a name means in a config; parameters of a command need no ``parameters.`` before them.

    Raises:
        BadInput: it may mean two things.
    """
    try:
        return config.key_of(name) if isinstance(config, CommandConfig) else name
    except ValueError as error:
        raise BadInput(str(error)) from None


def parse_yaml(text: str, where: str) -> Any:
    """The value of a YAML 1.2 document; ``where`` names it in a refusal."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    # The pure loader: the C one knows YAML 1.1 alone, in which `no` is false and `8e-5` a string.
    loader = YAML(typ="safe", pure=True)
    loader.version = (1, 2)
    try:
        if TOO_DEEP.search(text):  # the parser would take seconds to find that out
            raise RecursionError
        if "*" in text:  # there may be aliases
            _check_aliases(loader.compose(text), where)
        return loader.load(text)
    except RecursionError:
        raise BadInput(f"{where}: nests lists or mappings too deep; write it flat") from None
    except (YAMLError, ValueError, ArithmeticError, TypeError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        detail = " ".join(str(getattr(error, "problem", None) or error).split())[:200]
        raise BadInput(f"{where}{line}: not valid YAML 1.2: {detail}") from None


def _check_aliases(root: Any, where: str) -> None:
    """Refuse aliases that lead back to themselves, or that stand for more than `MOST_VALUES` values in all.

    Args:
        root: of ruamel's nodes, in which an alias is the same node again.
        where: names the document in the refusal.
    """
    sizes: dict[int, int] = {}  # by node; 0 while its own parts are counted

    def size_of(node: Any) -> int:
        known = sizes.get(id(node))
        if known == 0:
            raise BadInput(f"{where}: an alias contains itself; write the values out")
        if known is None:
            sizes[id(node)] = 0
            children = node.value if isinstance(node.value, list) else []
            parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
            known = sizes[id(node)] = min(1 + sum(map(size_of, parts)), MOST_VALUES + 1)
        return known

    if root is not None and size_of(root) > MOST_VALUES:
        raise BadInput(f"{where}: its aliases expand to more than {MOST_VALUES:,} values; write the values out")


def read_yaml(path: Path) -> Tree:
    """The mapping in a YAML file.

    Raises:
        BadInput: it cannot be read, is no text or too large for a config, or holds something else.
    """
    try:
        content = read_whole(path, MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise BadInput(f"{path}: is larger than {MOST_BYTES:,} bytes, too large for a config; check the path")
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: is not UTF-8 text") from None
    except NotAFile as error:
        raise BadInput(f"{path}: {error.strerror}; name a YAML file") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror or error})") from None
    tree = parse_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise BadInput(f"{path}: must be a mapping of keys to values, not {_kind(tree)}")
    return tree


def parse(tree: object, into: type[P], where: str) -> P:
    """``tree`` (plain values) as a config part; ``where`` names its origin in a refusal."""
    _check_keys(tree, msgspec.inspect.type_info(into), "", where)
    try:
        return msgspec.convert(tree, into)
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        key = path.removesuffix("`").removeprefix(".")
        choices = _choices(tree, into, key) if message.startswith(("Invalid enum", "Expected")) else ""
        raise BadInput(f"{where}: {key + ': ' if key else ''}{choices or message}") from None


def as_given(source: Part) -> Tree:
    """A data set without the limits that it does not set, so that those of a config stay."""
    values: Tree = msgspec.to_builtins(source)
    return {key: value for key, value in values.items() if not (key.startswith("limit") and value in ("all", "none"))}


def merge(base: Tree, changes: Tree) -> Tree:
    """``base`` with ``changes`` on top, mapping by mapping; one of another kind replaces a mapping whole.

    The old spelling of a limit becomes the new one, so that the last of the two that is set counts.
    """
    if "images" in changes and changes.get("type", base.get("type")) == "shapes" and "limit" not in changes:
        changes = {"limit" if key == "images" else key: value for key, value in changes.items()}
    return base | {
        key: merge(base[key], value) if _are_of_one_kind(base.get(key), value) else value
        for key, value in changes.items()
    }


def _are_of_one_kind(old: object, new: object) -> bool:
    """Whether two mappings have the same keys: those of equal ``type``, except that a pyramid's is a mere setting."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return False
    return "type" not in old or new.get("type", old["type"]) == old["type"] or old["type"] not in _kinds()


@cache
def _kinds() -> frozenset[str]:
    """Every ``type`` of parts that have different fields."""
    waiting = _structs(msgspec.inspect.type_info(RunConfig))
    for struct in waiting:  # which grows on the way
        waiting += [inner for field in struct.fields for inner in _structs(field.type)]
    return frozenset(str(struct.tag) for struct in waiting if struct.tag is not None)


def dump_config(config: Part) -> str:
    """``config`` as commented YAML, every field written out; the same config always gives the same text."""
    return "".join(line + "\n" for line in _lines(config, ""))


def _lines(part: Part, indent: str) -> Iterator[str]:
    if part.__struct_config__.tag is not None:
        yield f"{indent}{part.__struct_config__.tag_field}: {part.__struct_config__.tag}"
    info = msgspec.inspect.type_info(type(part))
    assert isinstance(info, msgspec.inspect.StructType)
    for field in info.fields:
        value = getattr(part, field.name)
        if isinstance(value, Part):
            yield f"{indent}{field.name}:"
            yield from _lines(value, indent + "  ")
        else:
            if value is msgspec.UNSET:
                continue  # an old spelling
            about = (getattr(field.type, "extra_json_schema", None) or {}).get("description")
            yield f"{indent}{field.name}: {scalar(msgspec.to_builtins(value))}" + (f"  # {about}" if about else "")


def scalar(value: object) -> str:
    """A value as YAML 1.2 in one line.

    >>> scalar({"lr": 8e-5, "name": "window", "path": "/data/a b", "betas": (0.9, 0.999)})
    '{lr: 8e-5, name: window, path: "/data/a b", betas: [0.9, 0.999]}'
    """
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {scalar(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(scalar, value)) + "]"
    if isinstance(value, float):
        return re.sub(r"e([+-])0+", r"e\1", json.dumps(value))
    if isinstance(value, str) and re.fullmatch(PLAIN, value, re.ASCII) and parse_yaml(value, "a value") == value:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _locate(source: str, folder: Path) -> tuple[Path, bool]:
    """The file behind a name or path, and whether it is a preset."""
    path = folder / Path(source).expanduser()
    if path.is_file():
        return path, path.resolve().parent == presets_folder()
    if source in preset_names():
        return presets_folder() / f"{source}.yaml", True
    hint = "".join(f"; did you mean {near}?" for near in difflib.get_close_matches(source, preset_names(), n=1))
    raise BadInput(f"{source}: neither a file nor a preset (presets: {', '.join(preset_names())}){hint}")


def _with_base(path: Path, is_preset: bool, seen: tuple[Path, ...]) -> Tree:
    place = path.resolve()
    if place in seen:
        raise BadInput(f"{path}: base refers back to itself through {' -> '.join(str(other) for other in seen)}")
    tree = read_yaml(path)
    base = tree.pop("base", None)
    if not is_preset:
        anchor_command(tree, place.parent)
        anchor_weights(tree, place.parent)
        init = tree.get("init")
        for sources in (tree.get("data"), init.get("pretraining") if isinstance(init, dict) else None):
            anchor_data(sources, place.parent)
    if base is None:
        return tree
    if not isinstance(base, str):
        raise BadInput(f"{path}: base: must be a preset's name or a path, not {_kind(base)}")
    return merge(_with_base(*_locate(base, place.parent), (*seen, place)), tree)


def anchor_data(tree: object, folder: Path) -> None:
    """Makes the relative paths of data sets absolute, in place; a word such as ``all`` in their place is none.

    Args:
        tree: names to data sets, such as ``train`` and ``validation``; anything else is left as it is.
        folder: from which the paths count.
    """
    for source in tree.values() if isinstance(tree, dict) else ():
        for key in PATH_KEYS if isinstance(source, dict) else ():
            is_count = source.get(key) == "all" and source.get("type", "shapes") == "shapes"
            is_word = is_count or (key == "limit_list" and source.get(key) in ("", NOTHING))
            if isinstance(source.get(key), str) and not is_word:
                source[key] = str(folder / Path(source[key]).expanduser())


def anchor_weights(tree: Tree, folder: Path) -> None:
    """Makes a relative path of initial weights absolute, in place; the key may be dotted, as in the file of an axis."""
    for mapping, key in ((tree.get("init"), "weights"), (tree, "init.weights")):
        if isinstance(mapping, dict) and isinstance(path := mapping.get(key), str) and path not in ("", "none"):
            mapping[key] = str(folder / Path(path).expanduser())


def anchor_command(tree: Tree, folder: Path) -> None:
    """Makes the relative paths of a command's config absolute, in place; the file that names the engine gives its cwd.

    Args:
        tree: of a config.
        folder: from which the paths count.
    """
    if tree.get("engine") == "command":
        tree.setdefault("cwd", ".")
    if isinstance(tree.get("cwd"), str):
        tree["cwd"] = str(folder / Path(tree["cwd"]).expanduser())
    if isinstance(python := tree.get("python"), str) and python != NOTHING and "/" in python:
        tree["python"] = str(folder / Path(python).expanduser())
    if isinstance(sources := tree.get("sources"), list):
        tree["sources"] = [str(folder / Path(one).expanduser()) if isinstance(one, str) else one for one in sources]
    if isinstance(validation := tree.get("validation"), dict):
        if "annotations" in validation:
            validation.setdefault("type", "coco")
        anchor_data({"validation": validation}, folder)


def changed(tree: Tree, changes: Iterable[tuple[str, object]]) -> Tree:
    """``tree`` with dotted keys set, one after the other; ``tree`` itself stays."""
    for key, value in changes:
        branch: Any = value
        for part in reversed(key.split(".")):
            branch = {part: branch}
        tree = merge(tree, branch)
    return tree


def _unwrap(kind: msgspec.inspect.Type) -> msgspec.inspect.Type:
    return _unwrap(kind.type) if isinstance(kind, msgspec.inspect.Metadata) else kind


def _alternatives(kind: msgspec.inspect.Type) -> tuple[msgspec.inspect.Type, ...]:
    kind = _unwrap(kind)
    return tuple(map(_unwrap, kind.types)) if isinstance(kind, msgspec.inspect.UnionType) else (kind,)


def _structs(kind: msgspec.inspect.Type) -> list[msgspec.inspect.StructType]:
    return [part for part in _alternatives(kind) if isinstance(part, msgspec.inspect.StructType)]


def _check_keys(tree: object, kind: msgspec.inspect.Type, key: str, where: str) -> None:
    """Refuses unknown and missing keys with the valid ones, infinite numbers and keys that are no strings."""
    if isinstance(tree, float) and tree - tree != 0:
        raise BadInput(f"{where}: {key}: must be a finite number")
    if isinstance(tree, int) and abs(tree) >= 2**64:
        raise BadInput(f"{where}: {key}: must be a number of at most 64 bits")
    for item in tree if isinstance(tree, list) else ():
        _check_keys(item, msgspec.inspect.AnyType(), key, where)
    structs = _structs(kind)
    if not structs or (not isinstance(tree, dict) and len(structs) < len(_alternatives(kind))):
        return  # or a word in place of the mapping, such as none: the conversion finds whether it is a valid one
    if not isinstance(tree, dict):
        raise BadInput(f"{where}: {key or 'the top level'}: must be a mapping of keys to values, not {_kind(tree)}")
    struct, prefix = structs[0], f"{key}." if key else ""
    if struct.tag is not None:
        tags = [str(part.tag) for part in structs]
        if tree.get("type") not in tags:
            given = f"not {tree['type']}" if "type" in tree else "and is missing"
            raise BadInput(f"{where}: {prefix}type: must be one of {', '.join(tags)}, {given}")
        struct = structs[tags.index(tree["type"])]
    valid = ["type"] * (struct.tag is not None)
    valid += [field.encode_name for field in struct.fields if not _is_old_spelling(field)]
    for name in tree:
        if name not in valid and not any(name == field.encode_name for field in struct.fields):
            near = difflib.get_close_matches(str(name), valid, n=1) or ([] if key else _full_keys(kind, str(name)))
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise BadInput(f"{where}: {prefix}{name}: unknown key; {hint}valid here: {', '.join(valid)}")
    for field in struct.fields:
        if field.encode_name in tree:
            _check_keys(tree[field.encode_name], field.type, prefix + field.encode_name, where)
        elif field.required:
            raise BadInput(f"{where}: {prefix}{field.encode_name}: is missing and has no default")


def _full_keys(kind: msgspec.inspect.Type, last: str, prefix: str = "") -> list[str]:
    """The dotted keys of a config whose last part is this word, such as ``train.lr`` for ``lr``."""
    found: dict[str, None] = {}
    for struct in _structs(kind):
        for field in struct.fields:
            if field.encode_name == last and not _is_old_spelling(field):
                found[prefix + last] = None
            found |= dict.fromkeys(_full_keys(field.type, last, f"{prefix}{field.encode_name}."))
    return list(found)


def _is_old_spelling(field: msgspec.inspect.Field) -> bool:
    """Whether a field is read and never written: neither required nor with a default, which is UNSET."""
    return not field.required and field.default is field.default_factory is msgspec.NODEFAULT


def _choices(tree: object, into: type[Part], key: str) -> str:
    """The values that a field accepts, and the one it was given, as a clause; empty if there is no such field."""
    kind: msgspec.inspect.Type = msgspec.inspect.type_info(into)
    for step in re.findall(r"[^.\[\]]+", key):
        if step == "...":
            break
        if isinstance(tree, dict):
            struct = next((part for part in _structs(kind) if part.tag in (None, tree.get("type"))), None)
            if struct is None:
                return ""
            kind = next(field.type for field in struct.fields if field.encode_name == step)
            tree = tree[step]
    if "[...]" in key and isinstance(_unwrap(kind), msgspec.inspect.DictType):
        return ""  # of which of its values, msgspec does not tell
    return f"must be {' or '.join(_takes(part) for part in _alternatives(kind))}, not {_kind(tree)}"


def _takes(kind: msgspec.inspect.Type) -> str:
    kind = _unwrap(kind)
    if isinstance(kind, msgspec.inspect.LiteralType):
        return "one of " + ", ".join(map(str, kind.values)) if len(kind.values) > 1 else str(kind.values[0])
    if isinstance(kind, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        limits = [
            f"{word} {limit}"
            for word, limit in (("above", kind.gt), ("at least", kind.ge), ("below", kind.lt), ("at most", kind.le))
            if limit is not None
        ]
        noun = "a whole number" if isinstance(kind, msgspec.inspect.IntType) else "a number"
        return " ".join([noun, " and ".join(limits)]) if limits else noun
    if isinstance(kind, msgspec.inspect.VarTupleType):
        return f"a list, each {_takes(kind.item_type)}"
    if isinstance(kind, msgspec.inspect.TupleType):
        return f"a list of {len(kind.item_types)}, each {_takes(kind.item_types[0])}"
    return {msgspec.inspect.BoolType: "true or false", msgspec.inspect.StrType: "text"}.get(type(kind), "a mapping")


def _kind(value: object) -> str:
    if value is None:
        return "nothing (write none)"
    if isinstance(value, dict):
        return "a mapping"
    return str(value).lower() if isinstance(value, bool) else repr(value)
