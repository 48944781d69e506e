"""What prediction files are called when nobody names them."""

from pathlib import Path

import pytest

from analysis.evaluation.analysis import name_runs
from analysis.exceptions import BadInput


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        (["dt.json"], ["dt"]),
        (["a/dt.json.gz", "b/vit.json"], ["dt", "vit"]),
        (["out/r50/coco_instances_results.json", "out/vit/coco_instances_results.json"], ["r50", "vit"]),
        (["r50/inference/dt.json", "vit/inference/dt.json"], ["r50", "vit"]),
        (["x/a/dt.json", "x/b/dt.json", "y/a/dt.json"], ["x/a/dt", "x/b/dt", "y/a/dt"]),
        (["/data/dt.json", "dt2.json"], ["dt", "dt2"]),
        (["baseline=a/dt.json", "b/dt.json"], ["baseline", "dt"]),
        (["../a/dt.json", "../../a/dt.json"], None),
    ],
)
def test_names(arguments, names):
    if names is None:
        with pytest.raises(BadInput, match="give names"):
            name_runs(arguments)
    else:
        assert [name for name, _ in name_runs(arguments)] == names


def test_a_file_whose_name_has_an_equals_sign_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("lr=0.1", "lr=0.2"):
        Path(folder).mkdir()
        Path(folder, "dt.json").write_text("[]")
    paths = [Path("lr=0.1/dt.json"), Path("lr=0.2/dt.json")]
    assert name_runs([str(path) for path in paths]) == list(zip(["lr=0.1", "lr=0.2"], paths, strict=True))


def test_the_same_name_twice_is_refused():
    with pytest.raises(BadInput, match="have the same name 'a'"):
        name_runs(["a=x.json", "a=y.json"])
