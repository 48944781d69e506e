"""Which image a detection is on: decided by all that the file says, and told; refused where it is contradictory."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from analysis import BadInput, Detections, GroundTruth, coco_metrics, native, read_detections, read_ground_truth
from tests.analysis.cases import Record, document, found, object_, write
from tests.shared_data import shared_case

IMAGES = 8
BOX = (10, 10, 12, 50)


def ground_truth(folder: Path, names: list[str], ids: list[Any] | None = None, **first: Any) -> GroundTruth:
    """One object an image, each at a place of its own."""
    ids = ids or list(range(len(names)))
    doc = document([object_(1, (10 + 9 * n, *BOX[1:]), i) for n, i in enumerate(ids)], images=ids)
    for image, name in zip(doc["images"], names, strict=True):
        image["file_name"] = name
    doc["images"][0].update(first)
    return read_ground_truth(write(folder / "gt.json", doc))


def detections(ids: list[Any], **more: list[Any]) -> list[Record]:
    """The object of each image, found exactly; the values of further fields by image."""
    return [
        found(1, (10 + 9 * n, *BOX[1:]), 0.9, i) | {key: values[n] for key, values in more.items()}
        for n, i in enumerate(ids)
    ]


def read(folder: Path, gt: GroundTruth, records: list[Record], **options: bool) -> Detections:
    return read_detections(write(folder / "dt.json", records), gt, **options)


NUMBERS = [f"{n:04d}.jpg" for n in (5, 14, 18, 3, 26, 31, 27, 7)]  # shuffled: ids are not the numbers
FRAMES = [f"frame_{n:04d}.jpg" for n in range(IMAGES)]

READINGS: list[tuple[str, list[str], Callable[[int, str], Any], str]] = [
    ("numbers of the stems", NUMBERS, lambda n, name: int(name[:4]), "numbers in the file names"),
    ("stems with zeros", NUMBERS, lambda n, name: name[:4], "file_name stems"),
    ("stems", FRAMES, lambda n, name: name[:-4], "file_name stems"),
    ("names", FRAMES, lambda n, name: name, "file names"),
    ("paths elsewhere", FRAMES, lambda n, name: f"/data/val/{name}", "file names"),
    ("paths of Windows", FRAMES, lambda n, name: f"D:\\val\\{name}", "file names"),
    ("another case", FRAMES, lambda n, name: name.upper(), "file names"),
    ("stems below folders", [f"a/{n}" for n in FRAMES], lambda n, name: name[2:-4], "file_name stems"),
    ("same names in two folders", [f"{n % 2}/{n // 2}.jpg" for n in range(IMAGES)], lambda n, name: f"x/{name}",
     "file_name paths"),
    ("backslashes in the ground truth", [f"a\\{n}" for n in FRAMES], lambda n, name: name.replace("\\", "/"),
     "file_name paths"),
    ("numbers and stems mixed", [*NUMBERS[:4], *FRAMES[:4]],
     lambda n, name: int(name[:4]) if name[:4].isdecimal() else name[:-4], "file_name stems"),
    ("ids as text", FRAMES, lambda n, name: str(n), "the ground truth's ids"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "identity", "note"), [case[1:] for case in READINGS], ids=[c[0] for c in READINGS])
def test_every_reading(names: list[str], identity: Callable[[int, str], Any], note: str, tmp_path: Path) -> None:
    gt = ground_truth(tmp_path, names)
    dt = read(tmp_path, gt, detections([identity(n, name) for n, name in enumerate(names)]))
    assert dt.image.tolist() == list(range(IMAGES))
    assert coco_metrics(gt, dt)["AP"] == pytest.approx(100)
    (warning,) = dt.warnings
    assert note in warning


def test_the_ground_truths_own_ids_need_no_note(tmp_path: Path) -> None:
    for names in (NUMBERS, FRAMES):
        dt = read(tmp_path, ground_truth(tmp_path, names), detections(list(range(IMAGES))))
        assert dt.image.tolist() == list(range(IMAGES))
        assert dt.warnings == ()
    dt = read(tmp_path, ground_truth(tmp_path, FRAMES), detections(list(range(IMAGES)), file_name=FRAMES))
    assert dt.warnings == ()


def test_text_ids_of_the_ground_truth_may_be_numbers_in_the_predictions(tmp_path: Path) -> None:
    gt = ground_truth(tmp_path, FRAMES, [str(n) for n in range(IMAGES)])
    dt = read(tmp_path, gt, detections(list(range(IMAGES))))
    assert dt.image.tolist() == list(range(IMAGES))
    assert dt.warnings == ("image ids are numbers: read as the ground truth's ids",)


def test_the_name_before_an_export_is_known_too(tmp_path: Path) -> None:
    """Roboflow renames the files and keeps the name in extra."""
    gt = ground_truth(tmp_path, ["a_jpg.rf.1.jpg", "b_jpg.rf.2.jpg"], extra={"name": "a.jpg"})
    dt = read(tmp_path, gt, detections(["a", "b_jpg.rf.2"]))
    assert dt.image.tolist() == [0, 1]


class TestFileNamesOfRecords:
    def test_decide_where_they_contradict_the_ids(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, NUMBERS)
        dt = read(tmp_path, gt, detections([int(name[:4]) for name in NUMBERS], file_name=NUMBERS))
        assert dt.image.tolist() == list(range(IMAGES))
        assert "all 8 detections were matched by file_name" in dt.warnings[0]

    def test_ids_of_another_numbering(self, tmp_path: Path) -> None:
        """All ids are ids of the ground truth, and each means another image: nothing but the names shows it."""
        gt = ground_truth(tmp_path, FRAMES)
        dt = read(tmp_path, gt, detections([7, 6, 5, 4, 3, 2, 1, 0], file_name=FRAMES))
        assert dt.image.tolist() == list(range(IMAGES))

    def test_names_that_say_nothing(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, FRAMES)
        dt = read(tmp_path, gt, detections(list(range(IMAGES)), file_name=[f"other{n}.jpg" for n in range(IMAGES)]))
        assert dt.image.tolist() == list(range(IMAGES))

        assert (
            "file names differ from those of the ground truth (first 'other0.jpg'; there 'frame_0000.jpg')"
            in (dt.warnings[0])
        )

    @pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
    def test_forms_of_unicode(self, forms: tuple[str, str], tmp_path: Path) -> None:
        there, here = ([normalize(form, f"caf\u00e9_{n}.jpg") for n in range(IMAGES)] for form in forms)
        dt = read(tmp_path, ground_truth(tmp_path, there), detections([7, 6, 5, 4, 3, 2, 1, 0], file_name=here))
        assert dt.image.tolist() == list(range(IMAGES))

    @pytest.mark.parametrize(
        ("ids", "names"),
        [
            ([0, 1, 1], [FRAMES[0], FRAMES[1], FRAMES[2]]),  # one id, two files
            ([0, 1, 2], [FRAMES[0], FRAMES[1], FRAMES[1]]),  # two ids, one file
            ([0, 1, 2], [FRAMES[1], None, FRAMES[2]]),  # one without a name
        ],
    )
    def test_contradictions_are_refused(self, ids: list[int], names: list[str | None], tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, FRAMES)
        with pytest.raises(BadInput, match="file names and image ids contradict each other"):
            read(tmp_path, gt, detections(ids, file_name=names))


class TestAmbiguousIds:
    def test_text_that_is_one_images_id_and_anothers_file_is_refused(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, ["1.jpg", "0.jpg"])
        with pytest.raises(
            BadInput, match=r"image_id '0' is the id of 1.jpg \(id 0\) and the file name of 0.jpg \(id 1\)"
        ):
            read(tmp_path, gt, detections(["0", "1"]))

    def test_a_name_of_several_files_is_told_as_such(self, tmp_path: Path) -> None:
        gt = ground_truth(
            tmp_path, [f"{n % 2}/{n // 2}.jpg" for n in range(IMAGES)], ids=list(range(100, 100 + IMAGES))
        )
        for identity in ("1.jpg", "1", 1):
            with pytest.raises(BadInput, match="matches the file names of several of its images"):
                read(tmp_path, gt, detections([identity]))

    def test_large_ids_that_were_rounded_are_refused(self, tmp_path: Path) -> None:
        """Floating-point numbers above 2**53 stand for several ids: 4611686018427387904 and the 255 after it."""
        ids = [2**62 + n for n in range(IMAGES)]
        gt = ground_truth(tmp_path, FRAMES, ids=ids)
        assert read(tmp_path, gt, detections(ids)).image.tolist() == list(range(IMAGES))
        with pytest.raises(BadInput, match=r"record\[0\] has image_id 4.611686018427388e\+18"):
            read(tmp_path, gt, detections([float(one) for one in ids]))

    def test_numbers_that_fit_only_as_file_names(self, tmp_path: Path) -> None:
        """Files are counted from 1, ids from 0: all but one number is an id too, of the next image."""
        gt = ground_truth(tmp_path, [f"{n + 1}.jpg" for n in range(IMAGES)])
        dt = read(tmp_path, gt, detections([n + 1 for n in range(IMAGES)]))
        assert dt.image.tolist() == list(range(IMAGES))

    def test_numbers_that_fit_both_ways_are_ids_and_the_boxes_warn(self, tmp_path: Path) -> None:
        names = [f"{n}.jpg" for n in (7, 6, 5, 4, 3, 2, 1, 0)]
        gt = ground_truth(tmp_path, names)
        assert read(tmp_path, gt, detections(list(range(IMAGES)))).warnings == ()
        dt = read(tmp_path, gt, detections([7, 6, 5, 4, 3, 2, 1, 0]))
        assert dt.image.tolist() == [7, 6, 5, 4, 3, 2, 1, 0]
        (warning,) = dt.warnings
        assert warning.startswith("image ids look like the numbers in the file names")

    @pytest.mark.skipif(native.core is None, reason="the compiled core is not in use here")
    @pytest.mark.parametrize(
        "names", [[7, 6, 5, 4, 3, 2, 1, 0], [70, 60, 50, 40, 30, 20, 10, 0], [1, 1, 1, 1, 2, 2, 2, 2]]
    )
    @pytest.mark.parametrize("ids", [list(range(IMAGES)), [7, 6, 5, 4, 3, 2, 1, 0]])
    def test_files_named_by_other_numbers_are_read_as_columns_all_the_same(
        self, names: list[int], ids: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gt = ground_truth(tmp_path, [f"{place}/{n}.jpg" for place, n in enumerate(names)])
        with monkeypatch.context() as patch:
            patch.setattr(native, "core", None)
            slow = read(tmp_path, gt, detections(ids))
        monkeypatch.setattr("analysis.coco.detections.open_container", lambda *_: pytest.fail("record by record"))
        fast = read(tmp_path, gt, detections(ids))
        assert fast.warnings == slow.warnings
        assert (fast.image.tolist(), fast.box.tolist()) == (slow.image.tolist(), slow.box.tolist())

    def test_numbers_of_a_larger_set_that_fit_both_ways_in_part(self, tmp_path: Path) -> None:
        """Ids of a subset count from 0, the detections are of all images and numbered as the files are."""
        gt = ground_truth(tmp_path, [f"{n}.jpg" for n in (5, 0, 11, 3, 9, 2, 14, 7)])
        place = {5: 0, 0: 1, 11: 2, 3: 3, 9: 4, 2: 5, 14: 6, 7: 7}
        records = [found(1, (10 + 9 * place.get(n, 90), *BOX[1:]), 0.9, n) for n in range(16)]
        dt = read(tmp_path, gt, records, drop_unknown=True)
        assert any(warning.startswith("image ids look like the numbers in the file names") for warning in dt.warnings)


class TestUnknownIds:
    def test_the_first_unknown_text_is_named(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, FRAMES)
        with pytest.raises(
            BadInput, match=r"1 of 3 detections is not in .* \(first at record 2: 'frame_0099'\); use --drop"
        ):
            read(tmp_path, gt, detections(["frame_0000", "frame_0001", "frame_0099"]))

    def test_dropping_leaves_the_known(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, FRAMES)
        dt = read(tmp_path, gt, detections(["frame_0099", "frame_0001", "frame_0000"]), drop_unknown=True)
        assert (dt.image.tolist(), dt.row.tolist()) == ([1, 0], [1, 2])

    def test_the_category_hint_is_not_given_for_images(self, tmp_path: Path) -> None:
        gt = ground_truth(tmp_path, FRAMES)
        records = [found(c, BOX, 0.5, 99) for c in (1, 2)]
        with pytest.raises(BadInput) as caught:
            read(tmp_path, gt, records)
        assert "class indices" not in str(caught.value)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10**9), style=st.sampled_from(["stem", "name", "path", "number"]), names=st.booleans())
def test_any_naming_gives_the_same_images(seed: int, style: str, names: bool, tmp_path: Path) -> None:
    """Whatever numbers the files have and however ids name them, the images are right or the file is refused."""
    rng = random.Random(seed)
    stems = [f"{rng.choice(['', 'im_', '00'])}{n}" for n in rng.sample(range(40), IMAGES)]
    files = [f"{stem}.jpg" for stem in stems]
    gt = ground_truth(tmp_path, files)
    ids: list[Any] = {
        "stem": stems,
        "name": files,
        "path": [f"val/{name}" for name in files],
        "number": [int(stem) if stem.isdecimal() else stem for stem in stems],
    }[style]
    more = {"file_name": files} if names else {}
    refusal, dt = "", None
    try:
        dt = read(tmp_path, gt, detections(ids, **more))
    except BadInput as error:
        refusal = str(error)
    if dt is None:
        assert not names or len(set(ids)) < len(ids)
        assert "is the id of" in refusal or "not in the ground truth" in refusal
        return
    wrong = dt.image.tolist() != list(range(IMAGES))
    assert not wrong or (style in ("number", "stem") and not names and all(str(one).isdecimal() for one in ids))


@pytest.mark.parametrize(
    ("case", "truth", "results", "options", "ap", "ap50"),
    [
        ("r01-ultralytics-int-stem", "gt", "predictions", {}, 31.3, 69.4),
        ("r09-string-image-ids", "gt_subset", "dt_stems", {"drop_unknown": True}, 30.4, 54.8),
        ("r09-string-image-ids", "gt_upper", "dt_with_paths", {}, 32.7, 66.5),
        ("r09-string-image-ids", "gt_upper", "dt_digits_as_strings", {}, 32.7, 66.5),
    ],
)
def test_shared_cases(case: str, truth: str, results: str, options: dict[str, bool], ap: float, ap50: float) -> None:
    """Values of pycocotools on the repaired file."""
    gt = read_ground_truth(shared_case(case, f"{truth}.json"))
    metrics = coco_metrics(gt, read_detections(shared_case(case, f"{results}.json"), gt, **options))
    assert (round(metrics["AP"], 1), round(metrics["AP50"], 1)) == (ap, ap50)
