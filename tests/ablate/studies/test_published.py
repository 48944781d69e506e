"""The shipped numbers: every one has a source, a variant that exists, and none of what is only remembered."""

import pytest

from ablate.axes import AXES, AxisOptions
from ablate.config.backbone import SIZES
from ablate.config.yaml import load_config
from ablate.studies.published import (
    COCO_VALIDATION,
    Finding,
    findings_of,
    is_of,
    matches,
    published_folder,
    published_of,
)

FILES = sorted(path.stem for path in published_folder().glob("*.yaml"))


@pytest.mark.parametrize("axis", FILES)
def test_every_number_has_its_source_and_a_place(axis: str) -> None:
    known = {variant.name for variant in AXES[axis].variants(load_config("vit-b-coco"), AxisOptions())}
    known |= {"supervised IN-21K"} if axis == "init" else set()  # of other weights than the axis has by default
    found = findings_of(axis)
    assert found
    for finding in found:
        assert finding.variant in known, finding
        assert "arXiv" in finding.source or "github.com" in finding.source or "model zoo" in finding.source
        assert finding.size in (*SIZES, "resnet-50", "resnet-101")
        assert finding.out_of_memory or 30 < (finding.box_ap or 0) < 60
        assert finding.mask_ap is None or finding.mask_ap < (finding.box_ap or 0)
    assert len(set(found)) == len(found)


def test_numbers_that_nobody_verified_are_not_shipped() -> None:
    tables = {(f.variant, f.size, f.source): f.box_ap for f in findings_of("attention") if "Table 3" in f.source}
    assert not any("checkpointed" in variant for variant, _, _ in tables)
    assert all(f.mask_ap is None for f in findings_of("init") if f.variant == "random" and "Table 1" in f.source)
    assert {f.box_ap for f in findings_of("position") if f.init == "BEiT"} == {49.8, 53.3}
    derived = {(axis, f.variant, f.size, f.box_ap) for axis in FILES for f in findings_of(axis) if f.derived}
    assert derived == {
        ("scale", "single-scale", "vit-l", 52.0),
        ("position", "rel zero, abs pt", "vit-b", 50.1),
        ("position", "rel none, abs pt", "vit-b", 49.9),
    }
    assert findings_of("head") == ()
    assert findings_of("no such axis") == ()


def test_numbers_stand_by_the_source_that_has_them() -> None:
    """As read in the sources: an author's comment, a caption, ViTDet's ablations and its Table 3."""
    by_length = {f.variant: (f.box_ap, f.mask_ap) for f in findings_of("schedule") if "mae, issue 43" in f.source}
    assert by_length == {"25 epochs": (48.1, 43.2), "50 epochs": (50.1, 44.6), "100 epochs": (50.3, 44.9)}
    resnet = [f for axis in FILES for f in findings_of(axis) if f.size == "resnet-101" and "2111.11429" in f.source]
    assert {(f.box_ap, f.source) for f in resnet} == {(48.9, "arXiv 2111.11429, Table 5 (caption) and section 4.2")}
    larger = {f.size: (f.box_ap, f.mask_ap) for f in findings_of("init") if f.variant == "supervised IN-21K"}
    assert larger == {"vit-b": (47.8, 42.6), "vit-l": (50.6, 44.8)}
    costs = {one.variant: (one.training_memory, one.test_time) for one in published_of("attention").costs}
    assert costs == {"window": (1.0, 1.0), "hybrid": (1.39, 1.16), "global": (3.34, 1.86)}
    estimated = [
        one.variant for one in published_of("attention").costs if "estimated, without checkpointing" in one.note
    ]
    assert estimated == ["global"]


def test_the_cautions_of_the_sources_stand_with_their_numbers() -> None:
    init = " ".join(published_of("init").cautions)
    assert "every initialisation at its own best schedule" in init
    assert "BEiT: its tokenizer was trained on other data" in init
    for axis in FILES:
        cautions = " ".join(published_of(axis).cautions)
        assert ("BEiT" in cautions) == any(f.init == "BEiT" for f in findings_of(axis))
        assert ("best schedule" in cautions) == any(f.note == "its best schedule" for f in findings_of(axis))


@pytest.mark.parametrize(
    "difference",
    [{"size": "vit-l"}, {"init": "MAE"}, {"epochs": 100.0}, {"epochs": None}, {"schedule": "step"}, {"schedule": ""}],
)
def test_one_difference_is_enough_to_stand_apart(difference: dict[str, object]) -> None:
    config = load_config("vit-b-coco")
    same = {"variant": "x", "size": "vit-b", "source": "s", "init": "random", "epochs": 200.0, "schedule": "cosine"}
    assert matches(Finding(**same), config, COCO_VALIDATION)  # type: ignore[arg-type]
    assert not matches(Finding(**{**same, **difference}), config, COCO_VALIDATION)  # type: ignore[arg-type]
    assert not matches(Finding(**same), config, (206, 1000))  # type: ignore[arg-type]
    assert not matches(Finding(**same), load_config("tiny-shapes"), COCO_VALIDATION)  # type: ignore[arg-type]


def test_a_run_from_weights_stands_beside_its_own_initialisation() -> None:
    config = load_config("vit-b-coco", ["train.epochs=100", "train.lr=8e-5"])
    mae = next(f for f in findings_of("init") if f.variant == "MAE" and f.epochs == 100)
    assert mae.box_ap == 50.3
    assert matches(mae, config, COCO_VALIDATION, "MAE")
    for other in ("random", "BEiT", ""):
        assert not matches(mae, config, COCO_VALIDATION, other)


def test_a_study_of_several_initialisations_names_them_first() -> None:
    row = next(f for f in findings_of("position") if f.init == "MAE" and f.variant == "rel none, abs pt")
    assert is_of(row, "rel none, abs pt")
    assert is_of(row, "MAE, rel none, abs pt")
    assert not is_of(row, "BEiT, rel none, abs pt")
