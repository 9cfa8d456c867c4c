"""A burst over a socket, faster than any venue sends: nothing is lost."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from skeet.cli.feed_bench import from_socket
from skeet.config import Settings
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import MARKET_BOOKS, MARKET_QUOTES, MARKET_RAW, MARKET_STATUS, MARKET_TRADES

pytestmark = pytest.mark.integration

TOPICS = (MARKET_RAW, MARKET_TRADES, MARKET_QUOTES, MARKET_BOOKS, MARKET_STATUS)
FLOOR = 6_000
"""Frames a second that the continuous integration machine must reach."""


def test_a_burst_of_frames_over_a_socket_is_taken_whole_and_in_order(
    applied_settings: Settings, shared_data: Path, tmp_path: Path
) -> None:
    path = shared_data / "books" / "binance_spot_BTCUSDT_20240808.gz"
    measured = from_socket(applied_settings, [path], "BURST", tmp_path)

    codec = registered_codec(applied_settings)
    events = [record.event for record in records_until_end(applied_settings, codec, TOPICS)]
    counts = Counter(type(event).__name__ for event in events)
    # 3,451 diffs of which the REST book holds two already; 41,248 frames and the REST book.
    assert counts == Counter(RawFrame=41_249, Trade=9_757, Quote=28_040, BookDelta=3_449, BookSnapshot=1)
    trades = [int(event.trade_id) for event in events if type(event).__name__ == "Trade"]
    assert trades == list(range(trades[0], trades[0] + len(trades)))
    assert measured.frames_per_second > FLOOR
