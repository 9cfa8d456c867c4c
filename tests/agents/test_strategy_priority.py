"""Instances that keep the processor stand behind those that do not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from installation import eventually

from skeet.agents.strategy_priority import (
    BURST_S,
    CALM_S,
    FEW,
    LEAST,
    LOOK_S,
    NICENESS,
    RANK,
    SHARE,
    Demand,
    Priorities,
    Seen,
    least_of,
    sight,
)

SPIN = "while True: pass"
SLEEP = "import time\nwhile True: time.sleep(0.005)"


def after(seconds: float, ran: float, waited: float = 0.0, demand: Demand | None = None, start: float = 0.0) -> Demand:
    """The judgement after looks over the time, at a constant load."""
    demand = demand or Demand()
    for number in range(int(seconds / LOOK_S) + 1):
        now = number * LOOK_S
        demand.judge(Seen(start + now, start + ran * now, start + waited * now))
    return demand


@pytest.mark.parametrize(("ran", "waited"), [(1.0, 0.0), (0.5, 0.5)])
def test_who_never_sleeps_is_behind_before_a_tenth_of_a_second(ran: float, waited: float) -> None:
    assert after(0.1, ran, waited).behind


def test_a_moderate_load_never_is() -> None:
    assert not after(60, SHARE * 0.95).behind


def test_short_work_now_and_then_does_not_keep_it_behind() -> None:
    demand, ran_s = after(1, 1.0), 1.0
    for look in range(int((CALM_S + 1) / LOOK_S)):
        ran_s += 0.015 if look % 50 == 0 else 0.0005  # a checkpoint, a collection of garbage, once a second
        demand.judge(Seen(1 + look * LOOK_S, ran_s))
    assert not demand.behind


def test_one_that_the_machine_starves_is_not_accused_of_waiting() -> None:
    assert not after(60, 0.09, 0.5).behind
    assert not after(60, 0.09, 0.91).behind


def test_a_few_may_each_take_a_quarter_of_the_machine_together() -> None:
    assert [least_of(instances, 2) for instances in (1, 2, 4, 5, 50)] == [FEW, FEW, 0.125, LEAST, LEAST]
    priorities = Priorities()
    with process(SLEEP) as one, process(SLEEP) as other:
        priorities.follow([one, other])
    assert {demand.least for demand in priorities.followed()} == {least_of(2, os.cpu_count() or 1)}


def test_one_of_two_gets_out_from_behind_although_it_stood_in_line_there() -> None:
    starved = {"ran": 0.16, "waited": 0.8}  # the demo's strategies, on two cores without a free moment
    assert after(CALM_S + 1, **starved, demand=after(1, 1.0), start=10).behind
    assert not after(CALM_S + 1, **starved, demand=after(1, 1.0, demand=Demand(least=least_of(2, 2))), start=10).behind


def test_one_short_burst_is_free() -> None:
    assert not after(BURST_S, 1.0).behind


def test_a_calm_one_comes_forward_again_a_busy_one_does_not() -> None:
    assert not after(CALM_S + 1, 0.09, 0.5, demand=after(1, 1.0), start=10).behind
    assert after(CALM_S + 1, 0.5, demand=after(1, 1.0), start=10).behind


def test_a_look_that_came_late_accuses_nobody() -> None:
    demand = after(1, 0.1)
    demand.judge(Seen(40.0, 0.1 + SHARE * 0.4))
    assert not demand.behind


@contextmanager
def process(code: str) -> Iterator[int]:
    started = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    try:
        yield started.pid
    finally:
        started.kill()
        started.wait()


def test_a_spinning_process_is_put_behind_and_its_neighbour_is_not() -> None:
    with process(SPIN) as spinning, process(SLEEP) as sleeping:
        priorities = Priorities()
        priorities.follow([spinning, sleeping])

        def behind(pid: int) -> bool:
            group = Path(f"/proc/{pid}/autogroup")  # the weight of its session, which is what others see
            weighed = not group.exists() or group.read_text().endswith(f"nice {NICENESS}\n")
            return os.getpriority(os.PRIO_PROCESS, pid) == NICENESS and weighed

        def looked_until_behind() -> bool:
            priorities.look()
            return behind(spinning)

        eventually(looked_until_behind, 20, "the niceness of who spins")
        assert not behind(sleeping)


def test_one_that_takes_little_goes_before_whoever_is_on_no_orders_way() -> None:
    with process(SLEEP) as pid:
        Priorities().follow([pid])
        assert os.getpriority(os.PRIO_PROCESS, pid) == (
            RANK if os.geteuid() == 0 else os.getpriority(os.PRIO_PROCESS, 0)
        )


def test_a_process_that_ended_is_no_error() -> None:
    with process(SLEEP) as pid:
        priorities = Priorities()
        priorities.follow([pid])
    priorities.look()
    with pytest.raises(OSError, match=r"."):
        sight(pid)
