"""One frame in, the events to publish out: parser and sequences of all instruments together. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from skeet.core.market import BookDelta, BookSnapshot, Quote, Trade
from skeet.core.record import MarketEvent
from skeet.venues.binance.parsers import MarketData, Parser
from skeet.venues.binance.sequences import BookSequence, QuoteSequence, TradeSequence


@dataclass(frozen=True, slots=True, kw_only=True)
class LastIds:
    """The highest ids of an instrument that the log already holds; None where it holds none."""

    trade_id: int | None = None
    book_update_id: int | None = None
    quote_update_id: int | None = None


class InstrumentSequences:
    """The three channels of one instrument."""

    def __init__(self, *, recoverable: bool, last: LastIds) -> None:
        self.trades = TradeSequence(recoverable=recoverable, last_id=last.trade_id)
        self.book = BookSequence(recoverable=recoverable, last_id=last.book_update_id)
        self.quotes = QuoteSequence(last.quote_update_id)

    def accept(self, event: MarketData) -> tuple[MarketEvent, ...]:
        """What is to be published because of this event, in order."""
        match event:
            case Quote():
                return self.quotes.on_quote(event)
            case Trade():
                return self.trades.on_trade(event)
            case BookDelta():
                return self.book.on_delta(event)
            case BookSnapshot():
                return self.book.on_snapshot(event)


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalised:
    """What came of a frame: whose it is (empty: of no instrument) and its events.

    ``fresh`` is False when the frame held nothing that the log does not have already.
    """

    instrument_id: str
    events: tuple[MarketEvent, ...]
    fresh: bool


CONTROL_FRAME = Normalised(instrument_id="", events=(), fresh=False)


class Normaliser:
    """Frames of one venue to events, with the memory that gap detection needs.

    Parameters
    ----------
    instrument_ids
        instrument id of each venue symbol.
    recoverable
        whether gaps can be filled from the venue (False for recorded files).
    last
        where the log stands, by instrument id; continues there after a restart.
    """

    def __init__(
        self, instrument_ids: Mapping[str, str], *, recoverable: bool, last: Mapping[str, LastIds] | None = None
    ) -> None:
        self._parser = Parser(instrument_ids)
        known = last or {}
        self.sequences: dict[str, InstrumentSequences] = {
            each: InstrumentSequences(recoverable=recoverable, last=known.get(each, LastIds()))
            for each in instrument_ids.values()
        }

    def normalise(self, payload: bytes | str, received_ns: int, symbol: str = "") -> Normalised:
        """The events of one frame. ``symbol`` is the venue symbol of a REST book, which names none itself.

        Raises
        ------
        MalformedFrame, UnknownFrame, ImplausibleId
            the frame cannot be read, or cannot follow what was read; the state is unchanged.
        """
        event = self._parser.parse(payload, received_ns, symbol)
        if event is None:
            return CONTROL_FRAME
        sequences = self.sequences[event.instrument_id]
        events = sequences.accept(event)
        fresh = bool(events) or (isinstance(event, BookDelta) and sequences.book.waiting)
        return Normalised(instrument_id=event.instrument_id, events=events, fresh=fresh)

    def waiting_books(self) -> Iterable[str]:
        """Instruments whose book needs a snapshot."""
        return [each for each, sequences in self.sequences.items() if sequences.book.waiting]
