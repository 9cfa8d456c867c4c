"""What a process does with itself before it says that it works."""

from __future__ import annotations

import gc
import threading

import pytest

from skeet import process
from skeet.process import announce_ready


def test_collections_of_garbage_pass_over_what_a_process_started_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "READY", threading.Event())
    monkeypatch.delenv("SKEET_READY_FILE", raising=False)
    state = [{"position": number} for number in range(1000)]
    try:
        announce_ready()
        watched = {id(each) for each in gc.get_objects()}
        assert not watched & {id(each) for each in state}
    finally:
        gc.unfreeze()
