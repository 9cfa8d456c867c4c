"""Whether a feed's topics hold exactly what the frames say: nothing missing, nothing twice, nothing else, in order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from skeet.agents.feed import WRITTEN_TOPICS, event_topics
from skeet.config import Settings
from skeet.core.errors import BugError
from skeet.core.market import BookSnapshot, Quote, RawFrame, VenueStatusChanged
from skeet.core.record import Event, MarketEvent
from skeet.schemas.codec import numbered_codec
from skeet.streams.reading import records_until_end
from skeet.venues.binance.generated import GeneratedSession
from skeet.venues.binance.instruments import instrument_id, unified_symbol
from skeet.venues.binance.parsers import Parser

VENUE = "BINANCE"
Held = Mapping[tuple[str, type[Event]], list[MarketEvent | bytes]]
"""What is of one instrument and one type, in order."""


def expected_events(session: GeneratedSession) -> Held:
    """What the frames say, read one by one: payloads, and events without their times of receipt."""
    parser = Parser({symbol: instrument_id(VENUE, unified_symbol(symbol)) for symbol in session.books})
    found: defaultdict[tuple[str, type[Event]], list[MarketEvent | bytes]] = defaultdict(list)
    for frame in session.frames:
        event = parser.parse(frame, 0)
        assert event is not None
        found[event.instrument_id, RawFrame].append(frame.encode())
        found[event.instrument_id, type(event)].append(event)
    return found


def compare(settings: Settings, session: GeneratedSession, expected: Held, *, books: bool) -> int:
    """Read a feed's topics back; how many records there are.

    Parameters
    ----------
    books
        whether each instrument has its REST book as well.

    Raises
    ------
    BugError
        they hold anything else; the message names the instrument and the first difference.
    """
    found: defaultdict[tuple[str, type[Event]], list[MarketEvent | bytes]] = defaultdict(list)
    snapshots: list[str] = []
    rest = {book.encode() for book in session.books.values()}
    for record in records_until_end(settings, numbered_codec(tuple(event_topics())), WRITTEN_TOPICS):
        match record.event:
            case RawFrame() as raw if raw.payload in rest:
                continue
            case RawFrame() as raw:
                found[raw.instrument_id, RawFrame].append(raw.payload)
            case BookSnapshot() as snapshot:
                snapshots.append(snapshot.instrument_id)
            case VenueStatusChanged():
                continue
            case Quote() as quote:  # has no time but that of its receipt
                found[quote.instrument_id, Quote].append(replace(quote, ts_event=0, ts_init=0))
            case MarketEvent() as event:
                found[event.instrument_id, type(event)].append(replace(event, ts_init=0))
            case other:
                raise BugError(f"a {type(other).__name__} among the feed's records")
    if books and len(snapshots) != len(session.books):
        raise BugError(f"{len(snapshots)} REST books; expected {len(session.books)}")
    for key in expected.keys() | found.keys():
        _compare_one(key, expected.get(key, []), found.get(key, []))
    return sum(map(len, found.values()))


def _compare_one(
    key: tuple[str, type[Event]], expected: list[MarketEvent | bytes], found: list[MarketEvent | bytes]
) -> None:
    if expected == found:
        return
    what = f"{key[1].__name__}s of {key[0]}"
    for number, (wanted, held) in enumerate(zip(expected, found, strict=False)):
        if wanted != held:
            raise BugError(f"{what}: record {number} is {held!r:.300}; expected {wanted!r:.300}")
    raise BugError(f"{what}: {len(found)} records; expected {len(expected)}")
