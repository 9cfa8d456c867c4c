"""The four recorded Binance spot files through the real broker, counted by an independent script."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from skeet.config import Settings
from skeet.roles.replay import ReplayOptions, replay
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import INSTRUMENTS, MARKET_BOOKS, MARKET_QUOTES, MARKET_RAW, MARKET_STATUS, MARKET_TRADES

pytestmark = pytest.mark.integration

EXPECTED = Counter(RawFrame=179_318, Trade=34_419, Quote=131_932, BookSnapshot=2, BookDelta=12_961, InstrumentDefined=2)
"""Of all four files together. Book updates are the REST books and the diffs they do not contain already."""


def session(folder: Path) -> list[Path]:
    names = [f"binance_spot_{symbol}_202408{day}.gz" for symbol in ("BTCUSDT", "ETHUSDT") for day in ("08", "09")]
    return [folder / "books" / name for name in names]


def independent_counts(paths: list[Path]) -> Counter[str]:
    """Ten lines that know nothing of SKEET."""
    counts: Counter[str] = Counter()
    book: dict[str, int] = {}
    lines = [
        (path.name[13:20], line.split(" ", 1)[1])
        for path in paths
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]
    frames = [(symbol, json.loads(text)) for symbol, text in lines]
    book = {symbol: frame["lastUpdateId"] for symbol, frame in frames if "lastUpdateId" in frame}
    for symbol, frame in frames:
        kind = frame["stream"].split("@")[1] if "stream" in frame else "book"
        name = {"trade": "Trade", "bookTicker": "Quote", "depth": "BookDelta", "book": "BookSnapshot"}[kind]
        counts["RawFrame"] += 1
        counts[name] += name != "BookDelta" or frame["data"]["u"] > book[symbol]
    return counts + Counter(InstrumentDefined=len(book))


def test_counts_in_kafka_equal_those_of_an_independent_script(applied_settings: Settings, shared_data: Path) -> None:
    paths = session(shared_data)
    assert independent_counts(paths) == EXPECTED

    summary = replay(applied_settings, paths, ReplayOptions())
    topics = [MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, INSTRUMENTS, MARKET_STATUS]
    records = records_until_end(applied_settings, registered_codec(applied_settings), topics)
    assert Counter(type(record.event).__name__ for record in records) == EXPECTED
    assert summary.written == EXPECTED
    assert not summary.gaps and not summary.unreadable and not summary.diffs_without_book

    again = replay(applied_settings, paths, ReplayOptions())
    assert again.repeated == again.frames
    assert not again.written
