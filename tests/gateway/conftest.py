"""A simulated exchange beside the test, a log of its own, and a test that plays the desk."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from urllib.request import Request, urlopen

import pytest

from skeet.agents.gateway import Gateway
from skeet.agents.gateway_log import GatewayLog
from skeet.config import Settings
from skeet.core.accounts import AccountOpened, CancelAuthorized, OrderAuthorized
from skeet.core.ids import account_event_id, derive_id
from skeet.core.record import Event, Meta, Out, Record
from skeet.core.values import (
    NS_PER_S,
    AccountId,
    EventId,
    OrderStatus,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
)
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import producer
from skeet.streams.ports import Acked, Attempt, OrderKey
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, REPORTS
from skeet.venues.execution.accounts import accounts_with_keys, venue_of
from skeet.venues.execution.binance import load_library
from skeet.venues.execution.keys import VenueKey, write_key
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.exchange import Exchange, ExchangeOptions
from skeet.venues.sim.server import Server

ADMIN_TOKEN = "test"
DEADLINE_S = 30.0
INSTRUMENT = "SIM:BTC/USDT"
T = TypeVar("T")


class SimThread:
    """The exchange on a thread of its own, with its flow at rest unless asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.port = 0
        self.start()

    def start(self) -> None:
        async def begin() -> Server:
            server = Server(Exchange(self._folder, time.time_ns, ExchangeOptions(seed=7)), admin_token=ADMIN_TOKEN)
            server.flow.paused = True
            self.port = await server.start("127.0.0.1", self.port)
            return server

        self._server = self._run(begin())

    def stop(self) -> None:
        self._run(self._server.stop())

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def behaviour(self) -> Behaviour:
        return self._server.behaviour

    def flow(self, speed: float) -> None:
        self._server.flow.speed, self._server.flow.paused = speed, False

    def account(self, name: str, **funds: str) -> VenueKey:
        """A new account with these funds."""
        pair = self.call("accounts", account=name)
        for asset, amount in funds.items():
            self.call("transfers", account=name, asset=asset, amount=amount, client_key=f"{name}-{asset}")
        return VenueKey(venue="sim", api_key=pair["api_key"], secret=pair["secret"])

    def orders(self, account: str) -> list[dict[str, Any]]:
        """Every order of the account, by the exchange's own books."""
        found: list[dict[str, Any]] = self.call("state")["accounts"][account]["orders"]
        return found

    def best(self, symbol: str = "BTCUSDT") -> tuple[Decimal, Decimal]:
        """Best bid and ask."""
        with urlopen(f"{self.url}/api/v3/ticker/bookTicker?symbol={symbol}", timeout=5) as answer:
            row = json.loads(answer.read())
        return Decimal(row["bidPrice"]), Decimal(row["askPrice"])

    def call(self, route: str, **body: Any) -> Any:
        data = json.dumps(body).encode() if body else None
        request = Request(f"{self.url}/sim/v1/{route}", data, {"Authorization": f"Bearer {ADMIN_TOKEN}"})
        with urlopen(request, timeout=5) as answer:
            return json.loads(answer.read())

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)


@pytest.fixture
def sim(tmp_path: Path) -> Iterator[SimThread]:
    exchange = SimThread(tmp_path / "sim")
    yield exchange
    exchange.close()


@dataclass(frozen=True, slots=True)
class Desk:
    """Writes account events as the desk would, and reads the gateway's reports."""

    settings: Settings
    codec: Codec
    account: str
    publisher: Publisher

    def open_account(self) -> None:
        self._publish(AccountOpened(venue="sim", label="test"), "open")

    def authorise(self, name: str, price: Decimal, *, then_cancel: bool = False, **fields: Any) -> str:
        """Authorise a limit order to buy 0.01, GTC, valid for 20 s, unless ``fields`` say otherwise; its id.

        ``then_cancel``: its cancel follows in the same batch.
        """
        event = replace(self._order(name, price), **fields)
        cancel = (self._cancel(name), f"cancel-{name}") if then_cancel else ()
        self._publish(event, f"authorise-{name}", *cancel)
        return event.order_id

    def authorise_all(self, names: list[str], price: Decimal) -> None:
        """Several orders as :meth:`authorise` makes them, in one batch."""
        self._publish(*(part for name in names for part in (self._order(name, price), f"authorise-{name}")))

    def _order(self, name: str, price: Decimal) -> OrderAuthorized:
        now = time.time_ns()
        return OrderAuthorized(
            order_id=self.order_id(name),
            book_id="manual",
            instrument_id=INSTRUMENT,
            status=OrderStatus.AUTHORIZED,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            time_in_force=TimeInForce.GTC,
            post_only=False,
            quantity=Decimal("0.01"),
            limit_price=price,
            ts_cause=now,
            valid_until=now + 20 * NS_PER_S,
            code_version="",
            rule="",
            reserved_asset="USDT",
            reserved_amount=Decimal(0),
            reference_bid=price,
            reference_ask=price,
            reference_ts=now,
            reference_at="",
            instrument_version=1,
            limits_version=0,
            postings=(),
        )

    def cancel(self, name: str) -> None:
        self._publish(self._cancel(name), f"cancel-{name}-{time.time_ns()}")

    def order_id(self, name: str) -> str:
        return str(derive_id("test-order", self.settings.kafka.topic_prefix, name))

    def _cancel(self, name: str) -> CancelAuthorized:
        return CancelAuthorized(
            order_id=self.order_id(name),
            book_id="manual",
            instrument_id=INSTRUMENT,
            status=OrderStatus.ACCEPTED,
            cancel_id=str(derive_id("test-cancel", name)),
        )

    def _publish(self, *pairs: Any) -> None:
        events = [(pairs[n], pairs[n + 1]) for n in range(0, len(pairs), 2)]
        self.publisher.send(
            [Out(topic=ACCOUNT_EVENTS.name, key=self.account, event=e, meta=self._meta(name)) for e, name in events]
        )
        self.publisher.flush()

    def _meta(self, name: str) -> Meta:
        identity = EventId(derive_id("test", name))
        return Meta(
            event_id=account_event_id(AccountId(self.account), abs(hash(name)) % 10**9),
            tenant_id=TenantId("main"),
            account_id=AccountId(self.account),
            principal_id=PrincipalId("test"),
            correlation_id=identity,
            causation_id=identity,
            cause_at="",
            ts_event=time.time_ns(),
            ts_init=time.time_ns(),
        )

    def reports(self, name: str = "") -> list[Record[Any]]:
        """All order reports in the log, of one order when named, balances left out."""
        found = [r for r in records_until_end(self.settings, self.codec, [REPORTS]) if hasattr(r.event, "order_id")]
        return [r for r in found if not name or r.event.order_id == self.order_id(name)]

    def kinds(self, name: str) -> list[str]:
        """The kinds of one order's reports, in order."""
        return [type(record.event).__name__ for record in self.reports(name)]

    def wait_for(self, name: str, kind: type[Event], deadline_s: float = DEADLINE_S) -> Any:
        """The first report of this kind about an order."""
        return self.wait(
            lambda: next((r.event for r in self.reports(name) if isinstance(r.event, kind)), None),
            f"{kind.__name__} of {name}",
            deadline_s,
        )

    def wait(self, found: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        deadline = time.monotonic() + deadline_s
        while not (result := found()):
            if time.monotonic() > deadline:
                kinds = Counter(type(r.event).__name__ for r in self.reports())
                raise AssertionError(f"no {what} within {deadline_s} s; the log holds {kinds}")
            time.sleep(0.02)
        return result


@pytest.fixture
def desk(kafka: str, registry_url: str, sim: SimThread, tmp_path: Path) -> Desk:
    settings = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": f"g{uuid.uuid4().hex[:8]}.", "account_partitions": 2, "market_partitions": 2},
        registry={"url": registry_url},
        sim={"url": sim.url},
        data=tmp_path,
    )  # fmt: skip
    topics_admin.apply(settings)
    account = "alpha"
    write_key(settings, account, sim.account(account, USDT="100000", BTC="2"))
    codec = registered_codec(settings)
    return Desk(settings, codec, account, Publisher(settings, codec, producer(settings, "test-desk")))


class GatewayThread:
    """A gateway in an event loop of its own."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, daemon=True).start()
        self.gateway: Gateway = asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result(120)

    async def _begin(self) -> Gateway:
        log = GatewayLog(self._settings, self._codec)
        gateway = Gateway(self._settings, log, lambda account, guard: venue_of(self._settings, account, guard))
        await gateway.start(lambda: accounts_with_keys(self._settings))
        recovered: asyncio.Future[Any] = asyncio.ensure_future(gateway.recovered.wait())
        await asyncio.wait((recovered, log.failed), timeout=90, return_when=asyncio.FIRST_COMPLETED)
        if not recovered.done():
            log.failed.result()  # raises the reason; where there is none, that it is not known yet
        return gateway

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.gateway.close(), self._loop).result(30)
        self._loop.call_soon_threadsafe(self._loop.stop)


@pytest.fixture(scope="session")
def ccxt_loaded() -> None:
    """Import it once, outside every deadline."""
    load_library()


@pytest.fixture
def gateway(desk: Desk, ccxt_loaded: None) -> Iterator[GatewayThread]:
    running = GatewayThread(desk.settings, desk.codec)
    yield running
    running.close()


def trade_against(settings: Settings, account: str, price: Decimal, quantity: str) -> None:
    """Another account sells at the price, at once."""

    async def sell() -> None:
        venue = venue_of(settings, account, lambda: "")
        try:
            await venue.connect()
            now = time.time_ns()
            outcome = await venue.send(
                Attempt(
                    key=OrderKey(instrument_id="SIM:BTC/USDT", client_order_id=f"sell{now}"),
                    side=Side.SELL,
                    quantity=Decimal(quantity),
                    limit_price=price,
                    time_in_force=TimeInForce.IOC,
                    post_only=False,
                    sent_ts=now,
                    send_until=now + 5_000_000_000,
                )
            )
            assert isinstance(outcome, Acked)
        finally:
            await venue.close()

    asyncio.run(sell())
