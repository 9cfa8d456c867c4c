"""Account and control events to rows of the read tables. Pure: rows go in, rows come out.

Rows are dictionaries by column name. :class:`Rows` holds what a batch touches: rows that change (loaded before, or new) by
primary key, and rows that are only added. Units and meanings stand in ``migrations/postgres``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from operator import itemgetter
from typing import Any

from skeet.core.accounts import (
    AccountEvent,
    AccountHalted,
    AccountOpened,
    BalanceDiffered,
    Breach,
    CommandDenied,
    ControlApplied,
    LedgerAccount,
    OrderDenied,
    OrderEvent,
    OrderFilled,
    PartitionEvent,
    Posting,
    RulesApplied,
    StateMarked,
)
from skeet.core.control import KillSwitchSet, LimitsSet, StrategyHalted, StrategyStarted, StrategyStopped
from skeet.core.errors import BugError
from skeet.core.ledger import assets_of
from skeet.core.positions import Position, apply_fill
from skeet.core.record import Meta, Record
from skeet.core.values import Side, exact_arithmetic
from skeet.projections.order_rows import after_event, new_order

Row = dict[str, Any]
Key = tuple[Any, ...]

PRIMARY_KEYS: Mapping[str, tuple[str, ...]] = {
    "accounts": ("account_id",),
    "balances": ("account_id", "asset"),
    "orders": ("order_id",),
    "positions": ("account_id", "book_id", "instrument_id"),
    "controls_applied": ("partition",),
    "kill_switches": ("scope",),
    "limits": ("scope",),
    "strategies": ("instance_id",),
}
"""Tables whose rows change."""


def _key(columns: tuple[str, ...]) -> Callable[[Row], Key]:
    if len(columns) > 1:
        return itemgetter(*columns)
    name = columns[0]
    return lambda row: (row[name],)


KEY_OF: Mapping[str, Callable[[Row], Key]] = {table: _key(columns) for table, columns in PRIMARY_KEYS.items()}
"""The primary key of a row; called for every state that a fact leaves a row in."""

ADDED_TABLES = ("fills", "journal_entries", "denials", "balance_differences")
"""Tables whose rows are added once and never change."""

ZERO = Decimal(0)


@dataclass(slots=True)
class Rows:
    """What a batch touches."""

    changed: dict[str, dict[Key, Row]] = field(default_factory=lambda: {table: {} for table in PRIMARY_KEYS})
    added: dict[str, list[Row]] = field(default_factory=lambda: {table: [] for table in ADDED_TABLES})

    def put(self, table: str, row: Row) -> None:
        """Set a row by its primary key."""
        self.changed[table][KEY_OF[table](row)] = row


def keys_of(records: Iterable[Record[Any]]) -> dict[str, set[Key]]:
    """Primary keys of the rows that these records may change and that must be loaded before."""
    keys: dict[str, set[Key]] = {
        table: set() for table in ("accounts", "balances", "orders", "positions", "strategies")
    }
    for record in records:
        event, meta = record.event, _meta(record)
        if isinstance(event, AccountEvent) and not isinstance(event, PartitionEvent):
            keys["accounts"].add((meta.account_id,))
            keys["balances"] |= {(meta.account_id, posting.asset) for posting in _postings(event)}
        if isinstance(event, OrderEvent):
            keys["orders"].add((event.order_id,))
        if isinstance(event, OrderFilled):
            keys["positions"].add((meta.account_id, event.book_id, event.instrument_id))
        if isinstance(event, (StrategyStarted, StrategyStopped, StrategyHalted)):
            keys["strategies"].add((event.instance_id,))
    return keys


def fold(rows: Rows, record: Record[Any]) -> None:
    """Apply one record of ``accounts.events.v1`` or ``control.events.v1``. Never fails on a recorded event."""
    with exact_arithmetic():
        match record.event:
            case ControlApplied():
                rows.put("controls_applied", _control_applied(record))
            case RulesApplied() | StateMarked():
                pass  # about the desk's own memory; no table shows them
            case AccountEvent():
                _fold_account_event(rows, record)
            case _:
                _fold_control_event(rows, record)


def _fold_account_event(rows: Rows, record: Record[Any]) -> None:
    event, meta = record.event, _meta(record)
    _fold_account(rows, event, meta)
    _fold_postings(rows, event, meta)
    match event:
        case BalanceDiffered():
            rows.added["balance_differences"].append(_balance_difference(event, meta))
        case CommandDenied():
            rows.added["denials"].append(_denial(meta, event.command_id, event.command, event.breaches))
        case OrderDenied():
            rows.added["denials"].append(_denial(meta, event.order_id, "SubmitOrder", event.breaches))
        case _:
            pass
    if isinstance(event, OrderEvent):
        current = rows.changed["orders"].get((event.order_id,))
        # A denial of what was decided before is of a command that came again long after: the order is what it was.
        if current is None or not isinstance(event, OrderDenied):
            rows.put("orders", after_event(current or new_order(event, meta), event, meta))
    if isinstance(event, OrderFilled):
        rows.added["fills"].append(_fill(event, meta))
        _fold_position(rows, event, meta)


def _fold_account(rows: Rows, event: AccountEvent, meta: Meta) -> None:
    row = rows.changed["accounts"].get((meta.account_id,)) or {
        "account_id": meta.account_id,
        "tenant_id": meta.tenant_id,
        "venue": None,
        "label": None,
        "opened_at": None,
        "halted_reason": None,
    }
    row |= {
        "stream_version": meta.stream_version,
        "last_event_id": meta.event_id,
        "last_event_at": meta.ts_event,
    }
    if isinstance(event, AccountOpened):
        row |= {"venue": event.venue, "label": event.label, "opened_at": meta.ts_event}
    if isinstance(event, AccountHalted):
        row["halted_reason"] = event.reason
    rows.put("accounts", row)


def _fold_postings(rows: Rows, event: AccountEvent, meta: Meta) -> None:
    for line, posting in enumerate(_postings(event), start=1):
        rows.added["journal_entries"].append(
            {
                "account_id": meta.account_id,
                "stream_version": meta.stream_version,
                "line": line,
                "event_id": meta.event_id,
                "event_type": type(event).__name__,
                "order_id": event.order_id if isinstance(event, OrderEvent) else None,
                **asdict(posting),
                "ts_event": meta.ts_event,
            }
        )
        _fold_balance(rows, posting, meta)


def _fold_balance(rows: Rows, posting: Posting, meta: Meta) -> None:
    column = {LedgerAccount.FREE: "free", LedgerAccount.RESERVED: "reserved"}.get(posting.ledger)
    if column is None:
        return
    row = rows.changed["balances"].get((meta.account_id, posting.asset)) or {
        "account_id": meta.account_id,
        "asset": posting.asset,
        "free": ZERO,
        "reserved": ZERO,
    }
    row[column] += posting.amount
    row["stream_version"] = meta.stream_version
    rows.put("balances", row)


def _fold_position(rows: Rows, event: OrderFilled, meta: Meta) -> None:
    key = (meta.account_id, event.book_id, event.instrument_id)
    row = rows.changed["positions"].get(key) or {}
    names = ("quantity", "cost", "realized_pnl", "fees", "round_trips")
    before = Position(**{name: row[name] for name in names}) if row else Position()
    after = position_after(before, event)
    rows.put(
        "positions",
        dict(zip(PRIMARY_KEYS["positions"], key, strict=True))
        | {name: getattr(after, name) for name in (*names, "average_price")}
        | {"stream_version": meta.stream_version},
    )


def position_after(position: Position, event: OrderFilled) -> Position:
    """The position after a fill. A fee in the quote asset is a cost; one taken out of a purchase makes it smaller; one in
    a third asset is in the journal only."""
    base, quote = assets_of(event.instrument_id)
    fee = event.fee if event.fee_asset == quote else ZERO
    taken = event.fee if event.fee_asset == base and event.side is Side.BUY else ZERO
    return apply_fill(position, event.side, event.quantity - taken, event.price, fee)


def _fill(event: OrderFilled, meta: Meta) -> Row:
    names = ("order_id", "book_id", "instrument_id", "venue_order_id", "trade_id", "side")
    amounts = ("quantity", "price", "fee", "fee_asset", "liquidity")
    return {
        "account_id": meta.account_id,
        "stream_version": meta.stream_version,
        "event_id": meta.event_id,
        **{name: getattr(event, name) for name in (*names, *amounts)},
        "ts_event": meta.ts_event,
        "ts_init": meta.ts_init,
    }


def _denial(meta: Meta, command_id: str, command: str, breaches: tuple[Breach, ...]) -> Row:
    return {
        "account_id": meta.account_id,
        "stream_version": meta.stream_version,
        "event_id": meta.event_id,
        "command_id": command_id,
        "command": command,
        "breaches": json.dumps([asdict(breach) for breach in breaches]),
        "ts_event": meta.ts_event,
    }


def _balance_difference(event: BalanceDiffered, meta: Meta) -> Row:
    return {
        "account_id": meta.account_id,
        "stream_version": meta.stream_version,
        "event_id": meta.event_id,
        **asdict(event),
        "ts_event": meta.ts_event,
    }


def _control_applied(record: Record[ControlApplied]) -> Row:
    meta = _meta(record)
    return {
        "partition": record.at.partition,
        "control_offset": record.event.control_offset,
        "stream_version": meta.stream_version,
        "ts_event": meta.ts_event,
    }


def _fold_control_event(rows: Rows, record: Record[Any]) -> None:
    event, meta = record.event, _meta(record)
    placed = {"control_offset": record.at.offset, "ts_event": meta.ts_event}
    match event:
        case KillSwitchSet():
            rows.put("kill_switches", asdict(event) | {"principal_id": meta.principal_id} | placed)
        case LimitsSet():
            rows.put("limits", asdict(event) | {"principal_id": meta.principal_id} | placed)
        case StrategyStarted():
            started = {
                name: getattr(event, name) for name in ("instance_id", "strategy", "instrument_id", "code_version")
            }
            owner = {"account_id": meta.account_id or None, "tenant_id": meta.tenant_id}
            parameters = {"parameters": _json_or_null(event.parameters), "status": "STARTED", "reason": None}
            rows.put("strategies", started | owner | parameters | placed)
        case StrategyStopped():
            _end_strategy(rows, event.instance_id, "STOPPED", event.reason, meta, placed)
        case StrategyHalted():
            reason = f"{event.handler}: {event.error} ({event.file}:{event.line})"
            _end_strategy(rows, event.instance_id, "HALTED", reason, meta, placed)
        case _:  # Genesis and marks are in the history only
            pass


def _end_strategy(rows: Rows, instance_id: str, status: str, reason: str, meta: Meta, placed: Row) -> None:
    unknown = dict.fromkeys(("strategy", "instrument_id", "parameters", "code_version"))
    row = rows.changed["strategies"].get((instance_id,)) or {
        "instance_id": instance_id,
        "account_id": meta.account_id or None,
        "tenant_id": meta.tenant_id,
        **unknown,
    }
    rows.put("strategies", row | {"status": status, "reason": reason} | placed)


def _json_or_null(text: str) -> str | None:
    """The text when it is JSON that a jsonb column takes (which has no NUL); a recorded event must not fail the fold."""
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return None
    return None if "\\u0000" in text else text


def _postings(event: AccountEvent) -> tuple[Posting, ...]:
    postings: tuple[Posting, ...] = getattr(event, "postings", ())
    return postings


def _meta(record: Record[Any]) -> Meta:
    if record.meta is None:
        raise BugError(f"{record.at}: {type(record.event).__name__} has no envelope")
    return record.meta
