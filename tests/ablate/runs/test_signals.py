"""A signal during an import or a finalizer stops the program after it; an exception within it would not arrive."""

import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from weakref import WeakKeyDictionary

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


class _Key:
    pass


class _Last:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("finalizer", ["__del__", "a weak reference"])
def test_a_finalizer_is_completed_before_a_signal_interrupts(
    finalizer: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: WeakKeyDictionary[_Key, _Last] = WeakKeyDictionary()
    key, last = _Key(), _Last()
    held[key] = last
    before = handle((signal.SIGTERM, signal.SIGALRM), interrupt)

    def free_and_wait() -> None:
        nonlocal key, last
        if finalizer == "__del__":
            held.clear()
            last = None  # type: ignore[assignment]
        else:
            monkeypatch.delattr(_Last, "__del__")
            sys.settrace(lambda frame, *_: strike() if frame.f_code.co_name == "remove" else None)
            key = None  # type: ignore[assignment]
        time.sleep(10)

    def strike() -> None:
        sys.settrace(None)
        signal.raise_signal(signal.SIGTERM)

    try:
        with pytest.raises(KeyboardInterrupt, match="SIGTERM"):
            free_and_wait()
        assert capsys.readouterr().err == ""
    finally:
        restore(before)
