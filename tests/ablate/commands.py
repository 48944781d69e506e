"""A trainer of somebody else's: thirty lines that "train" and write predictions of simulated detectors."""

import json
import sys
from pathlib import Path
from typing import Any

from PIL import Image

from ablate.config.yaml import scalar
from analysis.coco.synthetic import ground_truth_document, simulate_scene
from tests.ablate.processes import ROOT

IMAGES, CATEGORIES = 24, 4

TRAINER = f"""
import argparse, json, os, sys, time
from pathlib import Path
sys.path.insert(0, {str(ROOT)!r})
parser = argparse.ArgumentParser()
for name in ("--lr", "--seed", "--out", "--resume", "--epochs", "--nap", "--do"):
    parser.add_argument(name)
state = vars(parser.parse_args())
if state["resume"]:
    state = json.loads(Path(state["resume"]).read_text())
    print("resumed after epoch", state["epoch"], flush=True)
out = Path(state["out"])
print("key", os.environ.get("SECRET_KEY"), flush=True)
for epoch in range(state.get("epoch", 0), int(state["epochs"] or 2)):
    time.sleep(float(state["nap"] or 0))
    print("epoch", epoch + 1, flush=True)
    with (out / "results.csv").open("a") as file:
        file.write(("epoch, train/loss\\n" if not epoch else "") + f"{{epoch}}, {{1 / (1 + epoch)}}\\n")
    (out / "part").write_text(json.dumps(state | {{"epoch": epoch + 1}}))
    (out / "part").rename(out / "last.pt")
if state["do"] == "fail" or float(state["lr"]) > 1:
    sys.exit("ValueError: the loss exploded, key " + str(os.environ.get("SECRET_KEY")))
if state["do"] != "nothing":
    from analysis.coco.synthetic import Flaws, simulate_detector, simulate_scene
    scene = simulate_scene({IMAGES}, {CATEGORIES}, 1)
    flaws = Flaws(missed=min(0.9, 10 * float(state["lr"])), background=1, tail=2)
    found = simulate_detector(scene, flaws, int(state["seed"]))
    if state["do"] == "same":
        found = simulate_detector(scene, Flaws(), 0)
    if state["do"] == "others":
        found[3]["image_id"] = 4711
    text = json.dumps(found)
    (out / "predictions.json").write_text(text[: len(text) // 2] if state["do"] == "half" else text)
"""


def write_trainer(folder: Path, **keys: Any) -> Path:
    """A folder with validation data, the script and a base config, whose keys are replaced -> the config."""
    (folder / "images").mkdir(parents=True)
    document: Any = ground_truth_document(simulate_scene(IMAGES, CATEGORIES, 1))
    for image in document["images"]:
        image["file_name"] = f"{image['id']}.png"
        Image.new("RGB", (640, 480)).save(folder / "images" / image["file_name"])
    (folder / "gt.json").write_text(json.dumps(document))
    (folder / "train.py").write_text(TRAINER)
    values: dict[str, Any] = {
        "engine": "command",
        "parameters": {"lr": 0.01},
        "command": "python train.py --lr {lr} --seed {seed} --out {run}",
        "predictions": "{run}/predictions.json",
        "validation": {"annotations": "gt.json", "images": "images"},
        "sources": ["train.py"],
        "python": sys.executable,
    }
    path = folder / "mine.yaml"
    path.write_text("".join(f"{key}: {scalar(value)}\n" for key, value in (values | keys).items() if value is not None))
    return path
