"""A broker's topics for one test of the desk, and what a trader and a venue write to them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from skeet.config import Settings
from skeet.core import commands, control, market, reports
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Out, Record
from skeet.core.values import (
    NS_PER_S,
    AccountId,
    EventId,
    LiquiditySide,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
)
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, CLOCK, COMMANDS, DEAD_LETTERS, INSTRUMENTS, MARKET_REFERENCE, REPORTS

SYMBOL = "SIM:BTC/USDT"
INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=1, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip


class Floor:
    """A broker's topics for one test, and what a trader does with them."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self.settings = settings
        self.codec = codec
        self.client = producer(settings, "test")
        self.publisher = Publisher(settings, codec, self.client)

    def publish(self, topic: str, key: str, event: Event, meta: Meta | None = None) -> None:
        self.publisher.send([Out(topic=topic, key=key, event=event, meta=meta)])
        self.publisher.flush()

    def quote(self, bid: str = "100.00", ask: str = "100.01") -> None:
        now = time.time_ns()
        reference = market.Reference(
            instrument_id=SYMBOL, ts_event=now, ts_init=now, bid_mantissa=int(Decimal(bid) * 100),
            ask_mantissa=int(Decimal(ask) * 100), last_mantissa=10000, price_scale=2,
            status=market.ReferenceStatus.LIVE, source_at="market.quotes.v1/0/0",
        )  # fmt: skip
        self.publish(INSTRUMENTS.name, SYMBOL, INSTRUMENT)
        self.publish(MARKET_REFERENCE.name, SYMBOL, reference)
        self.publish(CLOCK.name, "clock", market.Tick(ts_event=now))

    def meta(self, account: str, identity: str = "") -> Meta:
        event_id = EventId(identity or derive_id("test", uuid.uuid4().hex))
        now = time.time_ns()
        return Meta(
            event_id=event_id, tenant_id=TenantId("main"), account_id=AccountId(account),
            principal_id=PrincipalId("test"), correlation_id=event_id, causation_id=event_id, cause_at="",
            ts_event=now, ts_init=now,
        )  # fmt: skip

    def command(self, account: str, make: Callable[..., commands.Command], **fields: Any) -> str:
        now = time.time_ns()
        event = make(ts_cause=now, valid_until=now + 60 * NS_PER_S, **fields)
        meta = self.meta(account)
        self.publish(COMMANDS.name, account, event, meta)
        return meta.event_id

    def opened(self, account: str, usdt: str = "10000") -> None:
        self.command(account, commands.OpenAccount, venue="sim", label=account)
        self.command(account, commands.Deposit, asset="USDT", amount=Decimal(usdt), external_ref=uuid.uuid4().hex)

    def order(self, account: str, quantity: str = "1", price: str | None = "99", side: Side = Side.BUY) -> str:
        return self.command(
            account, commands.SubmitOrder, book_id="manual", instrument_id=SYMBOL, side=side,
            order_type=OrderType.LIMIT if price else OrderType.MARKET,
            time_in_force=TimeInForce.GTC if price else TimeInForce.IOC, post_only=False, quantity=Decimal(quantity),
            limit_price=Decimal(price) if price else None, code_version="", rule="test",
        )  # fmt: skip

    def report(self, account: str, make: Callable[..., Event], order_id: str, **fields: Any) -> None:
        event = make(order_id=order_id, client_order_id=order_id, instrument_id=SYMBOL, **fields)
        self.publish(REPORTS.name, account, event, self.meta(account))

    def attempted(self, account: str, order_id: str) -> None:
        self.report(
            account, reports.SubmitAttempted, order_id, sent_ts=1, send_until=2, side=Side.BUY, quantity=Decimal(1),
            limit_price=Decimal(99),
        )  # fmt: skip

    def fill(self, account: str, order_id: str, trade_id: str, quantity: str, price: str = "99") -> None:
        self.report(
            account, reports.FillReported, order_id, venue_order_id="1", trade_id=trade_id, side=Side.BUY,
            quantity=Decimal(quantity), price=Decimal(price), fee=Decimal("0.01"), fee_asset="USDT",
            liquidity=LiquiditySide.TAKER,
        )  # fmt: skip

    def records(self, account: str | None = None) -> list[Record[Any]]:
        found = records_until_end(self.settings, self.codec, [ACCOUNT_EVENTS])
        return [r for r in found if r.meta and (r.meta.account_id == account if account else True)]

    def events(self, account: str) -> list[str]:
        return [type(record.event).__name__ for record in self.records(account)]

    def letters(self) -> list[control.DeadLetter]:
        return [record.event for record in records_until_end(self.settings, self.codec, [DEAD_LETTERS])]


def made_floor(kafka: str, registry_url: str, data: Path, *, partitions: int = 2) -> Floor:
    """A floor of its own on the broker, with a market that is quoted."""
    settings = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "account_partitions": partitions, "market_partitions": 1},
        registry={"url": registry_url},
        data=data,
        desk={"snapshot_every": 5},
        risk={"reference_max_age_ms": 600_000},  # a slow machine is no stale market
    )  # fmt: skip
    topics_admin.apply(settings)
    found = Floor(settings, registered_codec(settings))
    found.quote()
    return found


def assert_gapless(records: list[Record[Any]]) -> None:
    versions: dict[str, list[int]] = {}
    for record in records:
        assert record.meta is not None
        versions.setdefault(record.meta.account_id, []).append(record.meta.stream_version)
    for account, found in versions.items():
        assert found == list(range(1, len(found) + 1)), account
