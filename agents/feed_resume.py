"""Where the log stands for a feed that starts: last ids, open gaps and instrument versions, read from the topics themselves."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Collection
from dataclasses import dataclass, field

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.market import BookDelta, BookSnapshot, GapClosed, GapOpened, InstrumentDefined, Quote, Trade
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.reading import end_offsets, messages_until_end, partitions_of, records_until_end
from skeet.streams.topics import INSTRUMENTS, MARKET_BOOKS, MARKET_QUOTES, MARKET_STATUS, MARKET_TRADES, Topic

FIRST_WINDOW = 20_000
"""Records read back from the end of each partition at first; ten times as many while an instrument is missing."""
LAST_WINDOW = 2_000_000
"""An instrument that is not among the last of these is taken for new: reading on would take longer than a backfill."""
DECODED_TAIL = 5_000
"""Of each instrument the highest id among so many last records counts: backfilled trades stand behind newer ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogEnd:
    """What the log holds of one instrument; None or empty where it holds nothing."""

    trade_id: int | None = None
    book_update_id: int | None = None
    quote_update_id: int | None = None
    definition: InstrumentDefined | None = None
    open_gaps: tuple[GapOpened, ...] = ()


@dataclass(slots=True)
class _Status:
    definition: InstrumentDefined | None = None
    gaps: dict[tuple[str, int, int], GapOpened] = field(default_factory=dict)


def read_log_ends(settings: Settings, codec: Codec, instrument_ids: Collection[str]) -> dict[str, LogEnd]:
    """The log's end for each instrument; reads tails of the market topics and the whole of the two small ones."""
    trades = _highest_ids(settings, codec, MARKET_TRADES, instrument_ids)
    books = _highest_ids(settings, codec, MARKET_BOOKS, instrument_ids)
    quotes = _highest_ids(settings, codec, MARKET_QUOTES, instrument_ids)
    status = _statuses(settings, codec)
    return {
        each: LogEnd(
            trade_id=trades.get(each),
            book_update_id=books.get(each),
            quote_update_id=quotes.get(each),
            definition=status[each].definition,
            open_gaps=tuple(status[each].gaps.values()),
        )
        for each in instrument_ids
    }


def _statuses(settings: Settings, codec: Codec) -> defaultdict[str, _Status]:
    found: defaultdict[str, _Status] = defaultdict(_Status)
    for record in records_until_end(settings, codec, [INSTRUMENTS, MARKET_STATUS]):
        match record.event:
            case InstrumentDefined() as definition:
                found[definition.instrument_id].definition = definition
            case GapOpened() as gap:
                found[gap.instrument_id].gaps[(gap.channel, gap.first_missing, gap.last_missing)] = gap
            case GapClosed() as gap:
                found[gap.instrument_id].gaps.pop((gap.channel, gap.first_missing, gap.last_missing), None)
            case _:
                pass
    return found


def _highest_ids(settings: Settings, codec: Codec, topic: Topic, instrument_ids: Collection[str]) -> dict[str, int]:
    wanted = {each.encode() for each in instrument_ids}
    window = FIRST_WINDOW
    while True:
        tails, whole = _tails(settings, topic, wanted, window)
        if wanted <= tails.keys() or whole or window >= LAST_WINDOW:
            break
        window *= 10
    return {key.decode(): max(_id(codec, value) for value in values) for key, values in tails.items()}


def _tails(
    settings: Settings, topic: Topic, wanted: Collection[bytes], window: int
) -> tuple[dict[bytes, deque[bytes]], bool]:
    """Last values by key within the window, and whether the window reached every partition's beginning."""
    partitions = partitions_of(settings, [topic])
    client = consumer(settings, "skeet-feed-reader")
    try:
        start = {partition: max(0, end - window) for partition, end in end_offsets(client, partitions).items()}
    finally:
        client.close()
    tails: dict[bytes, deque[bytes]] = {}
    for message in messages_until_end(settings, partitions, start):
        key = message.key()
        if key in wanted:
            tails.setdefault(key, deque(maxlen=DECODED_TAIL)).append(message.value() or b"")
    return tails, not any(start.values())


def _id(codec: Codec, value: bytes) -> int:
    try:
        event, _ = codec.decode(value)
    except InvalidInput:  # no record of a feed: the readers of the topic write its dead letter
        return -1
    match event:
        case Trade():
            return int(event.trade_id) if event.trade_id.isdecimal() else -1
        case Quote():
            return event.update_id
        case BookSnapshot() | BookDelta():
            return event.last_update_id
        case _:
            return -1
