"""What a chaos run tells at its end, and the witness it trusts: the exchange's own journal."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from skeet.cli.output import console, table
from skeet.verify.journal import FILE, read_journal


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultResult:
    """One fault. ``recovery_s``: from its end until an order authorised after it was filled, None when none was in time;
    ``whole_s``: until every process was ready; ``traded``: orders filled until the next fault."""

    at_s: float
    what: str
    fired: bool = True
    note: str = ""
    recovery_s: float | None = None
    whole_s: float | None = None
    traded: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosReport:
    """The run. ``complaints`` say in words what is wrong; none means clean."""

    seed: int
    minutes: float
    faults: list[FaultResult]
    traded: int
    p50_s: float | None
    max_s: float | None
    verify_exit: int
    complaints: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def show(self) -> None:
        """Print it."""
        out = console()
        rows = [_row(fault) for fault in self.faults]
        out.print(
            table(f"Faults of seed {self.seed}", ("at", "fault", "trades again", "whole again", "orders", ""), rows)
        )
        fired = sum(fault.fired for fault in self.faults)
        out.print(
            f"{fired} faults, {self.traded} orders traded; a new order filled after {_seconds(self.p50_s)} (median), "
            f"{_seconds(self.max_s)} (longest)",
            highlight=False,
        )
        for complaint in self.complaints:
            out.print(f"[red]wrong:[/red] {complaint}", highlight=False)
        out.print("chaos: [green]clean[/green]" if self.clean else "chaos: [red]not clean[/red]", highlight=False)


def _row(fault: FaultResult) -> tuple[str, ...]:
    note = fault.note or ("" if fault.fired else "not reached")
    return (
        f"{fault.at_s:.0f} s",
        fault.what,
        _seconds(fault.recovery_s),
        _seconds(fault.whole_s),
        str(fault.traded),
        note,
    )


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f} s"


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed (nearest rank); None of none."""
    if not values:
        return None
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def doubled_orders(data: Path) -> list[str]:
    """Client order ids that the exchange accepted, and so perhaps executed, more than once: a sentence for each."""
    accepted: dict[tuple[str, str], list[int]] = defaultdict(list)
    executed: dict[tuple[str, str], int] = defaultdict(int)
    for (account, _, _), order in read_journal(data / FILE).orders.items():
        key = (account, order.accepted["client_order_id"])
        accepted[key].append(order.line)
        executed[key] += order.executed > 0
    return [
        f"client order id {client_id} of {account} was accepted {len(lines)} times and executed {executed[account, client_id]} "
        f"times at the exchange (journal lines {', '.join(map(str, lines))})"
        for (account, client_id), lines in accepted.items()
        if len(lines) > 1
    ]
