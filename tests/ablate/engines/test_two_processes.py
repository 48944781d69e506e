"""Two processes that train together over gloo: what they must agree on, and how each way of ending reaches both.

All of it happens in one pair of processes, which meet anew for every scenario: to start a pair costs seconds.
"""

import json
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config.schema import Coco
from ablate.execute.run import execute, locked, recorded
from ablate.runs.folder import RunFolder, Workspace
from ablate.runs.lock import holding
from ablate.train.distributed import Processes, joined, lay_out
from ablate.train.outcome import RuntimeOptions
from ablate.train.peers import check_shared_folder
from tests.ablate.engines.test_training import ALONE, trainer_of, weights
from tests.ablate.processes import run_in_two_processes
from tests.ablate.tiny import prepared, tiny_config

RUNTIME = RuntimeOptions(device="cpu", workers=0)


def scaled_trainer(folder: RunFolder, processes: Processes) -> Any:
    """fp16's loss scaling around arithmetic in fp32: a power of two changes no bit of a gradient."""
    trainer = trainer_of(folder, RuntimeOptions(checkpoint_iterations=2), processes)
    if folder.path.name.startswith("scaled"):
        trainer.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    trainer.clip_norm = 0.5
    trainer.optimizer = torch.optim.SGD(trainer.module.parameters(), lr=0.1)
    return trainer


# Scenarios: what each of the two processes does in the folder of the test; what it returns is compared.


def different_checkpoints(root: Path, processes: Processes) -> object:
    """Process 0 is to go on after iteration 4, process 1 after 2."""
    trainer_of(RunFolder(root / "results" / "runs" / f"after-{4 - 2 * processes.rank}"), processes=processes).train()


def different_weights(root: Path, processes: Processes) -> object:
    """Both after 4, of different seeds."""
    trainer_of(
        RunFolder(root / "results" / "runs" / ("after-4", "other-4")[processes.rank]), processes=processes
    ).train()


def different_folders(root: Path, processes: Processes) -> object:
    check_shared_folder(root / f"node-{processes.rank}", processes)


def same_folder(root: Path, processes: Processes) -> object:
    if processes.first:
        (root / ".shared.killed.part").mkdir()  # as a check leaves it that is killed
    check_shared_folder(root, processes)


def somebody_else_is_at_it(root: Path, processes: Processes) -> object:
    with locked(RunFolder(root / "results" / "runs" / "held"), processes, again=True):
        return "entered"


def group_of_the_norms(_: Path, processes: Processes) -> object:
    whole = processes.norm_group(lay_out(8, 4, 2))
    return [whole is torch.distributed.group.WORLD, processes.norm_group(lay_out(8, 1, 2)) is None]


def stopped_in_one(root: Path, processes: Processes) -> object:
    """SIGTERM reaches process 1 alone, in its second iteration."""
    folder = RunFolder(root / "results" / "runs" / "stopped")
    trainer = scaled_trainer(folder, processes)
    step = trainer._step

    def step_and_signal(*arguments: Any) -> Any:
        if trainer.iteration == 2 and processes.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(*arguments)

    trainer._step = step_and_signal
    with recorded(folder, processes):
        trainer.train()


def continued(root: Path, processes: Processes) -> object:
    """Both go on from there to the end, and train the same with loss scaling, stopped and not."""
    for name in ("stopped", "whole", "scaled"):
        folder = RunFolder(root / "results" / "runs" / name)
        trainer = scaled_trainer(folder, processes)
        trainer.train()
    return trainer.scaler.get_scale()


def damaged_image(root: Path, processes: Processes) -> object:
    """A process that loads images for one of them meets a file cut short."""
    config = tiny_config(coco(root / "damaged"), model__detector__head="plain", train__iterations=50)
    execute(config, Workspace(root / "damaged"), RuntimeOptions(device="cpu", workers=1))


def full_in_one(root: Path, processes: Processes) -> object:
    folder = RunFolder(root / "results" / "runs" / "full")
    trainer = trainer_of(folder, processes=processes)
    if processes.rank == 1:
        assert trainer.meter.saved is not None
        trainer.meter.saved.cap = 1e5
    with recorded(folder, processes):
        trainer.train()


def gone_in_one(root: Path, processes: Processes) -> object:
    """Process 1 ends without a word."""
    folder = RunFolder(root / "results" / "runs" / "gone")
    trainer = trainer_of(folder, RuntimeOptions(checkpoint_iterations=1), processes)
    step = trainer._step

    def step_or_die(*arguments: Any) -> Any:
        if trainer.iteration == 2 and processes.rank == 1:
            os._exit(0)
        return step(*arguments)

    trainer._step = step_or_die  # type: ignore[method-assign]
    with recorded(folder, processes):
        trainer.train()


SCENARIOS: tuple[Callable[[Path, Processes], object], ...] = (
    different_checkpoints,
    different_weights,
    different_folders,
    same_folder,
    somebody_else_is_at_it,
    group_of_the_norms,
    stopped_in_one,
    continued,
    damaged_image,
    full_in_one,
    gone_in_one,  # the last: it leaves no pair
)
PAIR = """
    import sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[1])
    from tests.ablate.engines.test_two_processes import play
    play(Path(sys.argv[2]))
"""


def play(root: Path) -> None:
    """All scenarios in one of the two processes; how each of them ended is written down."""
    torch.set_num_threads(1)
    ports = json.loads((root / "ports.json").read_text())
    for scenario, port in zip(SCENARIOS, ports, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        ended: tuple[str, object]
        try:
            with joined("cpu") as processes:
                ended = ("", scenario(root, processes))
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            ended = (type(error).__name__, str(error))
        (root / f"{scenario.__name__}-{os.environ['RANK']}.json").write_text(json.dumps(ended))


def coco(folder: Path) -> Coco:
    return Coco(annotations=str(folder / "instances.json"), images=str(folder / "images"))


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that the pair has left behind."""
    from tests.ablate.tiny import write_data

    root = tmp_path_factory.mktemp("pair")
    data = write_data(root / "whole")
    write_data(root / "damaged")
    damaged = root / "damaged" / "images" / "3.png"
    damaged.write_bytes(damaged.read_bytes()[:100])
    for name, iterations, seed in (("after-4", 4, 0), ("after-2", 2, 0), ("other-4", 4, 1)):
        short = prepared(root, tiny_config(data, train__iterations=iterations, seed=seed), name)
        trainer_of(short).train()
    for name in ("full", "gone"):
        prepared(root, tiny_config(data, model__detector__head="plain"), name)
    plain = {"model__detector__head": "plain", "model__backbone__drop_path": 0.5}  # few waits for each other
    shared = tiny_config(data, train__batch_size=4, train__images_per_norm=2, train__iterations=5, **plain)
    for name in ("stopped", "whole", "scaled", "alone"):
        prepared(root, shared, name)
    scaled_trainer(RunFolder(root / "results" / "runs" / "alone"), ALONE).train()
    for number in (0, 1):
        (root / f"node-{number}").mkdir()
    held = prepared(root, tiny_config(data), "held")
    (root / "ports.json").write_text(json.dumps(free_ports(len(SCENARIOS))))
    with holding(held.path, "the run"):
        run_in_two_processes(PAIR, root)
    return root


def both(root: Path, scenario: Callable[[Path, Processes], object]) -> list[list[Any]]:
    return [json.loads((root / f"{scenario.__name__}-{rank}.json").read_text()) for rank in (0, 1)]


def told(root: Path, name: str) -> tuple[str, str]:
    status = RunFolder(root / "results" / "runs" / name).read_status()
    assert status is not None
    return status.state, status.message


def test_processes_that_would_continue_from_different_checkpoints_are_refused(root: Path) -> None:
    for kind, message in both(root, different_checkpoints):
        assert kind == "BadInput"
        assert "would continue after iteration 4, and process 1 on" in message
        assert "after iteration 2; choose a --root that all machines" in message
    for kind, message in both(root, different_weights):
        assert (kind, "with other weights" in message) == ("BadInput", True)


def test_machines_without_a_shared_folder_are_named(root: Path) -> None:
    for kind, message in both(root, different_folders):
        assert kind == "BadInput"
        assert f"this is not the same folder on {socket.gethostname()} as on {socket.gethostname()}" in message
    assert both(root, same_folder) == [["", None], ["", None]]
    assert not list(root.rglob(".shared*")), "nothing is left behind"


def test_all_learn_that_somebody_else_is_at_a_run(root: Path) -> None:
    for kind, message in both(root, somebody_else_is_at_it):
        assert (kind, "the run: process" in message or "is working on this" in message) == ("LockHeld", True)


def test_norms_share_the_group_of_the_gradients_where_it_is_the_same(root: Path) -> None:
    assert both(root, group_of_the_norms) == [["", [True, True]], ["", [True, True]]]


def test_a_stop_of_one_saves_and_ends_both_and_they_continue_to_the_same_weights(root: Path) -> None:
    first, second = both(root, stopped_in_one)
    assert (first[0], second[0]) == ("Interrupted", "Interrupted")
    assert "stopped by a signal to another process after iteration 4 of 5" in first[1]
    assert "stopped by SIGTERM after iteration 4 of 5" in second[1]
    assert both(root, continued)[0][0] == ""
    runs = {name: weights(RunFolder(root / "results" / "runs" / name)) for name in ("stopped", "whole", "alone")}
    torch.testing.assert_close(runs["stopped"], runs["whole"], rtol=0, atol=0)
    torch.testing.assert_close(runs["alone"], runs["whole"], rtol=1e-3, atol=1e-5)  # in one process


def test_loss_scaling_with_accumulation_and_clipping_changes_no_bit(root: Path) -> None:
    scaled, whole = (weights(RunFolder(root / "results" / "runs" / name)) for name in ("scaled", "whole"))
    torch.testing.assert_close(scaled, whole, rtol=0, atol=0)
    assert both(root, continued) == [["", 2.0**12]] * 2, "grew twice in five steps"


def test_a_damaged_image_ends_both_with_its_name(root: Path) -> None:
    ended = both(root, damaged_image)
    assert sorted(kind for kind, _ in ended) in (["BadInput", "LostPeer"], ["BadInput", "BadInput"])
    (folder,) = Workspace(root / "damaged").runs()
    status = folder.read_status()
    assert status is not None
    assert status.state == "failed"
    assert "3.png: cannot be decoded" in status.message


def test_a_full_memory_of_one_is_the_result_of_the_run(root: Path) -> None:
    first, second = both(root, full_in_one)
    assert (first[0], second[0]) == ("LostPeer", "RunFailed")
    state, message = told(root, "full")
    assert state == "out_of_memory"
    assert "is full in iteration 1 of 6" in message


def test_a_lost_process_interrupts_the_run(root: Path) -> None:
    kind, message = json.loads((root / "gone_in_one-0.json").read_text())
    assert (kind, "another process of this run ended" in message) == ("LostPeer", True)
    state, message = told(root, "gone")
    assert state == "interrupted"
    assert "run the same command to continue" in message
    assert RunFolder(root / "results" / "runs" / "gone").checkpoints_newest_first()[0].name == "00000002.pt"
