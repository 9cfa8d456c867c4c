"""Given samples of a process, when they are judged, then this verdict."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest

from skeet.agents.strategy_oversight import MAX_LINE, MAX_READ, Conduct, Overseer, Sample, Verdict
from skeet.agents.strategy_watch import Reporter
from skeet.config import StrategyLimits

MIB = 1024 * 1024
LIMITS = StrategyLimits(event_ms=1_000, memory_mb=200, cpu_percent=50, cpu_window_s=10)
QUIET = Sample(now_s=0.0, cpu_s=0.0, rss=50 * MIB, pulsed=True, ready=True, stopped=False)


def judged(*samples: Sample) -> Verdict | None:
    conduct = Conduct(LIMITS)
    for sample in samples:
        verdict = conduct.judge(sample)
        if verdict is not None:
            return verdict
    return None


def over(seconds: float, cpu: float, **changes: object) -> list[Sample]:
    """A sample every 0.2 s, with this share of a core used."""
    count = round(seconds * 5)
    return [replace(QUIET, now_s=100 + n / 5, cpu_s=n / 5 * cpu, **changes) for n in range(count + 1)]  # type: ignore[arg-type]


def test_quiet_process_is_left_alone() -> None:
    assert judged(*over(60, 0.4)) is None


def test_memory_over_the_limit_halts_at_once() -> None:
    verdict = judged(QUIET, replace(QUIET, now_s=0.2, rss=201 * MIB))
    assert verdict is not None
    assert verdict.reason == "memory"
    assert "strategy.limits.memory_mb" in verdict.error


def test_processor_is_averaged_over_the_whole_window() -> None:
    assert judged(*over(9.8, 1.0)) is None
    verdict = judged(*over(10.2, 0.6))
    assert verdict is not None
    assert verdict.reason == "cpu"
    assert "60 % of a core for 10 s" in verdict.error


def test_start_up_is_not_counted_but_does_not_last_for_ever() -> None:
    assert judged(*over(60, 1.0, ready=False)) is None
    verdict = judged(*over(140, 1.0, ready=False))
    assert verdict is not None
    assert verdict.reason == "cpu"


def test_missing_pulse_halts_a_process_that_runs() -> None:
    verdict = judged(QUIET, *over(3.2, 1.0, pulsed=False))
    assert verdict is not None
    assert verdict.reason == "time"


def test_process_that_the_machine_starves_is_silent_without_blame_but_not_for_ever() -> None:
    assert judged(QUIET, *over(55, 0.04, pulsed=False)) is None
    verdict = judged(QUIET, *over(62, 0.0, pulsed=False))
    assert verdict is not None
    assert verdict.reason == "time"


def test_stopped_process_and_a_late_look_are_no_missing_pulse() -> None:
    assert judged(QUIET, *over(70, 0.0, pulsed=False, stopped=True)) is None
    assert judged(QUIET, replace(QUIET, now_s=500.0, pulsed=False), replace(QUIET, now_s=500.2)) is None


@pytest.fixture
def line() -> tuple[Overseer, int]:
    reading, writing = os.pipe()
    return Overseer(os.getpid(), reading, StrategyLimits(memory_mb=64 * 1024)), writing


def test_report_of_a_halt_arrives(line: tuple[Overseer, int]) -> None:
    overseer, writing = line
    Reporter(writing).halted("time", "on_trade", ("/x/strategy.py", 7), "did not come back")
    expected = Verdict(reason="time", error="did not come back", handler="on_trade", file="/x/strategy.py", line=7)
    assert overseer.look() == expected


def test_whatever_an_instance_writes_is_taken_in_bounded_pieces_and_halts_nobody(line: tuple[Overseer, int]) -> None:
    overseer, writing = line
    os.set_blocking(writing, False)
    for rubbish in (b"x" * MAX_READ, b"[" * 3_000 + b"\n", b'{"pulse": {}}\n', b"\xff\x00\n", b"[1]\nnull\n"):
        os.write(writing, rubbish[: MAX_READ // 2])
        assert overseer.look() is None
        assert len(overseer._rest) <= MAX_LINE


def test_place_comes_from_a_dump_of_the_stack(line: tuple[Overseer, int]) -> None:
    overseer, writing = line
    dump = (
        b"Current thread 0x1 (most recent call first):\n"
        b'  File "/usr/lib/python3.11/re/__init__.py", line 166 in match\n'
        b'  File "/home/me/strategies/mine.py", line 12 in helper\n'
        b'  File "/home/me/strategies/mine.py", line 40 in on_quote\n'
        b'  File "/opt/skeet/core/strategy/machine.py", line 200 in _handle\n'
    )
    os.write(writing, dump)
    overseer.look()
    overseer._process = None
    verdict = Verdict(reason="time", error="late")
    assert overseer.placed(verdict) == verdict, "a process that is gone cannot be asked"
    assert overseer._frames[1] == ("/home/me/strategies/mine.py", 12)


ORPHAN = """
import os, sys, threading
from skeet.agents.strategy_watch import Reporter, Watch
Watch(Reporter(-1), limit_ms=1_000, parent=int(sys.argv[1])).start()
threading.Event().wait(20)
"""


def test_instance_whose_parent_died_before_it_looked_ends_at_once() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    orphan = subprocess.run([sys.executable, "-c", ORPHAN, str(ended.pid)], check=False, timeout=60)
    assert orphan.returncode == 1
