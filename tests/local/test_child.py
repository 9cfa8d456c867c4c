"""What the supervisor gives a process on its way."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from skeet.local.child import NICENESS, Child
from skeet.local.installation import Installation
from skeet.local.plan import ProcessSpec


@pytest.mark.parametrize("niced", [True, False])
def test_a_niced_process_stands_behind_with_its_whole_session(niced: bool, tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.create()
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    child = Child(ProcessSpec(name="any", command=command, niced=niced), installation, dict(os.environ))
    child.start()
    assert child.identity is not None
    pid, wanted = child.identity.pid, NICENESS if niced else 0
    try:
        assert os.getpriority(os.PRIO_PROCESS, pid) == wanted
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists() and "autogroup" in group.read_text():
            assert group.read_text().endswith(f"nice {wanted}\n")
    finally:
        child.send(signal.SIGKILL)
