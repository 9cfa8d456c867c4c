"""B: every published bar is the fold of the trades that it names, whatever merged them with the clock.

A bar closes on a trade or on a tick, whichever the worker met first; the bar itself says how that went: ``through_at`` is
the last trade accounted for. So the bars are the journal of their merge order, and a worker that takes over reads them
back. Here every bar is made again from the trades behind its predecessor's ``through_at`` up to its own, and one that was
published twice has to be equal both times. What is not made again: ``complete``, which the gaps of another topic decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from skeet.agents.bars import LENGTHS, Series, SeriesKey, account, close
from skeet.config import Settings
from skeet.core.market import Bar, Trade
from skeet.core.record import Record
from skeet.core.values import exact_arithmetic
from skeet.parity.cursor import parse_position
from skeet.schemas.codec import Codec
from skeet.streams.reading import records_until_end
from skeet.streams.topics import MARKET_BARS, MARKET_TRADES
from skeet.verify.findings import Check


@dataclass(slots=True)
class Published:
    """The bars of one series as the topic holds them: ``waiting`` to be made again, in order; all of them by their end."""

    waiting: deque[Record[Bar]] = field(default_factory=deque)
    by_close: dict[int, Bar] = field(default_factory=dict)
    series: Series | None = None
    """What the trades made so far, from the first bar's ``through_at`` on."""
    traded: bool = False
    """Whether the log still has a trade of the instrument."""


class BarsReplay:
    """Folds trades against the bars of one log."""

    def __init__(self, codec: Codec, check: Check) -> None:
        self._codec = codec
        self._check = check
        self._published: dict[SeriesKey, Published] = {}
        self._chains: dict[str, bytes] = {}

    def run(self, bars: Iterable[Record[Any]], trades: Iterable[Record[Any]]) -> dict[str, str]:
        """Read all bars, then all trades of the same partitions in their order; a hash chain by instrument and interval."""
        with exact_arithmetic():
            for record in bars:
                if isinstance(record.event, Bar) and record.event.through_at:
                    self._note(record)
            for record in trades:
                if isinstance(record.event, Trade):
                    self._fold(record)
        for published in self._published.values():
            self._end(published)
        return {name: chain.hex() for name, chain in self._chains.items()}

    def _note(self, record: Record[Bar]) -> None:
        bar = record.event
        published = self._published.setdefault((bar.instrument_id, bar.interval), Published())
        before = published.by_close.get(bar.ts_close)
        if before is None:
            published.by_close[bar.ts_close] = bar
            published.waiting.append(record)
        elif before == bar:
            self._check.count("bars published twice, equal")
        else:
            self._check.differs(f"{record.at}: a bar of {bar.ts_open} again, unlike the one before it")

    def _fold(self, record: Record[Trade]) -> None:
        trade = record.event
        for interval in LENGTHS:
            key = (trade.instrument_id, interval)
            published = self._published.get(key)
            if published is None or not published.waiting:
                continue
            published.traded = True
            if published.series is not None and _through(published.waiting[0]) < record.at.offset:
                self._unfounded(published)
            if published.series is None:
                self._anchor(published, record)
                continue
            self._step(key, published.series, record)
            if published.waiting and _through(published.waiting[0]) == record.at.offset:
                self._compare(key, published, published.series)

    def _anchor(self, published: Published, record: Record[Trade]) -> None:
        """The first bar says where the second one's trades begin; it is not made again itself."""
        while published.waiting and _through(published.waiting[0]) < record.at.offset:
            self._check.count("bars whose trades are not here any more, not judged")
            published.waiting.popleft()
        if published.waiting and _through(published.waiting[0]) == record.at.offset:
            first = published.waiting.popleft().event
            published.series = Series(closed_until=first.ts_close)

    def _unfounded(self, published: Published) -> None:
        """The next bar names a trade that is not of its instrument, or stands before its predecessor's: begin anew."""
        recorded = published.waiting.popleft()
        self._check.differs(
            f"{recorded.at}: {recorded.event.through_at}, up to which it goes, is no trade behind the last"
        )
        published.series = None

    def _end(self, published: Published) -> None:
        """Bars were read before trades, so whatever is left names what is not there: gone with retention, or never there."""
        if not published.traded and published.waiting:
            self._check.count("bars whose trades are not here any more, not judged", len(published.waiting))
            return
        for recorded in published.waiting:
            self._check.differs(
                f"{recorded.at}: {recorded.event.through_at}, up to which it goes, is no trade in the log"
            )

    def _step(self, key: SeriesKey, series: Series, record: Record[Trade]) -> None:
        trade = record.event
        ts_open = trade.ts_event - trade.ts_event % LENGTHS[key[1]]
        if series.bar is not None and ts_open > series.bar.ts_open:
            lost = close(key, series, cause_at=str(record.at), ts_init=0, complete=False)
            self._check.differs(f"{record.at}: no bar holds the trades before it: {lost}")
        account(series, trade, ts_open, str(record.at))

    def _compare(self, key: SeriesKey, published: Published, series: Series) -> None:
        recorded = published.waiting.popleft()
        bar = recorded.event
        made = close(key, series, cause_at=bar.cause_at, ts_init=bar.ts_init, complete=bar.complete)
        self._check.count("bars")
        if made != bar:
            self._check.differs(f"{recorded.at}: the trades up to {bar.through_at} make {made}, not {bar}")
            published.series = Series(closed_until=bar.ts_close)
            return
        name = "/".join(key)
        self._chains[name] = sha256(self._chains.get(name, b"") + self._codec.encode(bar)).digest()


def check_bars(settings: Settings, codec: Codec, check: Check) -> dict[str, str]:
    """Read bars and then trades of a log to their ends; see :class:`BarsReplay`."""
    bars = records_until_end(settings, codec, [MARKET_BARS])
    return BarsReplay(codec, check).run(bars, records_until_end(settings, codec, [MARKET_TRADES]))


def _through(record: Record[Bar]) -> int:
    position = parse_position(record.event.through_at)
    return -1 if position is None else position.offset
