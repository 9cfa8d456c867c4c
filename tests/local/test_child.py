"""What the supervisor gives a process on its way."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from skeet.local.child import Child
from skeet.local.installation import Installation
from skeet.local.plan import ProcessSpec
from skeet.wiring import GOES_BEFORE, GOES_FIRST, YIELDS


@pytest.mark.parametrize("wanted", [YIELDS, 0, GOES_BEFORE, GOES_FIRST])
def test_a_process_has_its_niceness_with_its_whole_session(wanted: int, tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.create()
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    child = Child(ProcessSpec(name="any", command=command, niceness=wanted), installation, dict(os.environ))
    child.start()
    assert child.identity is not None
    pid = child.identity.pid
    if wanted < 0 and not may_go_first():
        wanted = 0  # who may not, runs as ever
    try:
        assert os.getpriority(os.PRIO_PROCESS, pid) == wanted
        group = Path(f"/proc/{pid}/autogroup")
        if group.exists() and "autogroup" in group.read_text():
            assert group.read_text().endswith(f"nice {wanted}\n")
    finally:
        child.send(signal.SIGKILL)


def may_go_first() -> bool:
    """Whether this process has CAP_SYS_NICE; root in a container may lack it."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> 23 & 1)
