"""Trades to bars of one second and one minute, in event time.

A bar closes on the first trade of a later interval, or on a clock tick past its end and a grace. No bar is empty, none is
closed twice, none is published whose beginning was not seen. A trade of an interval that has closed is late: it is in no
bar, and counted in the next one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from skeet.core.admission import recordable_amount
from skeet.core.market import Bar, Channel, GapClosed, GapOpened, GapOutcome, Tick, Trade
from skeet.core.record import Out, Record
from skeet.core.values import NS_PER_MS, NS_PER_S, Side, divide, from_mantissa, in_64_bits, rescale
from skeet.streams.topics import MARKET_BARS

INTERVALS: tuple[tuple[str, int], ...] = (("1s", NS_PER_S), ("1m", 60 * NS_PER_S))
LENGTHS = dict(INTERVALS)
"""Nanoseconds of each interval."""
GRACE_NS = 500 * NS_PER_MS
"""How long after its end a quiet bar stays open for trades on their way: the slowest hop measured, ten times over."""

LIVE_LAG_NS = 10 * NS_PER_S
"""A trade that was appended this long after it happened is history (a backfill, a replayed session): its bar is closed by
later trades only, because a tick that came between two pages of history would close it half filled."""

SeriesKey = tuple[str, str]
"""Instrument and interval."""


@dataclass(slots=True)
class OpenBar:
    """A bar that is being built; prices and sizes in the bar's own scales."""

    ts_open: int
    price_scale: int
    size_scale: int
    open: int
    high: int
    low: int
    close: int
    volume: int = 0
    buy_volume: int = 0
    quote_volume: Decimal = Decimal(0)
    trade_count: int = 0
    ts_init: int = 0

    def add(self, trade: Trade) -> None:
        """Take one more trade in. A trade with finer scales refines the bar's."""
        self._refine(trade)
        price = rescale(trade.price_mantissa, trade.price_scale, self.price_scale)
        size = rescale(trade.size_mantissa, trade.size_scale, self.size_scale)
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += size
        self.buy_volume += size if trade.aggressor_side is Side.BUY else 0
        self.quote_volume += from_mantissa(
            trade.price_mantissa * trade.size_mantissa, trade.price_scale + trade.size_scale
        )
        self.trade_count += 1

    def _refine(self, trade: Trade) -> None:
        if trade.price_scale > self.price_scale:
            factor = 10 ** (trade.price_scale - self.price_scale)
            self.open, self.high, self.low, self.close = (
                price * factor for price in (self.open, self.high, self.low, self.close)
            )
            self.price_scale = trade.price_scale
        if trade.size_scale > self.size_scale:
            factor = 10 ** (trade.size_scale - self.size_scale)
            self.volume, self.buy_volume = self.volume * factor, self.buy_volume * factor
            self.size_scale = trade.size_scale


@dataclass(slots=True)
class Series:
    """The bars of one instrument and interval.

    ``closed_until`` is the end of the last closed bar, ``through`` the offset of the last trade accounted for in it, and
    ``partition`` where the trades stand (-1 until known).
    ``whole`` is False until the beginning of an interval was seen: the first bar after a blind start is not published.
    """

    closed_until: int = 0
    through: int = -1
    partition: int = -1
    whole: bool = True
    bar: OpenBar | None = None
    late_trades: int = 0
    torn: bool = False
    live: bool = False
    last_at: str = ""


@dataclass(slots=True)
class BarsState:
    """All series, and the open gaps in the trades of each instrument."""

    series: dict[SeriesKey, Series] = field(default_factory=dict)
    gaps: dict[str, set[tuple[int, int]]] = field(default_factory=dict)
    blind: bool = False
    """Series met for the first time began before what was read: their first bar is partial."""


class BarsAgent:
    """The machine. Reads trades, their gaps, and clock ticks."""

    version = "bars-1"

    def initial(self) -> BarsState:
        """No series yet."""
        return BarsState()

    def step(self, state: BarsState, record: Record[Any]) -> tuple[BarsState, tuple[Out[Any], ...]]:
        """Bars that this record closes, in order of interval."""
        match record.event:
            case Trade() as trade:
                return state, _on_trade(state, trade, record)
            case Tick(ts_event=now):
                return state, _on_tick(state, now, record)
            case GapOpened(channel=Channel.TRADES) as gap:
                _on_gap_opened(state, gap)
            case GapClosed(channel=Channel.TRADES) as gap:
                _on_gap_closed(state, gap)
        return state, ()


def _on_trade(state: BarsState, trade: Trade, record: Record[Any]) -> tuple[Out[Any], ...]:
    outs: list[Out[Any]] = []
    for interval, length in INTERVALS:
        key = (trade.instrument_id, interval)
        series = state.series.get(key)
        if series is None:
            series = state.series[key] = Series(whole=not state.blind)
        if record.at.offset <= series.through:
            continue
        ts_open = trade.ts_event - trade.ts_event % length
        if series.bar is not None and ts_open > series.bar.ts_open:
            outs.extend(_close(state, key, record, trade.ts_init))
        account(series, trade, ts_open, str(record.at))
        series.live = not trade.backfilled and record.log_ns - trade.ts_event <= LIVE_LAG_NS
    return tuple(outs)


def account(series: Series, trade: Trade, ts_open: int, at: str) -> None:
    """Put the trade into the open bar, open one with it, or count it late. ``ts_open`` is its interval's beginning."""
    series.last_at = at
    if series.bar is None and ts_open >= series.closed_until:
        price = trade.price_mantissa
        series.bar = OpenBar(
            ts_open=ts_open,
            price_scale=trade.price_scale,
            size_scale=trade.size_scale,
            open=price,
            high=price,
            low=price,
            close=price,
        )
    if series.bar is None or ts_open < series.bar.ts_open:
        series.late_trades += 1
    else:
        series.bar.add(trade)


def _on_tick(state: BarsState, now: int, record: Record[Any]) -> tuple[Out[Any], ...]:
    outs: list[Out[Any]] = []
    for key, series in state.series.items():
        quiet_ns = LENGTHS[key[1]] + GRACE_NS
        if series.live and series.bar is not None and series.bar.ts_open + quiet_ns <= now:
            outs.extend(_close(state, key, record, now))
    return tuple(outs)


def _close(state: BarsState, key: SeriesKey, record: Record[Any], ts_init: int) -> tuple[Out[Any], ...]:
    series = state.series[key]
    torn = series.torn or bool(state.gaps.get(key[0]))
    whole = series.whole
    closed = close(key, series, cause_at=str(record.at), ts_init=ts_init, complete=not torn)
    return (Out(topic=MARKET_BARS.name, key=key[0], event=closed),) if closed is not None and whole else ()


def close(key: SeriesKey, series: Series, *, cause_at: str, ts_init: int, complete: bool) -> Bar | None:
    """The series' open bar as it is published, and the series ready for its next one; None when no bar is open."""
    bar = series.bar
    if bar is None:
        return None
    instrument_id, interval = key
    ts_close = bar.ts_open + LENGTHS[interval]
    price_scale, (opened, high, low, last) = in_64_bits(bar.price_scale, bar.open, bar.high, bar.low, bar.close)
    size_scale, (volume, buy_volume) = in_64_bits(bar.size_scale, bar.volume, bar.buy_volume)
    closed = Bar(
        instrument_id=instrument_id,
        ts_event=ts_close,
        ts_init=ts_init,
        interval=interval,
        ts_open=bar.ts_open,
        ts_close=ts_close,
        revision=0,
        open_mantissa=opened,
        high_mantissa=high,
        low_mantissa=low,
        close_mantissa=last,
        volume_mantissa=volume,
        buy_volume_mantissa=buy_volume,
        quote_volume=_recordable(bar.quote_volume),
        trade_count=bar.trade_count,
        late_trades=series.late_trades,
        complete=complete,
        cause_at=cause_at,
        price_scale=price_scale,
        size_scale=size_scale,
        through_at=series.last_at,
    )
    series.closed_until, series.whole, series.bar = ts_close, True, None
    series.late_trades, series.torn = 0, False
    return closed


def _recordable(quote_volume: Decimal) -> Decimal:
    """Of the 36 places that a price and a size have together at most, those that an amount has."""
    return recordable_amount(divide(quote_volume, Decimal(1)))


def _on_gap_opened(state: BarsState, gap: GapOpened) -> None:
    state.gaps.setdefault(gap.instrument_id, set()).add((gap.first_missing, gap.last_missing))


def _on_gap_closed(state: BarsState, gap: GapClosed) -> None:
    """A filled gap leaves no trace; any other tears the bars that are open."""
    state.gaps.get(gap.instrument_id, set()).discard((gap.first_missing, gap.last_missing))
    if gap.outcome is not GapOutcome.FILLED:
        for (instrument_id, _), series in state.series.items():
            if instrument_id == gap.instrument_id:
                series.torn = True
