"""A small session on real parts: log, Postgres and ClickHouse by the real projections, the exchange's journal by hand."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from skeet.config import Settings
from skeet.core import accounts, commands, control, market
from skeet.core.accounts import LedgerAccount, Posting
from skeet.core.ids import account_event_id
from skeet.core.record import Event, Meta, Out
from skeet.core.values import AccountId, EventId, LiquiditySide, OrderStatus, OrderType, Side, TenantId, TimeInForce
from skeet.process import StopSignal
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_writer import HistorySession
from skeet.projections.postgres import AccountSession
from skeet.projections.postgres_store import AccountStore
from skeet.projections.sessions import run_sessions
from skeet.schemas.avro import is_lean
from skeet.schemas.golden import sample
from skeet.streams import topics, topics_admin
from skeet.streams.kafka import producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec

ALICE = AccountId("alice")
BTC = "SIM:BTC/USDT"
CLIENT_ID = "0" * 31 + "1"
PARTITIONS = 2
DEADLINE_S = 40.0


def postings(**amounts: str) -> tuple[Posting, ...]:
    """Lines such as ``FREE_USDT="-5"``."""
    named = ((name.split("_"), Decimal(amount)) for name, amount in amounts.items())
    return tuple(
        Posting(ledger=LedgerAccount(ledger), asset=asset, amount=amount, book_id="manual")
        for (ledger, asset), amount in named
    )


ORDER = {"order_id": CLIENT_ID, "book_id": "manual", "instrument_id": BTC}


def story() -> list[Event]:
    """Alice opens, is funded, and buys 2 at 100 at most: 1 is filled at 99, the rest rests."""
    return [
        accounts.AccountOpened(venue="sim", label="Alice"),
        accounts.FundsDeposited(
            asset="USDT",
            amount=Decimal(1000),
            external_ref="sim:1",
            postings=postings(EXTERNAL_USDT="-1000", FREE_USDT="1000"),
        ),
        dataclasses.replace(
            sample(accounts.OrderAuthorized),
            **ORDER,
            status=OrderStatus.AUTHORIZED,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            quantity=Decimal(2),
            limit_price=Decimal(100),
            reserved_asset="USDT",
            reserved_amount=Decimal("200.2"),
            postings=postings(FREE_USDT="-200.2", RESERVED_USDT="200.2"),
        ),
        accounts.OrderSubmitted(**ORDER, status=OrderStatus.SUBMITTED, sent_ts=50, send_until=60),
        accounts.OrderAccepted(**ORDER, status=OrderStatus.ACCEPTED, venue_order_id="7"),
        accounts.OrderFilled(
            **ORDER,
            status=OrderStatus.PARTIALLY_FILLED,
            side=Side.BUY,
            venue_order_id="7",
            trade_id="41",
            quantity=Decimal(1),
            price=Decimal(99),
            fee=Decimal("0.099"),
            fee_asset="USDT",
            liquidity=LiquiditySide.TAKER,
            filled_quantity=Decimal(1),
            leaves_quantity=Decimal(1),
            postings=postings(
                RESERVED_USDT="-100.1",
                FREE_USDT="1.001",
                MARKET_USDT="99",
                FEES_USDT="0.099",
                MARKET_BTC="-1",
                FREE_BTC="1",
            ),
        ),
    ]


def meta(version: int, event_id: str = "") -> Meta:
    envelope: Meta = sample(Meta)
    return dataclasses.replace(
        envelope,
        event_id=EventId(event_id) or account_event_id(ALICE, version),
        account_id=ALICE,
        tenant_id=TenantId("main"),
        cause_at=f"{topics.COMMANDS.name}/{partition_of(ALICE.encode(), PARTITIONS)}/0",
        ts_event=1_000 + version,
        stream_version=version,
    )


def command(quantity: int = 2) -> Out[Any]:
    """The first record of its partition. Again, with another quantity: a duplicate, which the desk ignores."""
    submit = dataclasses.replace(
        sample(commands.SubmitOrder),
        instrument_id=BTC,
        side=Side.BUY,
        quantity=Decimal(quantity),
        limit_price=Decimal(100),
    )
    return Out(topic=topics.COMMANDS.name, key=ALICE, event=submit, meta=meta(0, CLIENT_ID))


def instrument() -> Out[Any]:
    event = dataclasses.replace(
        storable(market.InstrumentDefined), instrument_id=BTC, venue_symbol="BTCUSDT", base="BTC", quote="USDT"
    )
    return Out(topic=topics.INSTRUMENTS.name, key=BTC, event=event)


def storable(event_class: type[Event]) -> Any:
    """A sample event whose scales are scales, and whose limits are amounts that may be."""
    event: Any = sample(event_class)
    scales = {f.name: 2 for f in dataclasses.fields(event) if f.name in ("price_scale", "size_scale")}
    json_text = {"parameters": "{}"} if event_class is control.StrategyStarted else {}
    limits = (
        {"max_quantity": Decimal("1.5"), "max_notional": Decimal("0.000000000000000001")}
        if event_class is control.LimitsSet
        else {}
    )
    return dataclasses.replace(event, **scales, **json_text, **limits)


def publish(settings: Settings, outs: list[Out[Any]]) -> None:
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "test"))
    publisher.send(outs)
    publisher.flush()


def others() -> list[Out[Any]]:
    """One of every market, report, command and control event, so that every table has rows."""
    wanted = [t for t in topics.TOPICS if t.history and t not in (topics.ACCOUNT_EVENTS, topics.INSTRUMENTS)]
    return [
        Out(
            topic=topic.name,
            key=BTC,
            event=storable(event_class),
            meta=None if is_lean(event_class) else dataclasses.replace(sample(Meta), event_id=EventId(f"x{number}")),
        )
        for topic in wanted
        for number, event_class in enumerate(topic.events)
        if event_class.__name__ != "Genesis"
    ]


def write_journal(path: Path, lines: list[dict[str, Any]]) -> None:
    """As the exchange writes it: numbered lines, each with a checksum chained to the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    crc, out = 0, b""
    for number, line in enumerate(lines, start=1):
        body = json.dumps({"n": number, "ts_ns": number, "account": ALICE} | line).encode()[:-1]
        crc = zlib.crc32(body, crc)
        out += body + b',"crc":"%08x"}\n' % crc
    path.write_bytes(out)


def journal() -> list[dict[str, Any]]:
    order = {"symbol": "BTCUSDT", "order_id": 7, "client_order_id": CLIENT_ID, "side": "BUY"}
    limit = {"kind": "LIMIT", "time_in_force": "GTC", "price": "100.00000000", "quantity": "2.00000000"}
    fill = {"trade_id": 41, "price": "99.00000000", "quantity": "1.00000000", "quote_quantity": "99.00000000"}
    fee = {"commission": "0.09900000", "commission_asset": "USDT", "is_maker": False}
    return [
        {"type": "AccountOpened"},
        {"type": "Transferred", "transfer_id": 1, "client_key": "k", "asset": "USDT", "amount": "1000.00000000"},
        {"type": "OrderAccepted", **order, **limit, "quote_budget": "0.00000000"},
        {"type": "OrderFilled", **order, **fill, **fee},
    ]


@contextmanager
def projecting(settings: Settings) -> Iterator[None]:
    """Both projections in threads, drained at the end."""
    stop, codec = StopSignal(), registered_codec(settings)

    def tables() -> None:
        store = AccountStore(settings)
        try:
            AccountSession(settings, codec, store).run(stop)
        finally:
            store.close()

    def history() -> None:
        HistorySession(settings, codec, HistoryStore(settings)).run(stop)

    sessions: list[Callable[[], None]] = [tables, history]
    threads = [threading.Thread(target=run_sessions, args=(stop, session)) for session in sessions]
    with ExitStack() as stack:
        for thread in threads:
            thread.start()
            stack.callback(thread.join, DEADLINE_S)
        stack.callback(stop.stop)
        yield


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "did not come true in time"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def settings(
    kafka: str,
    registry_url: str,
    postgres_dsn: str,
    clickhouse: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Settings:
    """An installation of its own with nothing but topics."""
    name = f"t{uuid4().hex[:8]}"
    section = {"bootstrap": kafka, "topic_prefix": f"{name}.", "account_partitions": PARTITIONS, "market_partitions": 2}
    made = Settings(
        kafka=section,
        registry={"url": registry_url},
        postgres={"dsn": postgres_dsn, "schema_name": name},
        clickhouse={"url": clickhouse[0], "password": clickhouse[1], "database": name},
        data=tmp_path_factory.mktemp("verify"),
    )
    topics_admin.apply(made)
    return made
