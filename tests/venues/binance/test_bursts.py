"""Many frames at once make the records that they make one by one: raw frames, events, gaps, silences, dead letters, in order."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.market import BookDelta, GapOpened, MarketDataResumed, Quote, RawFrame, Trade
from skeet.core.record import MarketEvent
from skeet.roles.feed_intake import BURST, SHORT_RUN, Intake
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.encoding import ColumnEncoder
from skeet.venues.binance.bursts import BurstReader, burst_of
from skeet.venues.binance.generated import GeneratedSession, generated
from skeet.venues.binance.instruments import instrument_id, unified_symbol
from skeet.venues.binance.normaliser import Normaliser

CODEC = numbered_codec((RawFrame, Trade, Quote, BookDelta))
SESSION = generated("mix", 400)
TRADES = generated("trades", 400)
IDS = {symbol: instrument_id("BINANCE", unified_symbol(symbol)) for symbol in SESSION.books}
Records = dict[tuple[str, str], list[Any]]


class Recorded:
    """What was published, by type and instrument, in order."""

    def __init__(self) -> None:
        self.records: defaultdict[tuple[str, str], list[Any]] = defaultdict(list)
        self.batched = 0

    def frame(self, raw: RawFrame, events: Iterable[MarketEvent]) -> None:
        self.events([raw, *events])

    def events(self, events: Iterable[MarketEvent]) -> None:
        for event in events:
            self.records[type(event).__name__, event.instrument_id].append(event)

    def unreadable(self, raw: RawFrame, cause: str) -> None:
        self.records["unreadable", raw.instrument_id].append((raw, cause))

    def batch(self, columns: Any, keys: Sequence[str], of: Sequence[int]) -> None:
        records = list(ColumnEncoder(CODEC, columns.event_class).encode(columns))
        self.batched += len(records)
        for record, number in zip(records, of, strict=True):
            event, _ = CODEC.decode(record)
            assert isinstance(event, MarketEvent) and event.instrument_id == keys[number]
            self.events([event])

    def poll(self) -> None:
        pass


def published(frames: Sequence[str], session: GeneratedSession, *, at_once: bool, silent: bool = False) -> Recorded:
    """The records of some frames that wait together, behind the books and the first frames of every instrument."""

    async def run() -> Recorded:
        recorded, normaliser = Recorded(), Normaliser(IDS, recoverable=True)
        intake = Intake("BINANCE", normaliser, recorded, 1, asyncio.Event())  # type: ignore[arg-type] # records only
        intake.begin_connection("one")
        for symbol, book in session.books.items():
            intake.rest_book(book, 10, symbol)
        for number, frame in enumerate(session.frames[:60]):
            intake.take(frame, 100 + number)
        intake.drain()
        if silent:
            intake.report_silence(5_000, 1_000)
        if at_once:
            intake.bursts = BurstReader(normaliser, IDS)
        for number, frame in enumerate(frames):
            intake.take(frame, 10_000 + number)
        intake.drain()
        assert not intake.failed.done()
        return recorded

    return asyncio.run(run())


def assert_equal(one: Recorded, other: Recorded) -> None:
    assert one.records.keys() == other.records.keys()
    for key, records in one.records.items():
        assert other.records[key] == records, key


@pytest.mark.parametrize("session", [SESSION, TRADES], ids=["mix", "trades"])
def test_usual_frames_are_all_read_at_once(session: GeneratedSession) -> None:
    frames = session.frames[60:]
    at_once = published(frames, session, at_once=True)
    assert at_once.batched == 2 * len(frames)
    assert_equal(published(frames, session, at_once=False), at_once)


def test_the_end_of_a_silence_is_reported_once_at_its_first_frame() -> None:
    at_once = published(SESSION.frames[60:], SESSION, at_once=True, silent=True)
    one_by_one = published(SESSION.frames[60:], SESSION, at_once=False, silent=True)
    assert sum(len(found) for (kind, _), found in at_once.records.items() if kind == MarketDataResumed.__name__) == 4
    assert_equal(one_by_one, at_once)


def test_gaps_open_where_frames_are_missing_and_what_follows_goes_on_at_once() -> None:
    frames = [frame for number, frame in enumerate(SESSION.frames[60:]) if number % 40 > 3]
    at_once = published(frames, SESSION, at_once=True)
    assert any(kind == GapOpened.__name__ for kind, _ in at_once.records)
    assert at_once.batched > 0
    assert_equal(published(frames, SESSION, at_once=False), at_once)


def test_frames_that_came_before_are_kept_raw_and_make_no_second_event() -> None:
    frames = [frame for frame in SESSION.frames[60:] for _ in (1, 2)]
    at_once = published(frames, SESSION, at_once=True)
    assert_equal(published(frames, SESSION, at_once=False), at_once)


def test_a_burst_of_frames_none_of_which_is_usual_is_read_one_by_one() -> None:
    frames = ['{"e":"trade"}'] * (2 * BURST)
    at_once = published(frames, SESSION, at_once=True)
    assert len(at_once.records["unreadable", "BINANCE:UNKNOWN"]) == 2 * BURST
    assert_equal(published(frames, SESSION, at_once=False), at_once)


def test_a_frame_that_is_not_ascii_is_read_one_by_one() -> None:
    assert burst_of([("{}", 1), ('{"s":"é"}', 2)]) is None
    frames = [*SESSION.frames[60:150], '{"e":"trade","s":"é"}', *SESSION.frames[150:]]
    assert_equal(published(frames, SESSION, at_once=False), published(frames, SESSION, at_once=True))


SPLICES = ("0", "9", "-", ".", '"', ",", " ", "1e5", "00", "null", "99999999999999999999", "}", "[", "é", "T", "")


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 30))
def test_mutated_frames_make_the_same_records_at_once_and_one_by_one(seed: int, changes: int) -> None:
    draw = Random(seed)
    frames = list(SESSION.frames[60:])
    for _ in range(changes):
        number = draw.randrange(len(frames))
        frame = frames[number]
        at = draw.randrange(len(frame) + 1)
        match draw.randrange(5):
            case 0:
                frames[number] = frame[:at] + draw.choice(SPLICES) + frame[at + 1 :]
            case 1:
                frames[number] = frame[:at] + draw.choice(SPLICES) + frame[at:]
            case 2:
                frames[number] = frame[:at]
            case 3:
                frames.insert(draw.randrange(len(frames)), frame)
            case _:
                del frames[number]
    assert_equal(published(frames, SESSION, at_once=False), published(frames, SESSION, at_once=True))


def test_digits_at_the_limits_are_the_parsers_business() -> None:
    trade = next(frame for frame in TRADES.frames[60:] if '"BTCUSDT"' in frame)
    before, price, after = trade.partition('"p":"')
    rest = after.partition('"')[2]
    for text in ("9999999999.99999999", "99999999999.00000000", "92233720368.54775807", "92233720368.54775808", "0.1"):
        frames = [f'{before}{price}{text}"{rest}', *TRADES.frames[60:]]
        assert_equal(published(frames, TRADES, at_once=False), published(frames, TRADES, at_once=True))


def test_few_frames_are_not_worth_a_burst() -> None:
    assert SHORT_RUN < BURST
    assert published(SESSION.frames[60 : 60 + BURST - 1], SESSION, at_once=True).batched == 0
