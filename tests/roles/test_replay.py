"""The four recorded Binance spot files through the real broker, compared with scripts that know nothing of SKEET."""

from __future__ import annotations

import gzip
import json
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import pytest

from skeet.config import KafkaSettings, RegistrySettings, Settings
from skeet.core.control import DeadLetter
from skeet.core.errors import InvalidInput
from skeet.core.market import BookSnapshot, GapClosed, GapOpened, GapOutcome, InstrumentDefined, RawFrame
from skeet.roles.replay import ReplayOptions, ReplaySummary, replay
from skeet.streams import topics_admin
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import (
    DEAD_LETTERS,
    INSTRUMENTS,
    MARKET_BOOKS,
    MARKET_QUOTES,
    MARKET_RAW,
    MARKET_STATUS,
    MARKET_TRADES,
    Topic,
)
from skeet.venues.binance.capture import read_capture, stream_counts
from skeet.venues.binance.dropping import FrameDropper

pytestmark = pytest.mark.integration

EXPECTED = Counter(RawFrame=179_318, Trade=34_419, Quote=131_932, BookSnapshot=2, BookDelta=12_961, InstrumentDefined=2)
"""Of all four files together. Book updates are the two REST books and the diffs that these do not contain already."""
TOPICS = (MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, INSTRUMENTS, MARKET_STATUS)
LEVELS = 20


def session(folder: Path) -> list[Path]:
    names = [f"binance_spot_{symbol}_202408{day}.gz" for symbol in ("BTCUSDT", "ETHUSDT") for day in ("08", "09")]
    return [folder / "books" / name for name in names]


def frames_of(path: Path) -> Iterator[dict[str, Any]]:
    for line in gzip.decompress(path.read_bytes()).decode().splitlines():
        yield json.loads(line.split(" ", 1)[1])


def independent_counts(paths: list[Path]) -> Counter[str]:
    """Ten lines that know nothing of SKEET."""
    names = {"trade": "Trade", "bookTicker": "Quote", "depth": "BookDelta", "book": "BookSnapshot"}
    counts: Counter[str] = Counter()
    frames = [(path.name[13:20], frame) for path in paths for frame in frames_of(path)]
    book = {symbol: frame["lastUpdateId"] for symbol, frame in frames if "lastUpdateId" in frame}
    for symbol, frame in frames:
        name = names[frame["stream"].split("@")[1] if "stream" in frame else "book"]
        counts["RawFrame"] += 1
        counts[name] += name != "BookDelta" or frame["data"]["u"] > book[symbol]
    return counts + Counter(InstrumentDefined=len(book))


@dataclass
class IndependentBook:
    """A book built the plain way from frames: price and size as decimals in two dictionaries."""

    sides: dict[str, dict[Decimal, Decimal]] = field(default_factory=lambda: {"b": {}, "a": {}})
    at: int = 0

    def feed(self, frame: dict[str, Any]) -> bool:
        """Whether the book changed."""
        if "lastUpdateId" in frame:
            self.at = frame["lastUpdateId"]
            rows = {"b": frame["bids"], "a": frame["asks"]}
        elif frame["data"].get("e") == "depthUpdate" and self.at and frame["data"]["u"] > self.at:
            self.at = frame["data"]["u"]
            rows = frame["data"]
        else:
            return False
        for side, levels in self.sides.items():
            for price, size in rows[side]:
                levels[Decimal(price)] = Decimal(size)
        return True

    def top(self, count: int = LEVELS) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        bids = sorted((item for item in self.sides["b"].items() if item[1]), reverse=True)
        asks = sorted(item for item in self.sides["a"].items() if item[1])
        return bids[:count], asks[:count]


def with_straddling_diffs(frames: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same frames with those before the REST book behind it, as the recipe says."""
    listed = list(frames)
    snapshot = next((n for n, frame in enumerate(listed) if "lastUpdateId" in frame), None)
    return listed if snapshot is None else [listed[snapshot], *listed[:snapshot], *listed[snapshot + 1 :]]


def our_book(events: list[Any]) -> Iterator[tuple[int, IndependentBook]]:
    """The book after each of our events, by the rules of the events alone."""
    book = IndependentBook()
    for event in events:
        if isinstance(event, BookSnapshot):
            book.sides = {"b": {}, "a": {}}
        for side, prices, sizes in (
            ("b", event.bid_prices, event.bid_sizes),
            ("a", event.ask_prices, event.ask_sizes),
        ):
            for price, size in zip(prices, sizes, strict=True):
                book.sides[side][Decimal(price).scaleb(-event.price_scale)] = Decimal(size).scaleb(-event.size_scale)
        yield event.last_update_id, book


def read(settings: Settings, *topics: Topic) -> list[Any]:
    return [record.event for record in records_until_end(settings, registered_codec(settings), topics)]


@pytest.fixture(scope="module")
def new_settings(kafka: str, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Settings]:
    def make() -> Settings:
        settings = Settings(
            kafka=KafkaSettings(
                bootstrap=kafka, topic_prefix=f"t{uuid.uuid4().hex[:8]}.", account_partitions=2, market_partitions=2
            ),
            registry=RegistrySettings(url=registry_url),
            data=tmp_path_factory.mktemp("data"),
        )
        topics_admin.apply(settings)
        return settings

    return make


@pytest.fixture(scope="module")
def replayed(new_settings: Callable[[], Settings], shared_data: Path) -> tuple[Settings, ReplaySummary]:
    settings = new_settings()
    return settings, replay(settings, session(shared_data), ReplayOptions())


def test_counts_in_kafka_equal_those_of_an_independent_script(
    replayed: tuple[Settings, ReplaySummary], shared_data: Path
) -> None:
    settings, summary = replayed
    assert independent_counts(session(shared_data)) == EXPECTED
    assert Counter(type(event).__name__ for event in read(settings, *TOPICS)) == EXPECTED
    assert summary.written == EXPECTED
    assert not summary.gaps and not summary.unreadable and not summary.diffs_without_book


def test_a_second_replay_writes_nothing(replayed: tuple[Settings, ReplaySummary], shared_data: Path) -> None:
    settings, _ = replayed
    again = replay(settings, session(shared_data)[2:], ReplayOptions())
    assert again.repeated == again.frames > 0
    assert not again.written


def test_an_instrument_is_defined_by_the_finest_decimals_of_its_file(replayed: tuple[Settings, ReplaySummary]) -> None:
    found = {event.instrument_id: event for event in read(replayed[0], INSTRUMENTS)}
    bitcoin = found["BINANCE:BTC/USDT"]
    assert (bitcoin.tick_size, bitcoin.step_size, bitcoin.version) == (Decimal("0.01"), Decimal("0.000001"), 1)
    assert (bitcoin.base, bitcoin.quote, bitcoin.venue_symbol) == ("BTC", "USDT", "BTCUSDT")
    ether = found["BINANCE:ETH/USDT"]
    assert (ether.tick_size, ether.step_size) == (Decimal("0.01"), Decimal("0.0001"))


@pytest.mark.parametrize(("symbol", "files"), [("BTC/USDT", slice(0, 2)), ("ETH/USDT", slice(2, 4))])
def test_the_book_rebuilt_from_kafka_equals_one_built_from_the_files(
    replayed: tuple[Settings, ReplaySummary], shared_data: Path, symbol: str, files: slice
) -> None:
    paths = session(shared_data)[files]
    frames = [frame for path in paths for frame in with_straddling_diffs(frames_of(path))]
    updates = [f["data"]["u"] for f in frames if f.get("data", {}).get("e") == "depthUpdate"]
    chosen = set(Random(1).sample(updates[3:], 100))
    independent, expected = IndependentBook(), {}
    for frame in frames:
        if independent.feed(frame) and independent.at in chosen:
            expected[independent.at] = independent.top()

    ours = [event for event in read(replayed[0], MARKET_BOOKS) if event.instrument_id == f"BINANCE:{symbol}"]
    rebuilt = {at: book.top() for at, book in our_book(ours) if at in chosen}
    assert len(expected) == 100
    assert rebuilt == expected

    *_, (at, book) = our_book(ours)
    ticker = [f["data"] for f in frames if f.get("stream", "").endswith("bookTicker")][-1]
    (bid, bid_size), (ask, ask_size) = book.top()[0][0], book.top()[1][0]
    assert (bid, ask) == (Decimal(ticker["b"]), Decimal(ticker["a"]))
    if ticker["u"] <= at:
        assert (bid_size, ask_size) == (Decimal(ticker["B"]), Decimal(ticker["A"]))


def merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbouring ranges as one."""
    result: list[tuple[int, int]] = []
    for first, last in ranges:
        if result and result[-1][1] + 1 == first:
            result[-1] = (result[-1][0], last)
        else:
            result.append((first, last))
    return result


def lost_ranges(paths: list[Path], seed: int) -> dict[str, list[tuple[int, int]]]:
    """What the dropper loses of a session of one symbol, by channel, from the frames' own ids."""
    dropper = FrameDropper(seed, 0.01, stream_counts(paths))
    lost: dict[str, list[tuple[int, int]]] = {"TRADES": [], "BOOK": []}
    in_sync = False
    for path in paths:
        for captured in read_capture(path):
            frame = json.loads(captured.payload)
            if dropper.drops(captured, in_sync=in_sync):
                body = frame["data"]
                channel, ids = ("TRADES", (body["t"],) * 2) if "t" in body else ("BOOK", (body["U"], body["u"]))
                lost[channel].append(ids)
            in_sync = in_sync or "lastUpdateId" in frame
    return {channel: merged(ranges) for channel, ranges in lost.items()}


@pytest.mark.parametrize("seed", [7])
def test_gaps_reported_are_exactly_the_frames_dropped(
    new_settings: Callable[[], Settings], shared_data: Path, seed: int
) -> None:
    settings, paths = new_settings(), session(shared_data)[2:]
    expected = lost_ranges(paths, seed)
    assert len(expected["TRADES"]) > 100 and len(expected["BOOK"]) > 40
    summary = replay(settings, paths, ReplayOptions(drop_seed=seed))

    status = read(settings, MARKET_STATUS)
    for kind in (GapOpened, GapClosed):
        for channel, ranges in expected.items():
            found = [e for e in status if type(e) is kind and e.channel == channel]
            assert [(gap.first_missing, gap.last_missing) for gap in found] == ranges
    assert {gap.outcome for gap in status if isinstance(gap, GapClosed)} == {GapOutcome.UNFILLABLE}
    assert summary.gaps == {channel: len(ranges) for channel, ranges in expected.items()}


def write_capture(path: Path, *frames: str) -> Path:
    path.write_text("".join(f"{1_700_000_000_000_000_000 + n} {frame}\n" for n, frame in enumerate(frames)))
    return path


TRADE = '{{"e":"trade","E":1,"s":"BTCUSDT","t":{},"p":"1.00000000","q":"2.00000000","T":1,"m":true,"M":true}}'


def test_an_unreadable_frame_is_raw_and_dead_lettered_and_the_rest_goes_on(
    new_settings: Callable[[], Settings], tmp_path: Path
) -> None:
    settings = new_settings()
    broken = TRADE.format(2).replace('"1.00000000"', '"1e5"')
    path = write_capture(tmp_path / "x", TRADE.format(1), broken, '{"e":"weather"}', "{", TRADE.format(5))
    summary = replay(settings, [path], ReplayOptions())
    assert (summary.frames, summary.unreadable) == (5, 3)
    assert "x, line 2: ValueError '1e5' is not a plain decimal number" in summary.unreadable_lines[0]
    letters = [event for event in read(settings, DEAD_LETTERS) if isinstance(event, DeadLetter)]
    assert [letter.value for letter in letters] == [broken.encode(), b'{"e":"weather"}', b"{"]
    assert all(letter.role == "feed" for letter in letters)
    assert sum(isinstance(event, RawFrame) for event in read(settings, MARKET_RAW)) == 5
    assert [event.trade_id for event in read(settings, MARKET_TRADES)] == ["1", "5"]


def test_a_file_that_is_no_capture_is_refused_with_its_name_and_line(
    new_settings: Callable[[], Settings], tmp_path: Path
) -> None:
    settings = new_settings()
    path = write_capture(tmp_path / "x", TRADE.format(1))
    path.write_text(path.read_text() + "price,size\n")
    with pytest.raises(InvalidInput, match=r"x, line 2: expected '<receive time in ns> <json>'"):
        replay(settings, [path], ReplayOptions())
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress((TRADE.format(1) + "\n").encode() * 1000)[:-20])
    with pytest.raises(InvalidInput, match=r"cut\.gz"):
        replay(settings, [cut], ReplayOptions())


def test_a_diff_file_without_its_book_says_so(new_settings: Callable[[], Settings], shared_data: Path) -> None:
    settings = new_settings()
    summary = replay(settings, [session(shared_data)[3]], ReplayOptions(venue="ALONE"))
    assert summary.diffs_without_book == 3_036
    assert not read(settings, MARKET_BOOKS)
    assert [e.instrument_id for e in read(settings, INSTRUMENTS) if isinstance(e, InstrumentDefined)] == [
        "ALONE:ETH/USDT"
    ]
