"""What the desk counts: nothing before its transaction is in the log."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from skeet.agents.desk_metrics import DeskMetrics
from skeet.core.accounts import OrderAuthorized, OrderFilled
from skeet.core.commands import SubmitOrder
from skeet.core.controls import Control
from skeet.core.record import Record, TopicPosition
from skeet.core.values import NS_PER_S
from skeet.metrics import REGISTRY


@dataclass
class Outside:
    control: Control


def metrics() -> DeskMetrics:
    outside: Any = Outside(Control())
    return DeskMetrics(outside)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def bare(kind: type[Any], **fields: Any) -> Any:
    """An event of which only these fields are looked at."""
    event = object.__new__(kind)
    for name, given in fields.items():
        object.__setattr__(event, name, given)
    return event


def command(cause_ns: int, log_ns: int) -> Record[Any]:
    at = TopicPosition("orders.commands.v1", 0, 0)
    return Record(event=bare(SubmitOrder, ts_cause=cause_ns), meta=None, at=at, log_ns=log_ns)


def test_orders_count_when_they_are_committed_and_not_when_they_are_thrown_away() -> None:
    desk, before = metrics(), value("skeet_orders_total", outcome="authorised")
    desk.decided([bare(OrderAuthorized), bare(OrderFilled)])
    assert value("skeet_orders_total", outcome="authorised") == before
    desk.forget()
    desk.committed()
    assert value("skeet_orders_total", outcome="authorised") == before
    desk.decided([bare(OrderAuthorized)])
    desk.committed()
    desk.committed()
    assert value("skeet_orders_total", outcome="authorised") == before + 1


def test_hops_are_timed_from_cause_to_log_and_from_log_to_commit() -> None:
    desk, now_ns = metrics(), time.time_ns()
    before = {
        hop: value("skeet_hop_latency_seconds_sum", hop=hop) for hop in ("cause_to_command", "command_to_decision")
    }
    desk.deciding(command(now_ns - 3 * NS_PER_S, now_ns - 2 * NS_PER_S))
    desk.committed()
    took = {hop: value("skeet_hop_latency_seconds_sum", hop=hop) - before[hop] for hop in before}
    assert abs(took["cause_to_command"] - 1) < 0.01
    assert 2 <= took["command_to_decision"] < 10


def test_dead_letters_and_the_kill_switch_are_exposed() -> None:
    desk, before = metrics(), value("skeet_dead_letters_total", role="desk")
    desk.dead_letter()
    assert value("skeet_dead_letters_total", role="desk") == before + 1
    assert value("skeet_kill_switch_active", scope="platform") == 0
