"""Which options of the verbs of ``ablate``, ``data`` and ``weights`` need or exclude which; see `analysis.cli`."""

from collections.abc import Mapping

from analysis.cli.option_rules import FIGURES, OptionRule

ONE_ANSWER = "a document is printed once"
OF_A_STUDY = (
    OptionRule("--dry-run", "nothing is written that could be run", excludes="--launch"),
    OptionRule("--yes", "nothing else asks", needs=("--launch",)),
    OptionRule("--parallel", "nothing else runs", needs=("--launch",)),
    OptionRule("--retry", "nothing else runs", needs=("--launch",)),
    OptionRule("--fail-fast", "nothing else runs", needs=("--launch",)),
    OptionRule("--workers", "nothing else loads images", needs=("--launch",)),
    OptionRule("--checkpoint-minutes", "nothing else trains", needs=("--launch",)),
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
        OptionRule("--grid", "it crosses keys", needs=("--vary",)),
    ),
    "tune": (*OF_A_STUDY, FIGURES[1]),
    "table": (*FIGURES, OptionRule("--columns", "the document holds every column", excludes="--json")),
    "study compare": FIGURES,
    "launch": (
        OptionRule(
            "--gpus-per-run", "a run on a CPU is one process", excludes="--device cpu", unless="--gpus-per-run 1"
        ),
        OptionRule("--follow", "nothing is submitted", excludes="--dry-run"),
        *(
            OptionRule(option, "nothing else is submitted", needs=("--on slurm",))
            for option in (*JOB_OPTIONS, "--dry-run", "--follow")
        ),
        OptionRule("--max-parallel", "nothing else is submitted", needs=("--on slurm", "--print-job")),
        OptionRule("--print-job", "it prints the file of another way", excludes="--on slurm"),
        OptionRule("--print-job", "the file starts the drains", excludes="--drain"),
        *(
            OptionRule(option, "the jobs are Slurm's to start", excludes="--on slurm")
            for option in ("--drain", "--parallel", "--fail-fast", "--yes")
        ),
        OptionRule("--max-runs", "a launch ends when every run is done", needs=("--drain",)),
        OptionRule("--stop-after", "a launch ends when every run is done", needs=("--drain",)),
    ),
    "list": (OptionRule("--json", ONE_ANSWER, excludes="--watch"),),
    "status": (OptionRule("--json", ONE_ANSWER, excludes="--watch"),),
    "logs": (OptionRule("--json", ONE_ANSWER, excludes="--follow"),),
    "init": (
        OptionRule("--seed", "nothing else is drawn", needs=("--hold-out",)),
        OptionRule("--validation", "both say what to measure on", excludes="--hold-out"),
    ),
    "shapes": (OptionRule("--root", "the folder is named in full", excludes="--out"),),
    "pretrain": (OptionRule("--images", "both say what to pre-train on", excludes="--data"),),
}
