"""Deleting studies and runs: nothing that another study has or needs, nothing that a process is at."""

import sys
from io import StringIO
from pathlib import Path

import msgspec
import pytest

from ablate.launch.base import LOG
from ablate.launch.remove import DELETED, delete, of_study, unused
from ablate.launch.status import launchers_folder
from ablate.runs.folder import Workspace
from ablate.runs.lock import holding, joining
from ablate.studies.study import Study, configs_folder, list_studies, study_folder
from analysis.exceptions import BadInput
from tests.ablate.finished import end
from tests.ablate.launch.studies import a_run, a_study
from tests.command_line import run

SHARED, OWN, OTHER = a_run("hybrid"), a_run("window"), a_run("global")


def two_studies(root: Path) -> tuple[Study, Study]:
    """That share a run; all runs are finished, as a launch leaves them."""
    studies = a_study(root, [SHARED, OWN], "first"), a_study(root, [SHARED, OTHER], "second")
    for one in (SHARED, OWN, OTHER):
        folder = Workspace(root).run(one.run_id)
        end(folder)
        (folder.path / LOG).write_text("2026-01-01 first: hybrid, seed 0, on cpu\n")
        (folder.path / "tensorboard").mkdir()
        (folder.path / "tensorboard" / "events").write_bytes(bytes(2000))
    configs = configs_folder(Workspace(root), "first")
    configs.mkdir(parents=True)
    (configs / "plan.yaml").write_text("study: first\n")
    return studies


def run_ids(root: Path) -> set[str]:
    return {path.name for path in (root / "results" / "runs").iterdir()}


def test_a_study_goes_with_the_runs_that_only_it_has(tmp_path: Path) -> None:
    two_studies(tmp_path)
    workspace = Workspace(tmp_path)
    found = of_study(workspace, "first")
    assert found.runs == (OWN.run_id,)
    assert [(one.run, one.why) for one in found.kept] == [(SHARED.run_id, "study second uses it too")]
    assert found.bytes >= 2000
    assert delete(workspace, found) == []
    assert run_ids(tmp_path) == {SHARED.run_id, OTHER.run_id}
    assert [study.name for study in list_studies(workspace)] == ["second"]
    assert not study_folder(workspace, "first").exists()
    assert not configs_folder(workspace, "first").exists()


def test_a_run_that_another_study_only_needs_stays(tmp_path: Path) -> None:
    two_studies(tmp_path)
    a_study(tmp_path, [a_run("next", needs=(OWN.run_id,))], "third")
    assert of_study(Workspace(tmp_path), "first").runs == ()


def test_kept_runs_are_found_again_when_no_study_has_them(tmp_path: Path) -> None:
    two_studies(tmp_path)
    workspace = Workspace(tmp_path)
    assert unused(workspace).is_empty
    delete(workspace, of_study(workspace, "first", keep_runs=True))
    assert run_ids(tmp_path) == {SHARED.run_id, OWN.run_id, OTHER.run_id}
    assert unused(workspace).runs == (OWN.run_id,)
    delete(workspace, unused(workspace))
    assert run_ids(tmp_path) == {SHARED.run_id, OTHER.run_id}


def test_runs_that_were_started_alone_stay_unless_they_are_asked_for(tmp_path: Path) -> None:
    two_studies(tmp_path)
    workspace = Workspace(tmp_path)
    end(workspace.run("0" * 12))
    (tmp_path / "results" / "runs" / "my notes").mkdir()
    end(workspace.job_folder("pretraining/" + "1" * 12))
    assert unused(workspace).runs == ()
    assert [one.run for one in unused(workspace).kept] == ["0" * 12, "pretraining/" + "1" * 12]
    assert unused(workspace, single_runs=True).runs == ("0" * 12, "pretraining/" + "1" * 12)


def test_a_run_at_which_a_process_is_stays(tmp_path: Path) -> None:
    two_studies(tmp_path)
    workspace = Workspace(tmp_path)
    before = of_study(workspace, "first")
    with holding(workspace.run(OWN.run_id).path, "a run"):
        assert of_study(workspace, "first").runs == ()
        assert "is working on it" in of_study(workspace, "first").kept[-1].why
        assert "is working on this" in delete(workspace, before)[0].why  # taken between the two looks
    status = workspace.run(OWN.run_id).read_status()
    assert status is not None
    assert status.state == "finished"
    assert unused(workspace).runs == (OWN.run_id,)


def test_a_study_that_is_being_launched_stays(tmp_path: Path) -> None:
    two_studies(tmp_path)
    folder = launchers_folder(Workspace(tmp_path), "first")
    folder.mkdir()
    with (
        joining(folder),
        pytest.raises(BadInput, match=r"a launcher of study first is running .process .* ablate cancel"),
    ):
        of_study(Workspace(tmp_path), "first")
    assert of_study(Workspace(tmp_path), "first").runs == (OWN.run_id,)


def test_nothing_is_deleted_while_a_study_cannot_be_read(tmp_path: Path) -> None:
    two_studies(tmp_path)
    (study_folder(Workspace(tmp_path), "second") / "study.json").write_text('{"name": "sec')
    for look in (lambda: of_study(Workspace(tmp_path), "first"), lambda: unused(Workspace(tmp_path))):
        with pytest.raises(BadInput, match="nothing is deleted, because the runs of this study are not known"):
            look()


def test_a_study_that_takes_a_run_meanwhile_keeps_it(tmp_path: Path) -> None:
    two_studies(tmp_path)
    found = of_study(Workspace(tmp_path), "first")
    a_study(tmp_path, [OWN], "third")
    assert [one.why for one in delete(Workspace(tmp_path), found)] == ["study third uses it"]
    assert OWN.run_id in run_ids(tmp_path)


def test_what_a_killed_deletion_leaves_is_found(tmp_path: Path) -> None:
    two_studies(tmp_path)
    workspace = Workspace(tmp_path)
    folder = study_folder(workspace, "first")
    (folder / "study.json").rename(folder / DELETED)
    for path in (workspace.run(OWN.run_id).status, workspace.run(OWN.run_id).manifest):
        path.unlink()
    (workspace.run(OWN.run_id).path / LOG).unlink()
    found = unused(workspace)
    assert found.runs == (OWN.run_id,)
    assert found.folders == (str(folder),)
    delete(workspace, found)
    assert not folder.exists()
    assert unused(workspace).is_empty


def test_the_folder_of_a_run_that_is_a_link_stays(tmp_path: Path) -> None:
    two_studies(tmp_path)
    place = Workspace(tmp_path).run(OWN.run_id).path
    place.rename(tmp_path / "elsewhere")
    place.symlink_to(tmp_path / "elsewhere")
    assert "is a link to" in of_study(Workspace(tmp_path), "first").kept[-1].why


def test_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    two_studies(tmp_path)
    assert run(monkeypatch, "ablate", "delete", "first", "--dry-run", "--root", tmp_path) == 0
    shown = capsys.readouterr().out
    assert f"to delete: run {OWN.run_id}  first: hybrid, seed 0\n" in shown
    assert f"kept: {SHARED.run_id}: study second uses it too" in shown
    assert len(run_ids(tmp_path)) == 3

    monkeypatch.setattr(sys, "stdin", StringIO())
    assert run(monkeypatch, "ablate", "delete", "first", "--root", tmp_path) == 4
    assert "--yes deletes it" in capsys.readouterr().err
    assert run(monkeypatch, "ablate", "delete", "first", "-y", "--json", "--root", tmp_path) == 0
    document = msgspec.json.decode(capsys.readouterr().out)
    assert document["deleted"] is True
    assert document["runs"] == [OWN.run_id]
    assert run(monkeypatch, "ablate", "gc", "-y", "--root", tmp_path) == 0
    assert capsys.readouterr().out == "nothing to delete\n"
    assert run(monkeypatch, "ablate", "delete", "first", "-y", "--root", tmp_path) == 4
    assert "there is no study 'first'" in capsys.readouterr().err
