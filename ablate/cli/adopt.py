"""The verb ``adopt``: finished runs from elsewhere become a study."""

from pathlib import Path
from typing import Annotated

import typer

from ablate.cli.options import HERE, InWorkspace
from analysis.shell import shell_command


def adopt(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="Name of the new study.")],
    gt: Annotated[Path, typer.Option("--gt", metavar="GT", help="COCO instances file: the ground truth of all runs.")],
    baseline: Annotated[str, typer.Option("--baseline", metavar="NAME", help="The variant to compare with.")],
    variants: Annotated[
        list[str],
        typer.Option("--variant", metavar="NAME[,seed=N]=PREDICTIONS", help="A finished run; repeat for more."),
    ],
    facts: Annotated[
        Path | None,
        typer.Option(
            "--facts",
            metavar="FILE",
            help="CSV or YAML with known facts of each variant, such as its cost; shown as given.",
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="DIR", help="Folder of the images, for the report.")
    ] = None,
    link: Annotated[bool, typer.Option("--link", help="Refer to the prediction files instead of copying them.")] = (
        False
    ),
    workspace: InWorkspace = HERE,
) -> None:
    """Make a study of finished runs of any detectors, from their prediction files."""
    from ablate.studies.adopt import adopt as adopt_runs
    from ablate.studies.adopt import parse_run, read_facts
    from ablate.studies.show_results import show_table
    from ablate.studies.study import check_name

    check_name(study, "STUDY")
    runs = [parse_run(one) for one in variants]
    told = read_facts(facts, list(dict.fromkeys(run.variant for run in runs))) if facts else {}
    made = adopt_runs(workspace, study, runs, gt, baseline=baseline, images=images, facts=told, link=link)
    show_table(workspace, made)
    typer.echo(f"\nCompare them: {shell_command('ablate', 'compare', root=workspace.root, study=made.name)}")
