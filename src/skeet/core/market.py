"""What venues publish, normalised: trades, quotes, books, bars, instruments, the state of a feed.

Prices and sizes are integer mantissas; ``price_scale`` and ``size_scale`` say how many decimal places they hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from skeet.core.record import Event, MarketEvent
from skeet.core.values import LateReason, Side, VenueStatus, from_mantissa


@dataclass(frozen=True, slots=True, kw_only=True)
class RawFrame(MarketEvent):
    """A venue's frame as received. ``instrument_id`` is the key; empty fields of the frame stay in ``payload``.

    ``connection_id`` and ``sequence`` order the frames of one connection (for a replay: one file).
    """

    venue: str
    connection_id: str
    sequence: int
    payload: bytes

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.venue, self.connection_id, self.sequence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trade(MarketEvent):
    """One trade. ``aggressor_side`` is the taker's side; ``backfilled`` when it came by REST after a gap."""

    trade_id: str
    price_mantissa: int
    size_mantissa: int
    price_scale: int
    size_scale: int
    aggressor_side: Side
    backfilled: bool = False

    @property
    def price(self) -> Decimal:
        """Quote units per base unit."""
        return from_mantissa(self.price_mantissa, self.price_scale)

    @property
    def size(self) -> Decimal:
        """Base units."""
        return from_mantissa(self.size_mantissa, self.size_scale)

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.trade_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote(MarketEvent):
    """Best bid and ask. ``update_id`` is the venue's book update that made it."""

    update_id: int
    bid_price_mantissa: int
    bid_size_mantissa: int
    ask_price_mantissa: int
    ask_size_mantissa: int
    price_scale: int
    size_scale: int

    @property
    def bid_price(self) -> Decimal:
        return from_mantissa(self.bid_price_mantissa, self.price_scale)

    @property
    def ask_price(self) -> Decimal:
        return from_mantissa(self.ask_price_mantissa, self.price_scale)

    @property
    def bid_size(self) -> Decimal:
        return from_mantissa(self.bid_size_mantissa, self.size_scale)

    @property
    def ask_size(self) -> Decimal:
        return from_mantissa(self.ask_size_mantissa, self.size_scale)

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.update_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookSnapshot(MarketEvent):
    """A whole book as of ``last_update_id``. Level *i* of a side is ``(prices[i], sizes[i])``, best first."""

    last_update_id: int
    bid_prices: tuple[int, ...]
    bid_sizes: tuple[int, ...]
    ask_prices: tuple[int, ...]
    ask_sizes: tuple[int, ...]
    price_scale: int
    size_scale: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.last_update_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookDelta(MarketEvent):
    """Changed levels, updates ``first_update_id`` to ``last_update_id`` (both included); size 0 removes a level."""

    first_update_id: int
    last_update_id: int
    bid_prices: tuple[int, ...]
    bid_sizes: tuple[int, ...]
    ask_prices: tuple[int, ...]
    ask_sizes: tuple[int, ...]
    price_scale: int
    size_scale: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.first_update_id, self.last_update_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar(MarketEvent):
    """Open, high, low, close of ``[ts_open, ts_close)``; ``ts_event`` equals ``ts_close``.

    ``interval`` is ``1s`` or ``1m``. ``quote_volume`` is Σ price × size, to 18 places. Scales are the finest of the trades',
    or coarser where a mantissa would not fit. ``late_trades`` counts trades that came after an earlier bar of this interval
    had closed (they are in no bar). ``complete`` is False while a gap is open. ``cause_at`` is the position of the record
    that closed it and ``through_at`` that of the last trade taken into account (both empty for history fetched from the
    venue): a restart reads the trades from there on.
    """

    interval: str
    ts_open: int
    ts_close: int
    revision: int
    open_mantissa: int
    high_mantissa: int
    low_mantissa: int
    close_mantissa: int
    volume_mantissa: int
    buy_volume_mantissa: int
    quote_volume: Decimal
    trade_count: int
    late_trades: int
    complete: bool
    cause_at: str
    price_scale: int
    size_scale: int
    through_at: str = ""

    @property
    def close(self) -> Decimal:
        return from_mantissa(self.close_mantissa, self.price_scale)

    @property
    def open(self) -> Decimal:
        return from_mantissa(self.open_mantissa, self.price_scale)

    @property
    def high(self) -> Decimal:
        return from_mantissa(self.high_mantissa, self.price_scale)

    @property
    def low(self) -> Decimal:
        return from_mantissa(self.low_mantissa, self.price_scale)

    @property
    def volume(self) -> Decimal:
        return from_mantissa(self.volume_mantissa, self.size_scale)

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.interval, self.ts_open, self.revision)


class ReferenceStatus(StrEnum):
    UNKNOWN = "UNKNOWN"
    LIVE = "LIVE"
    STALE = "STALE"
    CROSSED = "CROSSED"
    GAP = "GAP"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference(MarketEvent):
    """What risk looks at: best bid and ask, last trade, status; at most 10 a second. A mantissa of 0 means none yet.

    ``source_at`` is the position of the record it was taken from.
    """

    bid_mantissa: int
    ask_mantissa: int
    last_mantissa: int
    price_scale: int
    status: ReferenceStatus
    source_at: str

    @property
    def bid(self) -> Decimal:
        return from_mantissa(self.bid_mantissa, self.price_scale)

    @property
    def ask(self) -> Decimal:
        return from_mantissa(self.ask_mantissa, self.price_scale)

    @property
    def last(self) -> Decimal:
        return from_mantissa(self.last_mantissa, self.price_scale)

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.source_at, self.status)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentDefined(MarketEvent):
    """One version of an instrument's rules at its venue; a change of any of them is a new version.

    Filters, in the venue's units: ``tick_size`` (price step), ``step_size`` (quantity step), quantity and notional
    bounds; a bound of 0 means none. Fees are fractions of the notional.
    """

    version: int
    venue: str
    symbol: str
    venue_symbol: str
    base: str
    quote: str
    active: bool
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    min_notional: Decimal
    max_notional: Decimal
    maker_fee: Decimal
    taker_fee: Decimal
    price_scale: int
    size_scale: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.version)


class Channel(StrEnum):
    UNKNOWN = "UNKNOWN"
    TRADES = "TRADES"
    BOOK = "BOOK"
    QUOTES = "QUOTES"


class GapOutcome(StrEnum):
    UNKNOWN = "UNKNOWN"
    FILLED = "FILLED"
    UNFILLABLE = "UNFILLABLE"
    RESYNCED = "RESYNCED"


@dataclass(frozen=True, slots=True, kw_only=True)
class GapOpened(MarketEvent):
    """Ids ``first_missing`` to ``last_missing`` of a channel did not arrive (trade ids, or book update ids)."""

    channel: Channel
    first_missing: int
    last_missing: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.channel, self.first_missing, self.last_missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class GapClosed(MarketEvent):
    """The end of a gap: FILLED (trades fetched), RESYNCED (a fresh book snapshot), or UNFILLABLE with the reason."""

    channel: Channel
    first_missing: int
    last_missing: int
    outcome: GapOutcome
    recovered: int
    reason: str

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.channel, self.first_missing, self.last_missing)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataStale(MarketEvent):
    """Nothing was heard of the instrument since ``last_seen`` (ns)."""

    last_seen: int

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.last_seen)


@dataclass(frozen=True, slots=True, kw_only=True)
class MarketDataResumed(MarketEvent):
    """Frames of the instrument arrive again."""

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.ts_init)


@dataclass(frozen=True, slots=True, kw_only=True)
class VenueStatusChanged(MarketEvent):
    """The feed's connection to the venue went up, degraded or down; ``instrument_id`` is each subscribed one."""

    venue: str
    status: VenueStatus
    reason: str

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.status, self.ts_init)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick(Event):
    """One second of the clock topic: ``ts_event`` is the clock agent's time in ns."""

    ts_event: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal(MarketEvent):
    """A computed value of an instrument: ``name`` and ``version`` of the rule, its parameters, inputs and values.

    Indicator values are doubles and are never amounts. ``causation_id`` is the record that completed the computation.
    """

    name: str
    version: str
    interval: str
    parameters: dict[str, str]
    values: dict[str, float]
    causation_id: str
    cause_at: str

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.instrument_id, self.name, self.version, self.interval, self.causation_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class LateRecord(MarketEvent):
    """A record that came too late for windows that were published; they stay as they are.

    Times are the record's own. ``rule`` and ``version`` name whose windows, ``windows_missed`` how many, from the first one's
    start (``missed_from``) to the last one's end (``missed_until``); with the reason SOME_WINDOWS_CLOSED it counts in others.
    ``watermark`` is how far event time had come (ns). ``origin`` is where the record stands, ``payload`` what stands there.
    """

    rule: str
    version: str
    reason: LateReason
    missed_from: int
    missed_until: int
    windows_missed: int
    watermark: int
    origin: str
    payload: bytes

    @property
    def natural_key(self) -> tuple[str | int, ...]:
        return (self.rule, self.version, self.origin)
