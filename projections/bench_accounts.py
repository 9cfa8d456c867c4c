"""The sides of ``skeet bench sinks`` that write account state into PostgreSQL: the store as it is, and executemany.

The same facts go through the same fold. executemany writes every state that a fact leaves a row in, one statement a state, as
a consumer does that upserts record by record; the store writes the last state of each key of a batch. Both move their position
in the transaction of the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from skeet.core import accounts
from skeet.core.accounts import LedgerAccount, Posting
from skeet.core.ids import account_event_id
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.values import (
    AccountId,
    BookId,
    EventId,
    LiquiditySide,
    OrderId,
    OrderStatus,
    PrincipalId,
    Side,
    TenantId,
)
from skeet.projections.account_rows import ADDED_TABLES, KEY_OF, PRIMARY_KEYS, Row, Rows, fold
from skeet.projections.account_writing import RowWriter
from skeet.projections.postgres_store import AccountStore
from skeet.schemas.golden import sample
from skeet.streams.topics import ACCOUNT_EVENTS

ACCOUNTS = 20
BOOKS = 5
BATCH_FACTS = 5_000
"""As the projection takes them at most."""
INSTRUMENT = "SIM:BTC/USDT"
FIRST_NS = 1_760_000_000_000_000_000
LIFE = 5
"""Facts of an order: authorised, submitted, accepted, and two fills."""

States = dict[str, list[Row]]
"""By table, in the order in which they arose."""


@dataclass(slots=True)
class EveryState(Rows):
    """What a batch touches, with every state that a row had on the way."""

    states: States = field(default_factory=lambda: {table: [] for table in PRIMARY_KEYS})

    def put(self, table: str, row: Row) -> None:
        """Set a row by its primary key, and remember this state of it."""
        Rows.put(self, table, row)
        self.states[table].append(dict(row))


class EveryStateWriter(RowWriter):
    """Writes every state, in order, by executemany."""

    def write(self, rows: Rows) -> None:
        """One executemany for each table, states in their order."""
        assert isinstance(rows, EveryState)
        for table, states in rows.states.items():
            if states:
                self.upsert_each(table, states)
        for table in ADDED_TABLES:
            if rows.added[table]:
                self.insert_each(table, rows.added[table])


class EveryStateStore(AccountStore):
    """The store, writing every state."""

    rows_class = EveryState
    writer_class = EveryStateWriter


def facts(first: int, count: int) -> list[Record[Any]]:
    """So many facts of orders that are filled, of all accounts and books in turn, from this number on."""
    return [_fact(number) for number in range(first, first + count)]


def states_of(records: Sequence[Record[Any]]) -> States:
    """Every state that the facts leave a changing row in, in order, folded from nothing."""
    rows = EveryState()
    for record in records:
        fold(rows, record)
    return rows.states


def upsert_each_state(store: AccountStore, states: States) -> None:
    """One transaction: executemany of all states."""
    with store.connection.transaction():
        store.writer.write(EveryState(states=states))


def upsert_last_states(store: AccountStore, states: States) -> None:
    """One transaction: the states collapsed to the last of each key, and written as the store writes them."""
    rows = Rows(changed={table: {KEY_OF[table](row): row for row in found} for table, found in states.items()})
    with store.connection.transaction():
        store.writer.write(rows)


class Follower:
    """A store that facts are applied to in batches, and where it stands."""

    def __init__(self, store: AccountStore) -> None:
        self.store = store
        self._positions: dict[tuple[str, int], int] = {}

    def apply(self, records: Sequence[Record[Any]]) -> None:
        """Fold and store, a transaction for each batch."""
        for begin in range(0, len(records), BATCH_FACTS):
            batch = records[begin : begin + BATCH_FACTS]
            self.store.apply(batch, self._positions)
            self._positions[batch[-1].at.topic, 0] = batch[-1].at.offset + 1


def _fact(number: int) -> Record[Any]:
    account, version = number % ACCOUNTS, number // ACCOUNTS + 1
    order, step = divmod(version - 1, LIFE)
    account_id = AccountId(f"account-{account}")
    order_id = OrderId(f"{account_id}-{order}")
    side = Side.BUY if order % 2 == 0 else Side.SELL
    event = _event(order_id, BookId(f"book-{order % BOOKS}"), side, step, Decimal(60_000 + number % 997))
    meta = Meta(
        event_id=account_event_id(account_id, version),
        tenant_id=TenantId("main"),
        account_id=account_id,
        principal_id=PrincipalId("bench"),
        correlation_id=EventId(order_id),
        causation_id=EventId(order_id),
        cause_at="",
        ts_event=FIRST_NS + number,
        ts_init=FIRST_NS + number,
        stream_version=version,
    )
    return Record(event=event, meta=meta, at=TopicPosition(ACCOUNT_EVENTS.name, 0, number), log_ns=FIRST_NS + number)


def _event(order_id: OrderId, book_id: BookId, side: Side, step: int, price: Decimal) -> Event:
    order: dict[str, Any] = {"order_id": order_id, "book_id": book_id, "instrument_id": INSTRUMENT}
    match step:
        case 0:
            authorized: accounts.OrderAuthorized = sample(accounts.OrderAuthorized)
            return dataclasses.replace(
                authorized,
                **order,
                status=OrderStatus.AUTHORIZED,
                side=side,
                quantity=Decimal(2),
                limit_price=price,
                postings=_postings(book_id, FREE=-2 * price, RESERVED=2 * price),
            )
        case 1:
            return accounts.OrderSubmitted(**order, status=OrderStatus.SUBMITTED, sent_ts=1, send_until=2)
        case 2:
            return accounts.OrderAccepted(**order, status=OrderStatus.ACCEPTED, venue_order_id=f"v-{order_id}")
        case _:
            return accounts.OrderFilled(
                **order,
                status=OrderStatus.FILLED if step == LIFE - 1 else OrderStatus.PARTIALLY_FILLED,
                side=side,
                venue_order_id=f"v-{order_id}",
                trade_id=f"{order_id}-{step}",
                quantity=Decimal(1),
                price=price,
                fee=Decimal("0.1"),
                fee_asset="USDT",
                liquidity=LiquiditySide.TAKER,
                filled_quantity=Decimal(step - 2),
                leaves_quantity=Decimal(LIFE - 1 - step),
                postings=_postings(book_id, RESERVED=-price, EXTERNAL=price),
            )


def _postings(book_id: BookId, **amounts: Decimal) -> tuple[Posting, ...]:
    return tuple(
        Posting(ledger=LedgerAccount(ledger), asset="USDT", amount=amount, book_id=book_id)
        for ledger, amount in amounts.items()
    )
