"""What doctor says of Slurm: with none, with one that does not answer, and with players of its commands."""

from pathlib import Path

import pytest

from ablate.doctor.slurm import check_slurm

SCONTROL = """#!/bin/sh
echo "ClusterName             = big"
echo "MaxArraySize            = 1001"
echo "JobRequeue              = {requeue}"
"""
SBATCH = """#!/bin/sh
[ "$1" = --version ] && {{ echo slurm 24.05.4; exit; }}
{job}
echo 17
"""


def play(folder: Path, monkeypatch: pytest.MonkeyPatch, job: str = ":", requeue: int = 1) -> None:
    """Commands of Slurm on the path; of sbatch, what the node of a job does."""
    programs = {
        "sbatch": SBATCH.format(job=job),
        "scontrol": SCONTROL.format(requeue=requeue),
        "sinfo": "#!/bin/sh\necho 'gpu*|1-00:00:00|2/1/1/4|gpu:a100:8'\necho 'cpu|infinite|0/9/0/9|(null)'\n",
        "scancel": "#!/bin/sh\n",
    }
    for name, text in programs.items():
        path = folder / name
        path.write_text(text)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_without_slurm_or_an_answer_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (check,) = check_slurm(tmp_path)
    assert (check.area, check.state) == ("optional", "absent")
    play(tmp_path, monkeypatch)
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: resolve_ctls_from_dns_srv' >&2; exit 1\n")
    (check,) = check_slurm(tmp_path)
    assert check.state == "warning"
    assert "resolve_ctls_from_dns_srv" in check.found


def test_partitions_and_limits_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(tmp_path, monkeypatch, requeue=0)
    checks = {check.name: check for check in check_slurm(tmp_path)}
    assert checks["sbatch"].found == "slurm 24.05.4, cluster big"
    gpus, cpus = checks["partitions"].found.split("; ")
    assert gpus == "gpu (default): 4 nodes, limit 1-00:00:00, gpu:a100:8"
    assert cpus == "cpu: 9 nodes, limit infinite"
    assert (checks["limits"].state, checks["limits"].found) == ("warning", "MaxArraySize 1001, JobRequeue 0")


@pytest.mark.parametrize(("name", "clock", "state"), [("n1", "$(date +%s)", "ok"), ("n2", "1000", "warning")])
def test_a_job_says_what_its_node_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, clock: str, state: str
) -> None:
    answers = f'for last; do :; done; echo "{name} {clock} yes" > "${{last%.sh}}.txt"'
    play(tmp_path, monkeypatch, answers)
    checks = {check.name: check for check in check_slurm(tmp_path, 30)}
    assert checks["shared disk"].found == f"a file that job 17 wrote on {name} is visible here"
    assert checks["Python"].state == "ok"
    assert checks["clocks"].state == state
    assert list((tmp_path / "results").iterdir()) == []


def test_a_job_that_wrote_no_file_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    play(tmp_path, monkeypatch)
    check = next(check for check in check_slurm(tmp_path, 0.3) if check.name == "shared disk")
    assert check.state == "warning"
    assert "choose a --root that all" in check.remedy
