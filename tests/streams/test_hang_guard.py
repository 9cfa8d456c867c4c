"""A call that does not come back ends the process; one that does, does not."""

from __future__ import annotations

import subprocess
import sys

from skeet.streams.hang_guard import EXIT_CODE

PROGRAM = """
import sys, time
from skeet.streams.hang_guard import HangGuard
guard = HangGuard("commit", float(sys.argv[1]))
with guard:
    time.sleep(float(sys.argv[2]))
time.sleep(1.5)
"""


def ended(limit_s: float, takes_s: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", PROGRAM, str(limit_s), str(takes_s)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_process_whose_call_hangs_ends_and_says_why() -> None:
    done = ended(limit_s=0.1, takes_s=60)
    assert done.returncode == EXIT_CODE
    assert "commit" in done.stdout + done.stderr


def test_process_whose_call_returns_in_time_goes_on_past_the_limit() -> None:
    assert ended(limit_s=1.0, takes_s=0).returncode == 0


PROTOCOL = """
import time
from skeet.streams import transactional
from skeet.streams.hang_guard import HangGuard
transactional._call(HangGuard("transaction", 0.1), time.sleep, 60)
"""


def test_a_single_call_of_the_transaction_protocol_that_hangs_ends_the_process() -> None:
    done = subprocess.run([sys.executable, "-c", PROTOCOL], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == EXIT_CODE
