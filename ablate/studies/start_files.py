"""Start files for a person's own axis or preset, with comments that say what each key means."""

from pathlib import Path

from ablate.config.yaml import preset_names, scalar
from analysis.exceptions import BadInput
from analysis.files import check_target, write_bytes

AXIS = """\
# An axis: one factor of a study, and its variants.
# Try it:  {command}

name: {name}
title: {title}  # the heading of tables
source: own question  # where the question comes from, such as a paper; shown with the results
touches: [train.lr]  # the only keys that variants should change; others are marked "not controlled"
baseline: slow  # the variant that the others are compared with
variants:  # name: dotted config keys -> values; {{}} is the unchanged base. All keys: ablate describe tiny-shapes
  slow: {{train.lr: 1e-3}}
  fast: {{train.lr: 2e-3}}
"""
PRESET = """\
# A preset: say here what it is for.
# Try it:  {command}

base: {base}  # a preset ({presets}) or another file, relative to this one
# Every key below replaces that of the base; leave out keys that stay the same. All keys: ablate describe {base}

# data:  # or --data COCO_ROOT, or the YAML file that `data init` writes
#   train: {{type: coco, annotations: train.json, images: images, limit: 500}}
#   validation: {{type: coco, annotations: validation.json, images: images}}

train:
  lr: 1e-3
"""


def axis_text(name: str, command: str) -> str:
    """The start of the file of an axis."""
    return AXIS.format(name=scalar(name), title=scalar(f"Effect of {name}"), command=command)


def preset_text(base: str, command: str) -> str:
    """The start of the file of a preset on another one."""
    return PRESET.format(base=scalar(base), presets=", ".join(preset_names()), command=command)


def new_file(path: Path, text: str) -> None:
    """Write a file that is not there yet.

    Raises:
        BadInput: it is there, or cannot be written.
    """
    if path.exists() or path.is_symlink():
        raise BadInput(f"{path}: exists already; choose another name, or another file with --out")
    check_target(path)
    write_bytes(path, text.encode())
