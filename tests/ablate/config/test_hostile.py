"""YAML that means harm, and names that YAML and Python must not read as anything but text."""

import ast
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ablate.config.yaml import load_config, parse_yaml, read_yaml, scalar, with_changes
from ablate.data.sources import Files
from ablate.engines.lazyconfig import Facts, lazyconfig_text
from analysis.exceptions import BadInput

LAUGHS = "\n".join(
    ["- &b0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]", *(f"- &b{n} [{', '.join([f'*b{n - 1}'] * 10)}]" for n in range(1, 12))]
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LAUGHS, "its aliases expand to more than 10,000 values"),
        ("&a [*a]", "an alias contains itself"),
        ("&a {b: {c: *a}}", "an alias contains itself"),
        ("? &a [*a]\n: 1", "an alias contains itself"),
        ("[" * 100_000, "nests lists or mappings too deep"),
        ("a: *b", "not valid YAML 1.2"),
        ("1" * 5000, "not valid YAML 1.2"),
    ],
)
def test_refused_within_a_second(text: str, words: str) -> None:
    began = time.process_time()
    with pytest.raises(BadInput, match=f"^x.yaml.*{words}"):
        parse_yaml(text, "x.yaml")
    assert time.process_time() - began < 1


def test_a_few_aliases_are_taken() -> None:
    assert parse_yaml("a: &a [1, 2]\nb: *a\nc: [*a, *a]", "x") == {"a": [1, 2], "b": [1, 2], "c": [[1, 2], [1, 2]]}
    assert parse_yaml("'*'", "x") == "*"
    assert parse_yaml("# *", "x") is None


@pytest.mark.parametrize("value", [10**400, -(10**400), "1e999", ".inf", "1" * 400])
def test_a_number_beyond_all_numbers_is_refused(value: object) -> None:
    with pytest.raises(BadInput, match=r"train\.lr: must be|the value of train\.lr"):
        load_config("tiny-shapes", [f"train.lr={value}"])


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_only_files_are_read(path: str) -> None:
    with pytest.raises(BadInput, match=r"is a (device|folder), not a file; name a YAML file"):
        read_yaml(Path(path))


def test_what_is_no_config_by_its_size_is_not_parsed(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**10)
    with pytest.raises(BadInput, match="is larger than 1,048,576 bytes, too large for a config"):
        read_yaml(path)


hostile = st.text(
    st.one_of(st.characters(), st.sampled_from("\"'\\\n\r\t\x00\x1b\x7f\x85\u2028\u2029\ufeff\ud800\udcff{}$#:*&`()")),
    max_size=40,
) | st.sampled_from(
    ['""" + __import__("os").system("touch owned") + """', "\\", '"""', "${oc.env:HOME}", "\\${a}", "{0}"]
)


@settings(max_examples=100, deadline=None)
@given(hostile)
def test_any_text_survives_yaml(text: str) -> None:
    written = scalar({text: [text]})
    written.encode()
    assert "\n" not in written
    assert parse_yaml(written, "x") == {text: [text]}


def strings(tree: ast.AST) -> Iterator[str]:
    """Every string of a module, in order, its own docstring first."""
    return (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))


def structure(tree: ast.AST) -> str:
    """A module without its strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            node.value = ""
    return ast.dump(tree)


@pytest.mark.parametrize("native", [False, True])
@settings(max_examples=15, deadline=None)
@given(hostile, hostile, hostile, hostile)
def test_an_exported_file_is_the_same_program_whatever_the_names(
    native: bool, name: str, annotations: str, images: str, weights: str
) -> None:
    changes = {
        "model.pyramid.type": "simple",
        "model.backbone.patch_size": 16,
        "model.backbone.position.relative": "none",
    }
    config = with_changes(load_config("vit-b-coco"), {**changes, "train.precision": "fp32", "train.clip_norm": "none"})

    def text(name: str, annotations: str, images: str, weights: str) -> str:
        files = Files(Path(annotations), Path(images))
        facts = Facts(train=files, validation=files, images=10, classes=2)
        return lazyconfig_text(config, facts, name, native=native, weights=weights)

    written = text(name, annotations, images, weights or "w")
    written.encode()
    found, plain = ast.parse(written), ast.parse(text("name", "annotations", "images", "w"))
    assert (ast.get_docstring(found, clean=False) or "").count(f"the run {name} of detablate")
    texts = list(strings(found))
    assert {str(Path(annotations)), str(Path(images))} <= {*texts}
    # OmegaConf reads \${ as ${, and an even number of backslashes before it as half as many.
    assert any(
        one.replace("\\${", "${").replace("\\\\", "\\") == (weights or "w").replace("\\\\", "\\") for one in texts
    )
    assert structure(found) == structure(plain)
