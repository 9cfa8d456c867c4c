"""The port between the gateway and a venue: what may be asked of one account there, and what comes back.

The gateway knows only this; ``skeet.venues.execution`` implements it with ccxt, tests with a fake. All times are ns since
the epoch, all amounts exact. Nothing here raises for what a venue or a network may do: each outcome is a value, and an
outcome that proves nothing is :class:`Unknown` or :class:`Unanswered`, never a guess.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from skeet.core.values import NS_PER_MS, LiquiditySide, Side, TimeInForce


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a venue's rules let the gateway rely on.

    ``request_expiry``: the venue refuses a request after ``send_until``; without it the absence of an order is never
    concluded automatically. ``clock_error_ns`` bounds how far its clock may be behind ours when it does so, and
    ``visibility_delay_ns`` how long it may hide an order that it accepted. ``receive_window_ns`` is the life of a
    request. Requests are counted against ``request_weight`` each minute and orders against ``orders`` each ten seconds.
    """

    request_expiry: bool
    receive_window_ns: int
    clock_error_ns: int
    visibility_delay_ns: int
    orders: int
    request_weight: int

    @property
    def settled_after_ns(self) -> int:
        """How long after ``send_until`` an order that is not found can no longer exist."""
        return self.clock_error_ns + self.visibility_delay_ns


CAUTIOUS = Capabilities(
    request_expiry=False,
    receive_window_ns=5_000 * NS_PER_MS,
    clock_error_ns=1_000 * NS_PER_MS,
    visibility_delay_ns=60_000 * NS_PER_MS,
    orders=10,
    request_weight=600,
)
"""For a venue that nobody has measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderKey:
    """An order at a venue. ``venue_order_id`` is empty until the venue told it."""

    instrument_id: str
    client_order_id: str
    venue_order_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A limit order to be sent once, signed with exactly these times. Market orders come as IOC at their collar."""

    key: OrderKey
    side: Side
    quantity: Decimal
    limit_price: Decimal
    time_in_force: TimeInForce
    post_only: bool
    sent_ts: int
    send_until: int


class VenueOrderStatus(StrEnum):
    OPEN = "OPEN"
    FILLED = "FILLED"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueOrder:
    """The venue's word about an order, as of ``ts_event``. ``reason`` says why it ended, where the venue says so."""

    key: OrderKey
    status: VenueOrderStatus
    filled_quantity: Decimal
    ts_event: int
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueTrade:
    """One execution of an order of this account. ``key.client_order_id`` is empty where the venue names only its own id."""

    key: OrderKey
    trade_id: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    liquidity: LiquiditySide
    ts_event: int


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueBalance:
    asset: str
    free: Decimal
    locked: Decimal
    ts_event: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConnected:
    """The user stream is subscribed (again): what happened before is not in it, so everything is to be asked once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLost:
    """The user stream is away and is being connected again; until then the venue is asked instead."""

    reason: str


VenueReport = VenueTrade | VenueOrder | VenueBalance | StreamConnected | StreamLost


@dataclass(frozen=True, slots=True, kw_only=True)
class Acked:
    """The venue has the order. ``written_ns`` just before the socket write, ``answered_ns`` just after the answer."""

    order: VenueOrder
    written_ns: int
    answered_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """The venue answered that it will not do it."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NotSent:
    """Not one byte of the request was written to a socket."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """Written, and no answer that proves anything. Never sent again."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Canceled:
    """The order is no longer open, and what the venue says of it."""

    order: VenueOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    order: VenueOrder


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """The venue says that it has no such order (now: it may not show it yet)."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unanswered:
    """The venue gave no usable answer; nothing follows from that."""

    reason: str


SendOutcome = Acked | Rejected | NotSent | Unknown
CancelOutcome = Canceled | Rejected | NotSent | Unknown
Evidence = Found | NotFound | Unanswered


class Venue(Protocol):
    """One account at one venue. Methods may run concurrently; none sends anything twice.

    ``trades``, ``open_orders``, ``balances`` and ``clock_offset_ns`` raise ``VenueError`` or ``InfrastructureError`` when
    there is no answer: asking again later is their caller's.
    """

    @property
    def capabilities(self) -> Capabilities:
        """The venue's rules."""
        ...

    async def connect(self) -> None:
        """Load what the venue needs before the first order (markets, clock)."""
        ...

    async def send(self, attempt: Attempt) -> SendOutcome:
        """Send the order, once. Raises nothing but cancellation."""
        ...

    async def cancel(self, key: OrderKey) -> CancelOutcome:
        """Cancel the order; harmless when repeated."""
        ...

    async def lookup(self, key: OrderKey) -> Evidence:
        """Ask for one order, by the client's id where it is known, else by the venue's."""
        ...

    async def order_trades(self, key: OrderKey) -> Sequence[VenueTrade]:
        """All executions of one order; needs ``venue_order_id``."""
        ...

    async def trades_after(self, instrument_id: str, trade_id: int) -> Sequence[VenueTrade]:
        """Executions of the account in an instrument with ids above ``trade_id``, oldest first; at most one page."""
        ...

    async def open_orders(self) -> Sequence[VenueOrder]:
        """Every open order of the account."""
        ...

    async def balances(self) -> Sequence[VenueBalance]:
        """Every balance that is not zero."""
        ...

    async def clock_offset_ns(self) -> int:
        """The venue's clock minus ours, within half the round trip."""
        ...

    def reports(self) -> AsyncIterator[VenueReport]:
        """The user stream, connected again for as long as it is read. Executions in the venue's order, none conflated."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


class SendGuard(Protocol):
    """Asked at the last moment before a socket write that could open a position."""

    def __call__(self) -> str:
        """Why nothing may be sent; empty when it may."""
        ...
