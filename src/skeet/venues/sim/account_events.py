"""What happened to the exchange's customers: events in the past tense, one of them a line of the journal.

Amounts are decimal strings as Binance prints them, times integer nanoseconds. They are journalled as they are, and every
view of an account is folded from them. House orders (the background flow) make no events, only trades.
"""

from __future__ import annotations

from dataclasses import dataclass

from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import Order, OrderRequest, OrderStatus, Trade
from skeet.venues.sim.settlement import Commission
from skeet.venues.sim.units import format_units


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountOpened:
    """An account exists from here on."""

    ts_ns: int
    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transferred:
    """Money came in (positive) or went out (negative). `client_key` is unique per account."""

    ts_ns: int
    account: str
    transfer_id: int
    client_key: str
    asset: str
    amount: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAccepted:
    """The order is the exchange's from here on. A market order by quote gets the `quantity` that its budget buys."""

    ts_ns: int
    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: str
    kind: str
    time_in_force: str
    price: str
    quantity: str
    quote_budget: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilled:
    """One side of one trade, for the account that owns the order. A trade between two customers makes two of these."""

    ts_ns: int
    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: str
    trade_id: int
    price: str
    quantity: str
    quote_quantity: str
    commission: str
    commission_asset: str
    is_maker: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderClosed:
    """The order left the exchange: FILLED, CANCELED or EXPIRED. `cancel_id` is the cancel request's own id, or empty."""

    ts_ns: int
    account: str
    symbol: str
    order_id: int
    client_order_id: str
    side: str
    status: str
    executed: str
    cancel_id: str


AccountEvent = AccountOpened | Transferred | OrderAccepted | OrderFilled | OrderClosed
EVENT_TYPES: dict[str, type[AccountEvent]] = {
    each.__name__: each for each in (AccountOpened, Transferred, OrderAccepted, OrderFilled, OrderClosed)
}


def accepted(instrument: Instrument, request: OrderRequest, order: Order, ts_ns: int) -> OrderAccepted:
    """The event of an order that was just accepted."""
    return OrderAccepted(
        ts_ns=ts_ns,
        account=order.account,
        symbol=instrument.symbol,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        side=order.side.value,
        kind=request.kind.value,
        time_in_force=request.time_in_force.value,
        price=format_units(order.price * instrument.tick),
        quantity=format_units(order.quantity * instrument.step),
        quote_budget=format_units(request.quote_budget),
    )


def filled(instrument: Instrument, order: Order, trade: Trade, fee: Commission, *, is_maker: bool) -> OrderFilled:
    """The event of an order's side of a trade."""
    return OrderFilled(
        ts_ns=trade.ts_ns,
        account=order.account,
        symbol=instrument.symbol,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        side=order.side.value,
        trade_id=trade.trade_id,
        price=format_units(trade.price * instrument.tick),
        quantity=format_units(trade.quantity * instrument.step),
        quote_quantity=format_units(instrument.value(trade.price, trade.quantity)),
        commission=format_units(fee.units),
        commission_asset=fee.asset,
        is_maker=is_maker,
    )


def closed(instrument: Instrument, order: Order, status: OrderStatus, ts_ns: int, cancel_id: str) -> OrderClosed:
    """The event of an order that left the exchange."""
    return OrderClosed(
        ts_ns=ts_ns,
        account=order.account,
        symbol=instrument.symbol,
        order_id=order.order_id,
        client_order_id=order.client_order_id,
        side=order.side.value,
        status=status.value,
        executed=format_units(order.filled * instrument.step),
        cancel_id=cancel_id,
    )
