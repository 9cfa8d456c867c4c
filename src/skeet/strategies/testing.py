"""A bench for strategies: feed it market events and account events, look at what the strategy asks for.

::

    bench = Bench(MyStrategy(MyParameters(size=Decimal("0.01"))))
    bench.start(bars=[...])
    bench.quote("99.99", "100.01")
    bench.fill()
    assert bench.position == Decimal("0.01")

The bench runs the very machine that runs live; its clock is the events'. Errors in handlers are raised, not recorded.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from skeet.core.accounts import Breach, LedgerAccount, OrderAuthorized, OrderCanceled, OrderDenied, OrderFilled, Posting
from skeet.core.commands import CancelOrder, SubmitOrder
from skeet.core.control import StrategyHalted, StrategyStarted
from skeet.core.market import Bar, Quote, Signal, Tick, Trade
from skeet.core.record import Event, Meta, Out, Record, TopicPosition
from skeet.core.strategy import OpenOrder, Strategy, TradedInstrument
from skeet.core.strategy.machine import InstanceIdentity, StrategyMachine
from skeet.core.values import (
    NS_PER_S,
    AccountId,
    EventId,
    LiquiditySide,
    OrderStatus,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
    exact_arithmetic,
    to_mantissa,
)

INSTRUMENT = TradedInstrument(
    instrument_id="SIM:BTC/USDT",
    base="BTC",
    quote="USDT",
    tick_size=Decimal("0.01"),
    step_size=Decimal("0.0001"),
    min_quantity=Decimal("0.0001"),
    min_notional=Decimal(5),
    maker_fee=Decimal("0.001"),
    taker_fee=Decimal("0.001"),
)
ACCOUNT = AccountId("bench")
SCALE = 8


class HandlerFailed(AssertionError):
    """A handler raised; live, the instance would be halted."""


class Bench:
    """One strategy instance with an account of ``cash`` and ``inventory``."""

    def __init__(
        self,
        strategy: Strategy[Any],
        *,
        instrument: TradedInstrument = INSTRUMENT,
        cash: Decimal = Decimal(100_000),
        inventory: Decimal = Decimal(0),
        now_ns: int = 1_700_000_000 * NS_PER_S,
    ) -> None:
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.given: list[Record[Any]] = []
        identity = InstanceIdentity(
            tenant_id=TenantId("main"),
            account_id=ACCOUNT,
            instance_id="bench",
            code_version="bench",
            instrument=instrument,
        )
        self.machine = StrategyMachine(strategy, identity, lambda text, values: self.log.append((text, values)))
        self.state = self.machine.initial()
        self.state.book.free = {instrument.quote: cash, instrument.base: inventory}
        self.now_ns = now_ns
        self._count = 0

    @property
    def position(self) -> Decimal:
        """Quantity of the strategy's book, in base units."""
        return self.state.book.position.quantity

    @property
    def orders(self) -> tuple[OpenOrder, ...]:
        """Its open orders."""
        return tuple(self.state.book.orders.values())

    def wait(self, seconds: float) -> Bench:
        """Let event time pass; nothing is called. Returns itself."""
        self.now_ns += int(seconds * NS_PER_S)
        return self

    def start(self, bars: Sequence[Bar] = ()) -> list[SubmitOrder | CancelOrder]:
        """Call ``on_start``."""
        started = StrategyStarted(
            instance_id="bench", strategy="bench", instrument_id="", parameters="{}", code_version="bench"
        )
        with exact_arithmetic():
            self.state, outs = self.machine.start(self.state, bars, self.record(started, "control.events.v1"))
        return self._commands(outs)

    def send(self, event: Event, topic: str = "market.trades.v1") -> list[SubmitOrder | CancelOrder]:
        """Give it any event; returns the commands it caused."""
        self.given.append(self.record(event, topic))
        with exact_arithmetic():
            self.state, outs = self.machine.step(self.state, self.given[-1])
        return self._commands(outs)

    def quote(self, bid: str, ask: str, bid_size: str = "1", ask_size: str = "1") -> list[SubmitOrder | CancelOrder]:
        """A new best bid and ask."""
        self._count += 1
        return self.send(
            Quote(
                instrument_id=self.machine.identity.instrument.instrument_id,
                ts_event=self.now_ns,
                ts_init=self.now_ns,
                update_id=self._count,
                bid_price_mantissa=_scaled(bid),
                bid_size_mantissa=_scaled(bid_size),
                ask_price_mantissa=_scaled(ask),
                ask_size_mantissa=_scaled(ask_size),
                price_scale=SCALE,
                size_scale=SCALE,
            ),
            "market.quotes.v1",
        )

    def trade(self, price: str, size: str = "1", side: Side = Side.BUY) -> list[SubmitOrder | CancelOrder]:
        """A trade of others."""
        self._count += 1
        return self.send(
            Trade(
                instrument_id=self.machine.identity.instrument.instrument_id,
                ts_event=self.now_ns,
                ts_init=self.now_ns,
                trade_id=str(self._count),
                price_mantissa=_scaled(price),
                size_mantissa=_scaled(size),
                price_scale=SCALE,
                size_scale=SCALE,
                aggressor_side=side,
            )
        )

    def bar(self, close: str, interval: str = "1m") -> list[SubmitOrder | CancelOrder]:
        """A closed bar that opened, traded and closed at one price."""
        return self.send(self.made_bar(close, interval), "market.bars.v1")

    def made_bar(self, close: str, interval: str = "1m") -> Bar:
        """Such a bar, ending now; for :meth:`start`."""
        price, length = _scaled(close), NS_PER_S * (60 if interval == "1m" else 1)
        return Bar(
            instrument_id=self.machine.identity.instrument.instrument_id,
            ts_event=self.now_ns,
            ts_init=self.now_ns,
            interval=interval,
            ts_open=self.now_ns - length,
            ts_close=self.now_ns,
            revision=0,
            open_mantissa=price,
            high_mantissa=price,
            low_mantissa=price,
            close_mantissa=price,
            volume_mantissa=_scaled("1"),
            buy_volume_mantissa=_scaled("0.5"),
            quote_volume=Decimal(close),
            trade_count=1,
            late_trades=0,
            complete=True,
            cause_at="market.trades.v1/0/0",
            price_scale=SCALE,
            size_scale=SCALE,
        )

    def signal(
        self, name: str, values: dict[str, float], parameters: dict[str, str] | None = None, interval: str = ""
    ) -> list[SubmitOrder | CancelOrder]:
        """A computed value of the instrument."""
        self._count += 1
        return self.send(
            Signal(
                instrument_id=self.machine.identity.instrument.instrument_id,
                ts_event=self.now_ns,
                ts_init=self.now_ns,
                name=name,
                version="1",
                interval=interval,
                parameters=parameters or {},
                values=values,
                causation_id=str(self._count),
                cause_at="market.bars.v1/0/0",
            ),
            "signals.v1",
        )

    def tick(self, seconds: float = 1.0) -> list[SubmitOrder | CancelOrder]:
        """Let event time pass and call ``on_timer``."""
        self.wait(seconds)
        return self.send(Tick(ts_event=self.now_ns), "clock.v1")

    def accept(self, order_id: str | None = None) -> list[SubmitOrder | CancelOrder]:
        """Risk and the venue take an order (default: the newest)."""
        order = self._order(order_id)
        authorized = OrderAuthorized(
            **self._of(order, OrderStatus.ACCEPTED),
            side=order.side,
            order_type=_order_type(order),
            time_in_force=TimeInForce.GTC,
            post_only=False,
            quantity=order.quantity,
            limit_price=order.limit_price or Decimal(0),
            ts_cause=self.now_ns,
            valid_until=order.valid_until,
            code_version="bench",
            rule=order.rule,
            reserved_asset="",
            reserved_amount=Decimal(0),
            reference_bid=Decimal(0),
            reference_ask=Decimal(0),
            reference_ts=self.now_ns,
            reference_at="",
            instrument_version=1,
            limits_version=0,
            postings=(),
        )
        return self.send(authorized, "accounts.events.v1")

    def fill(
        self, order_id: str | None = None, quantity: Decimal | None = None, price: Decimal | None = None
    ) -> list[SubmitOrder | CancelOrder]:
        """An order trades (default: the newest, whole, at its limit), without fees."""
        order = self._order(order_id)
        traded = order.leaves if quantity is None else quantity
        at = price or order.limit_price or self._market_price(order.side)
        leaves = order.leaves - traded
        signed = traded if order.side is Side.BUY else -traded
        instrument = self.machine.identity.instrument
        fill = OrderFilled(
            **self._of(order, OrderStatus.PARTIALLY_FILLED if leaves else OrderStatus.FILLED),
            side=order.side,
            venue_order_id="1",
            trade_id=str(self._count),
            quantity=traded,
            price=at,
            fee=Decimal(0),
            fee_asset=instrument.quote,
            liquidity=LiquiditySide.MAKER,
            filled_quantity=order.filled + traded,
            leaves_quantity=leaves,
            postings=(
                Posting(ledger=LedgerAccount.FREE, asset=instrument.base, amount=signed, book_id="bench"),
                Posting(ledger=LedgerAccount.FREE, asset=instrument.quote, amount=-signed * at, book_id="bench"),
            ),
        )
        return self.send(fill, "accounts.events.v1")

    def canceled(self, order_id: str | None = None) -> list[SubmitOrder | CancelOrder]:
        """The venue canceled an order (default: the newest)."""
        order = self._order(order_id)
        event = OrderCanceled(**self._of(order, OrderStatus.CANCELED), filled_quantity=order.filled, postings=())
        return self.send(event, "accounts.events.v1")

    def deny(self, reason: str = "refused", order_id: str | None = None) -> list[SubmitOrder | CancelOrder]:
        """Risk refuses an order (default: the newest)."""
        order = self._order(order_id)
        denied = OrderDenied(
            **self._of(order, OrderStatus.DENIED),
            side=order.side,
            order_type=_order_type(order),
            quantity=order.quantity,
            limit_price=order.limit_price,
            code_version="bench",
            rule=order.rule,
            breaches=(Breach(control="bench", detail=reason, observed="", allowed=""),),
            reference_bid=None,
            reference_ask=None,
            reference_ts=self.now_ns,
            reference_at="",
            instrument_version=1,
            limits_version=0,
        )
        return self.send(denied, "accounts.events.v1")

    def _order(self, order_id: str | None) -> OpenOrder:
        if not self.state.book.orders:
            raise HandlerFailed("the strategy has no open order")
        return self.state.book.orders[order_id or next(reversed(self.state.book.orders))]

    def _of(self, order: OpenOrder, status: OrderStatus) -> dict[str, Any]:
        instrument_id = self.machine.identity.instrument.instrument_id
        return {"order_id": order.order_id, "book_id": "bench", "instrument_id": instrument_id, "status": status}

    def _market_price(self, side: Side) -> Decimal:
        quote = self.state.quote
        if quote is None:
            raise HandlerFailed("no quote yet: name the price of the fill")
        return quote.ask_price if side is Side.BUY else quote.bid_price

    def record(self, event: Event, topic: str) -> Record[Any]:
        """The event as it would be read from the topic now; it is not given to the strategy."""
        self._count += 1
        lean = not topic.startswith(("accounts", "control"))
        return Record(
            event=event,
            meta=None if lean else self._meta(),
            at=TopicPosition(topic, 0, self._count),
            log_ns=self.now_ns,
        )

    def _meta(self) -> Meta:
        identity = EventId(f"{self._count:032x}")
        return Meta(
            event_id=identity,
            tenant_id=TenantId("main"),
            account_id=ACCOUNT,
            principal_id=PrincipalId("bench"),
            correlation_id=identity,
            causation_id=identity,
            cause_at="",
            ts_event=self.now_ns,
            ts_init=self.now_ns,
        )

    def _commands(self, outs: Sequence[Out[Any]]) -> list[SubmitOrder | CancelOrder]:
        for out in outs:
            if isinstance(out.event, StrategyHalted):
                halted = out.event
                raise HandlerFailed(f"{halted.handler} at {halted.file}:{halted.line}: {halted.error}")
        return [out.event for out in outs]


def _scaled(text: str) -> int:
    mantissa, scale = to_mantissa(text)
    return int(mantissa * 10 ** (SCALE - scale))


def _order_type(order: OpenOrder) -> OrderType:
    return OrderType.MARKET if order.limit_price is None else OrderType.LIMIT
