"""The tables of all verbs but those of ``analyze``; see `analysis.cli.verbs`."""

from contextlib import suppress

from analysis.cli.verbs import Group, Verb
from analysis.exceptions import BadInput

AXES, STUDIES = "Axes (each plans a study; --launch also runs it)", "Studies"
A_LAUNCH = (1, 3, 5, 130)  # exit codes of what runs a study


def all_verbs() -> tuple[Verb | Group, ...]:
    """The commands and groups of the program."""
    return (
        Group(
            name="analyze",
            target="analysis.cli.verbs:analyze_verbs",
            summary="Analyze prediction files: AP, types of error, comparison, score thresholds.",
            examples=("analyze errors a.json b.json --gt instances.json",),
        ),
        Group(
            name="ablate",
            target="ablate.cli.verbs:ablate_verbs",
            summary="Plan, run and read controlled studies.",
            examples=("ablate attention --launch",),
        ),
        Group(
            name="data",
            target="ablate.cli.verbs:data_verbs",
            summary="Check data sets, describe your own, or write the embedded one.",
            examples=("data check /data/coco",),
        ),
        Group(
            name="weights",
            target="ablate.cli.verbs:weights_verbs",
            summary="Inspect files of pre-trained weights, or pre-train on your own images.",
            examples=("weights inspect mae_pretrain_vit_base.pth",),
        ),
        Verb(
            name="doctor",
            target="ablate.cli.doctor:doctor",
            summary="Check which engines and features work on this machine, and how to fix what does not.",
            examples=("doctor",),
            exit_codes=(5,),
        ),
    )


def ablate_verbs() -> tuple[Verb | Group, ...]:
    """The verbs of ``ablate``, one for every axis among them, also for those of other packages."""
    from ablate.axes import AXES as KNOWN
    from ablate.axes import outside_axes

    others: list[str] = []
    with suppress(BadInput):  # two packages have an axis of one name: `ablate axes` says so
        others += outside_axes()
    takes_weights = {axis.name for axis in KNOWN.values() if axis.takes_weights}
    axes = (
        Verb(
            name=name,
            target="ablate.cli.study:axis_verb",
            summary=axis_summary(name),
            examples=(f"ablate {name} --dry-run" if name in takes_weights else f"ablate {name} --launch",),
            panel=AXES,
            exit_codes=A_LAUNCH,
            argument=name,
        )
        for name in (*KNOWN, *others)
    )
    return (
        Verb(
            name="run",
            target="ablate.cli.run:run",
            summary="Train, predict and analyse one run; the same command continues it after a kill, or shows its "
            "result.",
            examples=("ablate run tiny-shapes", "ablate run configs/base/tiny-shapes.yaml --set train.lr=8e-5"),
            exit_codes=(3, 5),
        ),
        Verb(
            name="describe",
            target="ablate.cli.run:describe",
            summary="Show the resolved config: every field, parameters and FLOPs by part, pyramid levels, run id.",
            examples=("ablate describe vit-b-coco",),
            exit_codes=(5,),
        ),
        Verb(
            name="export",
            target="ablate.cli.run:export",
            summary="Write a config as one LazyConfig file, for detectron2's own tools/lazyconfig_train_net.py.",
            examples=("ablate export tiny-shapes --out tiny_shapes.py",),
            exit_codes=(5,),
        ),
        Verb(
            name="axes",
            target="ablate.cli.study:axes",
            summary="Show the axes: their variants, the source of each, and published findings.",
            examples=("ablate axes", "ablate axes attention"),
        ),
        Verb(
            name="probe",
            target="ablate.cli.study:probe",
            summary="Measure the cost of each variant for one image: peak memory, seconds per training step and per "
            "prediction.",
            examples=("ablate probe --again",),
            exit_codes=(5,),
        ),
        Verb(
            name="table",
            target="ablate.cli.results:table",
            summary="Show the result of a study: AP, errors and cost of every variant, and published findings.",
            examples=("ablate table", "ablate table attention-tiny-shapes -o tables"),
        ),
        Verb(
            name="compare",
            target="ablate.cli.results:compare",
            summary="Compare every variant of a study with its baseline; intervals cover the noise of images and "
            "seeds.",
            examples=("ablate compare",),
        ),
        Verb(
            name="report",
            target="ablate.cli.results:report",
            summary="Write the study as one HTML file: table, charts, and a gallery of the costliest errors on its "
            "images.",
            examples=("ablate report -o report.html",),
        ),
        *axes,
        Verb(
            name="vary",
            target="ablate.cli.study:vary",
            summary="Study any key of the config, or an axis of your own from a YAML file.",
            examples=("ablate vary --vary train.lr=5e-4,1e-3,2e-3 --seeds 0,1,2 --dry-run",),
            panel=AXES,
            exit_codes=A_LAUNCH,
        ),
        Group(
            name="new",
            target="ablate.cli.verbs:new_verbs",
            summary="Write a commented start file: an axis, or a preset.",
            examples=("ablate new axis windows",),
        ),
        Verb(
            name="tune",
            target="ablate.cli.tune:tune",
            summary="Tune learning rate, weight decay and drop path by the paper's protocol; each result decides the "
            "next runs.",
            examples=("ablate tune --centre base --launch",),
            panel=STUDIES,
            exit_codes=A_LAUNCH,
        ),
        Verb(
            name="launch",
            target="ablate.cli.launch:launch",
            summary="Run the unfinished runs of a study, then show its table; the same command continues after a stop "
            "or a kill.",
            examples=("ablate launch", "ablate launch attention-tiny-shapes --on slurm --partition gpu"),
            panel=STUDIES,
            exit_codes=A_LAUNCH,
        ),
        Verb(
            name="list",
            target="ablate.cli.launch:list_",
            summary="List the studies, newest last, with the number of finished runs.",
            examples=("ablate list",),
            panel=STUDIES,
        ),
        Verb(
            name="status",
            target="ablate.cli.launch:status",
            summary="Show every run of a study: state, progress, loss, time left.",
            examples=("ablate status --watch",),
            panel=STUDIES,
        ),
        Verb(
            name="logs",
            target="ablate.cli.launch:logs",
            summary="Show the logs of the runs of a study.",
            examples=("ablate logs --run window:0 -n 50",),
            panel=STUDIES,
        ),
        Verb(
            name="cancel",
            target="ablate.cli.launch:cancel",
            summary="Stop the launchers and the jobs of a study, on all machines; every run saves its state, and "
            "launch continues it.",
            examples=("ablate cancel",),
            panel=STUDIES,
        ),
        Verb(
            name="delete",
            target="ablate.cli.launch:delete",
            summary="Delete a study, its configs, and the runs that no other study uses; asks first.",
            examples=("ablate delete attention-tiny-shapes --dry-run",),
            panel=STUDIES,
            exit_codes=(1,),
        ),
        Verb(
            name="gc",
            target="ablate.cli.launch:gc",
            summary="Delete the runs and pre-trainings that no study uses any more; asks first.",
            examples=("ablate gc --dry-run",),
            panel=STUDIES,
            exit_codes=(1,),
        ),
        Verb(
            name="adopt",
            target="ablate.cli.adopt:adopt",
            summary="Make a study of finished runs of any detectors, from their prediction files.",
            examples=("ablate adopt mine --gt instances.json --baseline A --variant A=a.json --variant B=b.json",),
            panel=STUDIES,
        ),
    )


def axis_summary(name: str) -> str:
    """The summary of an axis in the help; an axis of another package is not imported for it."""
    from ablate.axes import AXES as KNOWN
    from ablate.axes import outside_axes

    if name in KNOWN:
        title = KNOWN[name].title
    else:
        entry = outside_axes()[name]
        title = f"An axis of {entry.dist.name if entry.dist is not None else 'another package'}"
    return f"{title}."


def new_verbs() -> tuple[Verb, ...]:
    """The verbs of ``ablate new``."""
    return (
        Verb(
            name="axis",
            target="ablate.cli.new:axis",
            summary="Write the start of an axis of your own, for ablate vary NAME.yaml.",
            examples=("ablate new axis windows",),
        ),
        Verb(
            name="preset",
            target="ablate.cli.new:preset",
            summary="Write the start of a config of your own, for --base NAME.yaml.",
            examples=("ablate new preset mine --base vit-b-coco",),
        ),
    )


def data_verbs() -> tuple[Verb, ...]:
    """The verbs of ``data``."""
    return (
        Verb(
            name="check",
            target="ablate.cli.data:check",
            summary="Find missing and broken images, bad boxes and masks, clashing and unknown ids; exit code 4 for "
            "errors.",
            examples=("data check /data/coco", "data check instances.json images/"),
        ),
        Verb(
            name="init",
            target="ablate.cli.data:init",
            summary="Write a data YAML for --data: find the annotations and images of a folder, and check all of them.",
            examples=("data init ~/cats --hold-out 0.2",),
        ),
        Verb(
            name="shapes",
            target="ablate.cli.data:shapes",
            summary="Write the embedded data set: 800 training and 240 validation images with boxes and masks.",
            examples=("data shapes -o shapes",),
        ),
    )


def weights_verbs() -> tuple[Verb, ...]:
    """The verbs of ``weights``."""
    return (
        Verb(
            name="inspect",
            target="ablate.cli.weights:inspect",
            summary="Show the family of a weights file, how each tensor is used or resized, and the config keys it "
            "needs.",
            examples=("weights inspect mae_pretrain_vit_base.pth",),
            exit_codes=(5,),
        ),
        Verb(
            name="pretrain",
            target="ablate.cli.weights:pretrain",
            summary="Pre-train a ViT as a masked autoencoder (MAE); the same command continues after a kill, or shows "
            "the result.",
            examples=("weights pretrain --data shapes --epochs 2", "weights pretrain --images photos/"),
            exit_codes=(3, 5),
        ),
    )
