"""What the desk counts and times: order events once they are committed, and two hops of an order's way."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from skeet.agents.desk_outside import Outside
from skeet.core.accounts import AccountEvent, OrderAuthorized, OrderCanceled, OrderDenied, OrderFilled, OrderRejected
from skeet.core.commands import SubmitOrder
from skeet.core.record import Record
from skeet.core.values import NS_PER_S
from skeet.metrics import Source, counter, declare, histogram

OUTCOMES: Mapping[type[Any], str] = {
    OrderAuthorized: "authorised",
    OrderDenied: "denied",
    OrderRejected: "rejected",
    OrderFilled: "filled",
    OrderCanceled: "canceled",
}


class DeskMetrics:
    """Of one desk. Nothing counts before :meth:`committed`: an aborted transaction is decided again."""

    def __init__(self, outside: Outside) -> None:
        declare("skeet_hop_latency_seconds", ("cause_to_command", "command_to_decision"))
        self._cause_to_command = histogram("skeet_hop_latency_seconds", "cause_to_command")
        self._command_to_decision = histogram("skeet_hop_latency_seconds", "command_to_decision")
        self._orders = {kind: counter("skeet_orders_total", outcome) for kind, outcome in OUTCOMES.items()}
        self._dead_letters = counter("skeet_dead_letters_total", "desk")
        self._outside = outside
        self._kinds: list[type[AccountEvent]] = []
        self._commands_ns: list[int] = []
        Source("skeet_kill_switch_active", self._kill_switches).register()

    def deciding(self, record: Record[Any]) -> None:
        """An input is about to be decided; only orders are timed."""
        if isinstance(record.event, SubmitOrder):
            self._cause_to_command.observe(max(0, record.log_ns - record.event.ts_cause) / NS_PER_S)
            self._commands_ns.append(record.log_ns)

    def decided(self, events: Sequence[AccountEvent]) -> None:
        """These will be committed."""
        self._kinds += [type(event) for event in events if type(event) in self._orders]

    def dead_letter(self) -> None:
        """An input was given up."""
        self._dead_letters.inc()

    def committed(self) -> None:
        """What was decided since the last call is in the log."""
        if self._kinds:
            for kind in self._kinds:
                self._orders[kind].inc()
            self._kinds.clear()
        if self._commands_ns:
            now_ns = time.time_ns()
            for log_ns in self._commands_ns:
                self._command_to_decision.observe(max(0, now_ns - log_ns) / NS_PER_S)
            self._commands_ns.clear()

    def forget(self) -> None:
        """What was decided since the last commit was thrown away."""
        self._kinds.clear()
        self._commands_ns.clear()

    def _kill_switches(self) -> Mapping[tuple[str, ...], float]:
        kills = {scope: kill.active for scope, kill in self._outside.control.kills.items()}
        return {(scope,): float(active) for scope, active in ({"platform": False} | kills).items()}
