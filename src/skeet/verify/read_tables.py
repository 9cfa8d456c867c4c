"""I4: Postgres holds what the log says up to the position stored in the same transaction, row for row.

Every row is looked up by its key in the sums and keys of :mod:`skeet.verify.books`, and every key in the rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from skeet.config import Settings
from skeet.connections.postgres import postgres_options, postgres_refusals
from skeet.verify.amounts import from_avro, from_decimal, shown
from skeet.verify.books import Books, OrderFacts, Values
from skeet.verify.controls import Controls
from skeet.verify.findings import CannotVerify, Check
from skeet.verify.log import Entry, Place

ACCOUNT_EVENTS = "accounts.events.v1"
CONTROL_EVENTS = "control.events.v1"
TURNED_AWAY = frozenset({"DeadLetter", "UnknownEvent"})
"""What the desk echoes in the place of a control record's type when nobody may act on it."""
CONNECT_TIMEOUT_S = 10
WIDE_SCALE = 36
"""Decimal places of products of two amounts."""

TABLES = (
    "log_positions", "accounts", "balances", "orders", "fills", "positions", "journal_entries", "denials",
    "balance_differences", "kill_switches", "limits", "strategies",
)  # fmt: skip

Row = dict[str, Any]


class ReadTables:
    """Reads all tables in one snapshot first, then collects the log up to the positions in that snapshot."""

    def __init__(self, settings: Settings) -> None:
        self.check = Check(
            name="I4", title="Postgres is the fold of the log", must_not_be_empty=("accounts", "balances", "orders")
        )
        self._tables = _snapshot(settings)
        self._positions: dict[Place, Row] = {
            (row["topic"], row["partition"]): row for row in self._tables["log_positions"]
        }
        self._delivered: dict[Place, int] = dict.fromkeys(self._positions, 0)
        self._books = Books()
        self._control_entries: list[Entry] = []
        self._turned_away: set[int] = set()

    def add(self, entry: Entry) -> None:
        """Take one record of the account or control topic; those past the stored position are not compared."""
        place = (entry.topic, entry.partition)
        position = self._positions.get(place)
        if position is None or entry.offset >= position["next_offset"]:
            return
        self._delivered[place] += 1
        if entry.schema is not None:
            self._take(entry)

    def _take(self, entry: Entry) -> None:
        if entry.topic == CONTROL_EVENTS:
            self._control_entries.append(entry)
            return
        self._books.add(entry)
        if entry.schema and entry.schema.name == "ControlApplied" and entry.values["control_event"] in TURNED_AWAY:
            self._turned_away.add(entry.values["control_offset"])

    def _folded_controls(self) -> Controls:
        """The control topic without what the desk turned away, which is known once the account topic is read."""
        controls = Controls(turned_away=frozenset(self._turned_away))
        for entry in self._control_entries:
            controls.add(entry)
        return controls

    def finish(self) -> Check:
        """Compare every table."""
        for place, row in self._positions.items():
            self._same(
                "log_positions",
                f"{place[0]}/{place[1]}",
                {"records": row["records"]},
                {"records": self._delivered[place]},
            )
        self._compare_balances()
        books, controls = self._books, self._folded_controls()
        self._compare("accounts", ("account_id",), {(a.account_id,): _account(a) for a in books.accounts.values()})
        self._compare("orders", ("order_id",), {(key,): _order(key, order) for key, order in books.orders.items()})
        self._compare(
            "fills", ("account_id", "stream_version"), {key: _fill(fill) for key, fill in books.fills.items()}
        )
        self._compare("journal_entries", ("account_id", "stream_version", "line"), _journal(books))
        self._compare("positions", ("account_id", "book_id", "instrument_id"), _positions(books), amend=_position_row)
        self._compare("denials", ("account_id", "stream_version"), _denials(books))
        self._compare("balance_differences", ("account_id", "stream_version"), _differences(books))
        self._compare("kill_switches", ("scope",), {(s,): _kill(o, v) for s, (o, v) in controls.kills.items()})
        self._compare("limits", ("scope",), {(s,): _limit(o, v) for s, (o, v) in controls.limits.items()})
        self._compare(
            "strategies", ("instance_id",), {(i,): _strategy(*found) for i, found in controls.strategies.items()}
        )
        self.check.covers = f"to the stored positions of {len(self._positions)} partitions"
        return self.check

    def _compare(
        self, table: str, key: tuple[str, ...], expected: dict[Any, Row], amend: Callable[[Row], Row] | None = None
    ) -> None:
        """Hold the table's rows against the expected ones: the named columns of each, none missing, none surplus."""
        self.check.count(table, len(expected))
        left = dict(expected)
        for row in self._tables[table]:
            identity = tuple(row[name] for name in key)
            wanted = left.pop(identity, None)
            where = " ".join(map(str, identity))
            if wanted is None:
                self.check.differs(f"{table} row {where}: the log knows no such key")
            else:
                self._same(table, where, amend(row) if amend else row, wanted)
        for identity in left:
            self.check.differs(f"{table} row {' '.join(map(str, identity))} is missing")

    def _same(self, table: str, where: str, row: Row, wanted: Row) -> None:
        for column, value in wanted.items():
            if not _equal(row[column], value):
                self.check.differs(
                    f"{table} row {where}, column {column}: stored {_text(row[column])}, the log says {_text(value)}"
                )

    def _compare_balances(self) -> None:
        expected: dict[Any, Row] = {}
        for account in self._books.accounts.values():
            for asset in sorted(account.free.keys() | account.reserved.keys()):
                expected[account.account_id, asset] = {
                    "free": Units(account.free.get(asset, 0)),
                    "reserved": Units(account.reserved.get(asset, 0)),
                    "stream_version": account.moved_at[asset],
                }
        self._compare("balances", ("account_id", "asset"), expected)


class Units(int):
    """An expected amount in units of 10^-18; compared with a stored numeric exactly."""

    scale = 18


class WideUnits(Units):
    """An expected product of amounts in units of 10^-36."""

    scale = WIDE_SCALE


def _equal(stored: Any, wanted: Any) -> bool:
    if isinstance(wanted, Units):
        return stored is not None and from_decimal(stored, wanted.scale) == int(wanted)
    return bool(stored == wanted)


def _text(value: Any) -> str:
    return (
        shown(int(value), value.scale)
        if isinstance(value, Units)
        else repr(value)
        if isinstance(value, str)
        else str(value)
    )


def _amount(raw: bytes | None) -> Units | None:
    units = from_avro(raw)
    return None if units is None else Units(units)


def _account(account: Any) -> Row:
    opened, halted, last = account.opened or {}, account.halted or {}, account.last
    return {
        "tenant_id": last["tenant_id"],
        "venue": opened.get("venue"),
        "label": opened.get("label"),
        "opened_at": opened.get("ts_event"),
        "halted_reason": halted.get("reason"),
        "stream_version": account.version,
        "last_event_id": last["event_id"],
        "last_event_at": last["ts_event"],
    }


DECISION_COLUMNS = (
    "account_id", "tenant_id", "principal_id", "book_id", "instrument_id", "side", "order_type", "code_version", "rule",
    "correlation_id", "cause_at", "ts_init",
)  # fmt: skip
DECISION_AMOUNTS = ("quantity", "limit_price", "reserved_amount", "reference_bid", "reference_ask")


def _order(order_id: str, order: OrderFacts) -> Row:
    decision, first_of, last_of = order.decision, order.first_of, order.last_of
    fill, filled = last_of.get("OrderFilled", {}), Units(order.filled)
    quantity = from_avro(decision.get("quantity")) or 0
    row: Row = {name: decision[name] for name in DECISION_COLUMNS if name in decision}
    row |= {name: _amount(decision.get(name)) for name in DECISION_AMOUNTS}
    return row | {
        "order_id": order_id,
        "time_in_force": decision.get("time_in_force"),
        "post_only": decision.get("post_only"),
        "reserved_asset": decision.get("reserved_asset"),
        "status": order.status,
        "filled_quantity": filled,
        "leaves_quantity": Units(max(0, quantity - filled) if order.open else 0),
        "filled_notional": WideUnits(order.notional),
        "average_price": _average(order),
        "fill_count": order.fills,
        "venue_order_id": fill.get("venue_order_id") or last_of.get("OrderAccepted", {}).get("venue_order_id"),
        "cancel_id": last_of.get("CancelAuthorized", {}).get("cancel_id"),
        "decided_at": decision["ts_event"],
        "submitted_at": first_of.get("OrderSubmitted", {}).get("sent_ts"),
        "accepted_at": first_of.get("OrderAccepted", {}).get("ts_event"),
        "first_fill_at": first_of.get("OrderFilled", {}).get("ts_event"),
        "last_fill_at": fill.get("ts_event"),
        "closed_at": order.closed_at,
        "first_version": decision["stream_version"],
        "last_version": order.last["stream_version"],
    }


def _average(order: OrderFacts) -> Units | None:
    """Notional ÷ quantity to 18 places, half to even."""
    if not order.filled:
        return None
    quotient, rest = divmod(order.notional, order.filled)
    up = 2 * rest > order.filled or (2 * rest == order.filled and quotient % 2)
    return Units(quotient + (1 if up else 0))


def _fill(values: Values) -> Row:
    texts = ("event_id", "order_id", "book_id", "instrument_id", "venue_order_id", "trade_id", "side", "fee_asset")
    row: Row = {name: values[name] for name in (*texts, "liquidity", "ts_event", "ts_init")}
    return row | {name: _amount(values[name]) for name in ("quantity", "price", "fee")}


def _journal(books: Books) -> dict[Any, Row]:
    return {
        key: {
            "event_id": line.event["event_id"],
            "event_type": line.event_type,
            "order_id": line.event.get("order_id"),
            "ledger": line.ledger,
            "asset": line.asset,
            "amount": Units(line.units),
            "book_id": line.book_id,
            "ts_event": line.event["ts_event"],
        }
        for key, line in books.lines.items()
    }


def _positions(books: Books) -> dict[Any, Row]:
    """Sums over fills. Cost less realised profit is what was paid less what was received, whatever closed when."""
    found: dict[Any, Row] = {}
    for (account_id, version), fill in books.fills.items():
        key = (account_id, fill["book_id"], fill["instrument_id"])
        base, _, quote = fill["instrument_id"].partition(":")[2].partition(":")[0].partition("/")
        quantity, price, fee = (from_avro(fill[name]) or 0 for name in ("quantity", "price", "fee"))
        signed = quantity if fill["side"] == "BUY" else -quantity
        if fill["fee_asset"] == base:
            signed -= fee
        row = found.setdefault(key, {"quantity": 0, "paid": 0, "fees": 0, "round_trips": 0, "stream_version": 0})
        was_open = row["quantity"] != 0
        row["quantity"] += signed
        row["paid"] += signed * price
        row["fees"] += fee if fill["fee_asset"] == quote else 0
        row["round_trips"] += 1 if was_open and row["quantity"] == 0 else 0
        row["stream_version"] = version
    return {
        key: row | {"quantity": Units(row["quantity"]), "paid": WideUnits(row["paid"]), "fees": Units(row["fees"])}
        for key, row in found.items()
    }


def _position_row(row: Row) -> Row:
    return row | {"paid": row["cost"] - row["realized_pnl"]}


def _denials(books: Books) -> dict[Any, Row]:
    return {
        key: {
            "event_id": values["event_id"],
            "command_id": values["command_id"] if name == "CommandDenied" else values["order_id"],
            "command": values["command"] if name == "CommandDenied" else "SubmitOrder",
            "breaches": values["breaches"],
            "ts_event": values["ts_event"],
        }
        for key, (name, values) in books.denials.items()
    }


def _differences(books: Books) -> dict[Any, Row]:
    return {
        key: {
            "event_id": values["event_id"],
            "asset": values["asset"],
            "ledger_total": _amount(values["ledger_total"]),
            "venue_total": _amount(values["venue_total"]),
            "ts_event": values["ts_event"],
        }
        for key, values in books.balance_differences.items()
    }


def _kill(offset: int, values: Values) -> Row:
    names = ("active", "cancel_open", "reason", "principal_id", "ts_event")
    return {name: values[name] for name in names} | {"control_offset": offset}


def _limit(offset: int, values: Values) -> Row:
    amounts = {name: _amount(values[name]) for name in ("max_quantity", "max_notional")}
    return (
        amounts | {name: values[name] for name in ("version", "principal_id", "ts_event")} | {"control_offset": offset}
    )


def _strategy(offset: int, name: str, values: Values) -> Row:
    status = {"StrategyStarted": "STARTED", "StrategyStopped": "STOPPED", "StrategyHalted": "HALTED"}[name]
    return {
        "status": status,
        "tenant_id": values["tenant_id"],
        "control_offset": offset,
        "ts_event": values["ts_event"],
    }


def _snapshot(settings: Settings) -> dict[str, list[Row]]:
    if not settings.postgres.dsn.get_secret_value():
        raise CannotVerify("SKEET_POSTGRES__DSN is empty: start the platform with `skeet up`, or name your server")
    try:
        schema = f"-c search_path={settings.postgres.schema_name}"
        options = postgres_options(settings.postgres)
        with postgres_refusals():
            connected = psycopg.connect(
                **options, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_S, options=schema
            )
        with connected as connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            return {table: _all(connection, table) for table in TABLES}
    except psycopg.errors.UndefinedTable as error:
        raise CannotVerify(f"Postgres: {error.diag.message_primary}; did its projection ever run?") from error
    except psycopg.OperationalError as error:
        raise CannotVerify(f"Postgres does not answer: {' '.join(str(error).split())}") from error


def _all(connection: psycopg.Connection[Row], table: str) -> list[Row]:
    query = sql.SQL("SELECT * FROM {}").format(sql.Identifier(table))
    return connection.execute(query).fetchall()
