"""Which options of the verbs of ``ablate``, ``data`` and ``weights`` need or exclude which; see `analysis.cli`."""

from collections.abc import Mapping

from analysis.cli.option_rules import FIGURES, OptionRule

ONE_ANSWER = "a JSON document is printed once"
OF_A_STUDY = (
    OptionRule("--dry-run", "a dry run writes nothing that could be launched", excludes="--launch"),
    OptionRule("--yes", "only a launch asks", needs=("--launch",)),
    OptionRule("--parallel", "it is an option of the launch", needs=("--launch",)),
    OptionRule("--retry", "it is an option of the launch", needs=("--launch",)),
    OptionRule("--fail-fast", "it is an option of the launch", needs=("--launch",)),
    OptionRule("--workers", "it is an option of the launch", needs=("--launch",)),
    OptionRule("--checkpoint-minutes", "it is an option of the launch", needs=("--launch",)),
    OptionRule("--json", "a launch ends with a table, not with a document", excludes="--launch"),
)

JOB_OPTIONS = (
    "--cluster",
    "--partition",
    "--account",
    "--qos",
    "--time",
    "--nodes",
    "--constraint",
    "--sbatch",
)

RULES: Mapping[str, tuple[OptionRule, ...]] = {
    "AXIS": OF_A_STUDY,
    "vary": (
        *OF_A_STUDY,
        OptionRule("AXIS.yaml", "the file names the key and its values", excludes="--vary"),
        OptionRule("--grid", "it combines the keys of --vary", needs=("--vary",)),
    ),
    "tune": (*OF_A_STUDY, FIGURES[1]),
    "table": (*FIGURES, OptionRule("--columns", "the JSON document has every column", excludes="--json")),
    "study compare": FIGURES,
    "launch": (
        OptionRule(
            "--gpus-per-run", "a run on a CPU is one process", excludes="--device cpu", unless="--gpus-per-run 1"
        ),
        OptionRule("--follow", "nothing is submitted", excludes="--dry-run"),
        *(
            OptionRule(option, "it is an option of submitted jobs", needs=("--on slurm",))
            for option in (*JOB_OPTIONS, "--dry-run", "--follow")
        ),
        OptionRule("--max-parallel", "it is an option of submitted jobs", needs=("--on slurm", "--print-job")),
        OptionRule(
            "--print-job", "a printed job file starts drains, and no Slurm jobs of this program", excludes="--on slurm"
        ),
        OptionRule("--print-job", "the printed file starts the drains", excludes="--drain"),
        *(
            OptionRule(option, "Slurm starts the jobs", excludes="--on slurm")
            for option in ("--drain", "--parallel", "--fail-fast", "--yes")
        ),
        OptionRule("--max-runs", "without --drain a launch ends when every run is done", needs=("--drain",)),
        OptionRule("--stop-after", "without --drain a launch ends when every run is done", needs=("--drain",)),
    ),
    "list": (OptionRule("--json", ONE_ANSWER, excludes="--watch"),),
    "status": (OptionRule("--json", ONE_ANSWER, excludes="--watch"),),
    "logs": (OptionRule("--json", ONE_ANSWER, excludes="--follow"),),
    "init": (
        OptionRule("--seed", "it seeds the random choice of --hold-out", needs=("--hold-out",)),
        OptionRule("--validation", "both name the validation images", excludes="--hold-out"),
    ),
    "shapes": (OptionRule("--root", "--out names the whole path", excludes="--out"),),
    "pretrain": (OptionRule("--images", "both say what to pre-train on", excludes="--data"),),
}
