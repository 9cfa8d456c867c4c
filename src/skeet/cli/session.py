"""What a session did, folded from the log: orders, fills, profit per book, and where the time between tick and fill went.

Pure: :class:`SessionFold` takes records in any order of partitions and is asked for its tables at the end. The demo and
``skeet bench latency`` print them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal
from statistics import quantiles
from typing import Any

from skeet.core.accounts import OrderAuthorized, OrderDenied, OrderFilled
from skeet.core.commands import SubmitOrder
from skeet.core.positions import Position, apply_fill
from skeet.core.record import Record
from skeet.core.reports import FillReported, SubmitAcknowledged, SubmitAttempted
from skeet.core.values import NS_PER_MS, LiquiditySide

HOPS: tuple[tuple[str, str, str], ...] = (
    ("frame → cause in the log", "received", "cause"),
    ("cause → command", "cause", "command"),
    ("command → decision", "command", "authorized"),
    ("decision → attempt", "authorized", "attempt"),
    ("attempt → socket", "attempt", "written"),
    ("socket → answer", "written", "answered"),
    ("socket → fill in the log (taker)", "written", "fill"),
    ("tick → socket", "received", "written"),
    ("tick → fill (taker)", "received", "fill"),
)
"""Name, from, to. Log times have millisecond resolution; frame, socket and answer are nanoseconds of one clock."""

MARKET_CAUSES = ("market.", "signals.")
"""Orders made because of a tick. A quote put back after a fill answers the fill; its distance to a tick means nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HopRow:
    """One hop over all orders, in ms. ``count`` orders had both ends."""

    hop: str
    count: int
    p50_ms: float
    p99_ms: float


@dataclass(slots=True, kw_only=True)
class BookResult:
    """What one book (strategy instance) did in one instrument."""

    account_id: str
    book_id: str
    instrument_id: str
    orders: int = 0
    denied: int = 0
    maker_fills: int = 0
    taker_fills: int = 0
    position: Position = field(default_factory=Position)


@dataclass(slots=True)
class SessionFold:
    """The fold. Feed it records of commands, account events and venue reports; others only count."""

    events_by_topic: Counter[str] = field(default_factory=Counter)
    _books: dict[tuple[str, str, str], BookResult] = field(default_factory=dict)
    _times: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, records: Iterable[Record[Any]]) -> SessionFold:
        """Fold the records in and return itself."""
        for record in records:
            self.events_by_topic[record.at.topic] += 1
            self._add(record)
        return self

    def _add(self, record: Record[Any]) -> None:
        event, meta, log_ns = record.event, record.meta, record.log_ns
        if meta is None:
            return
        match event:
            case SubmitOrder() if "command" in self._times[meta.event_id]:
                pass  # again under its id: the desk ignored it
            case SubmitOrder():
                if event.rule:
                    self._times[meta.event_id] |= {"cause": event.ts_cause, "command": log_ns}
                if meta.cause_at.startswith(MARKET_CAUSES):
                    self._times[meta.event_id]["received"] = meta.ts_init
            case OrderAuthorized():
                self._times[event.order_id]["authorized"] = log_ns
                self._book(meta.account_id, event).orders += 1
            case OrderDenied():
                self._book(meta.account_id, event).denied += 1
            case SubmitAttempted():
                self._times[event.order_id]["attempt"] = log_ns
            case SubmitAcknowledged() if event.written_ns:
                self._times[event.order_id] |= {"written": event.written_ns, "answered": event.answered_ns}
            case FillReported() if event.liquidity is LiquiditySide.TAKER:
                self._times[event.order_id].setdefault("fill", log_ns)
            case OrderFilled():
                self._fill(self._book(meta.account_id, event), event)
            case _:
                pass

    def _book(self, account_id: str, event: OrderAuthorized | OrderDenied | OrderFilled) -> BookResult:
        key = (account_id, event.book_id, event.instrument_id)
        if key not in self._books:
            self._books[key] = BookResult(
                account_id=account_id, book_id=event.book_id, instrument_id=event.instrument_id
            )
        return self._books[key]

    def _fill(self, book: BookResult, event: OrderFilled) -> None:
        base, _, quote = event.instrument_id.partition(":")[2].partition("/")
        fee = event.fee if event.fee_asset == quote else Decimal(0)
        quantity = event.quantity - event.fee if event.fee_asset == base and event.side == "BUY" else event.quantity
        book.position = apply_fill(book.position, event.side, quantity, event.price, fee)
        if event.liquidity is LiquiditySide.MAKER:
            book.maker_fills += 1
        else:
            book.taker_fills += 1

    def books(self) -> list[BookResult]:
        """Results per account, book and instrument, sorted."""
        return [self._books[key] for key in sorted(self._books)]

    def hops(self) -> list[HopRow]:
        """Median and 99th percentile of each hop, over the orders of strategies; hops nobody took are left out."""
        rows = ((hop, self._durations_ms(start, end)) for hop, start, end in HOPS)
        return [
            HopRow(hop=hop, count=len(ms), p50_ms=_percentile(ms, 50), p99_ms=_percentile(ms, 99))
            for hop, ms in rows
            if ms
        ]

    def _durations_ms(self, start: str, end: str) -> list[float]:
        both = (times for times in self._times.values() if start in times and end in times)
        return [(times[end] - times[start]) / NS_PER_MS for times in both]


def hop_cells(row: HopRow) -> tuple[str | int, ...]:
    """The row as a table shows it: hop, orders, p50, p99."""
    return (row.hop, row.count, f"{row.p50_ms:.1f}", f"{row.p99_ms:.1f}")


def _percentile(values: list[float], percent: int) -> float:
    return values[0] if len(values) == 1 else quantiles(values, n=100, method="inclusive")[percent - 1]
