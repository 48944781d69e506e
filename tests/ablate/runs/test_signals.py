"""A signal during an import stops the program after it; an exception within it would become another one."""

import signal
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest

from ablate.runs.signals import handle, interrupt, restore

MODULE = """
import signal

class Field:
    def __set_name__(self, owner, name):
        signal.raise_signal(signal.SIGTERM)

class Record:
    field = Field()

complete = True
"""


def test_an_import_is_completed_before_a_signal_interrupts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "interrupted_import.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = handle((signal.SIGTERM, signal.SIGALRM), interrupt)

    def import_and_wait() -> None:
        import_module("interrupted_import")
        time.sleep(10)

    try:
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            import_and_wait()
        assert sys.modules.pop("interrupted_import").complete
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            signal.raise_signal(signal.SIGTERM)
    finally:
        restore(before)
