"""The words of the market: sides, kinds, requests, resting orders, trades, best prices.

Requests (`OrderRequest`) are in units of 10⁻⁸, the book is in ticks and lots. What happens to a customer's own account
is told by `account_events`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from skeet.core.errors import VenueError

HOUSE = "house"
"""Account of the background flow: its balance is unbounded and it pays no fees."""
EXCHANGE = "exchange"
"""Account that collects the fees."""


class Side(StrEnum):
    """BUY or SELL."""

    BUY = "BUY"
    SELL = "SELL"


class OrderKind(StrEnum):
    """The order types on offer, by Binance's names."""

    LIMIT = "LIMIT"
    MARKET = "MARKET"
    LIMIT_MAKER = "LIMIT_MAKER"  # post-only: refused where it would take


class TimeInForce(StrEnum):
    """How long a limit order may live."""

    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    """Binance's order states. REJECTED does not occur: a refused request never becomes an order."""

    NEW = "NEW"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"


class UniqueAmong(StrEnum):
    """Among which of an account's orders a client order id must be unique: venues differ, so this can be set."""

    ALL = "all"
    OPEN = "open"
    NONE = "none"


class Rejection(VenueError):
    """The request is refused and nothing changed. `code` and `message` are Binance's, to the letter."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderRequest:
    """A new order, all amounts in units of 10⁻⁸. Limit orders have `price` and `quantity`; market orders one of
    `quantity` and `quote_budget` (what to spend, or to raise, in the quote asset)."""

    account: str
    symbol: str
    side: Side
    kind: OrderKind
    client_order_id: str
    time_in_force: TimeInForce = TimeInForce.GTC
    price: int = 0
    quantity: int = 0
    quote_budget: int = 0
    unique_among: UniqueAmong = UniqueAmong.OPEN


@dataclass(slots=True, kw_only=True)
class Order:
    """An accepted order; the only mutable thing in the book. `price` in ticks, `quantity` and `filled` in lots,
    `locked` in units of the asset it spends."""

    order_id: int
    client_order_id: str
    account: str
    side: Side
    price: int
    quantity: int
    filled: int = 0
    locked: int = 0

    @property
    def leaves(self) -> int:
        """Lots still to be executed."""
        return self.quantity - self.filled


@dataclass(slots=True, kw_only=True)
class Trade:
    """One execution, public. `aggregate_id` is shared by the trades of one taker order at one price."""

    symbol: str
    trade_id: int
    aggregate_id: int
    price: int
    quantity: int
    ts_ns: int
    buyer_is_maker: bool


class Top(NamedTuple):
    """Best bid and ask, in ticks and lots; a missing side is (0, 0)."""

    bid: int
    bid_quantity: int
    ask: int
    ask_quantity: int


class TopChanged(NamedTuple):
    """The best prices after `update_id`, public."""

    symbol: str
    update_id: int
    ts_ns: int
    top: Top
