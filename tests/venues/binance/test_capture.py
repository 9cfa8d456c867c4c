"""Reading recordings, losing frames of them, and what they tell about an instrument."""

from __future__ import annotations

import gzip
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from skeet.core.errors import InvalidInput, VenueError
from skeet.venues.binance.capture import CapturedFrame, read_capture, stream_counts
from skeet.venues.binance.dropping import FrameDropper
from skeet.venues.binance.instruments import definition_from_market, next_version, unified_symbol


def frame(line: int, stream: str) -> CapturedFrame:
    return CapturedFrame(line, line, f'{{"stream":"{stream}","data":{{}}}}'.encode())


def test_plain_and_gzip_files_read_alike(tmp_path: Path) -> None:
    lines = b'5 {"stream":"btcusdt@trade","data":{}}\n\n7 {"lastUpdateId":1}\r\n'
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_bytes(lines)
    packed.write_bytes(gzip.compress(lines))
    found = list(read_capture(plain))
    assert found == list(read_capture(packed))
    assert [(each.line, each.received_ns, each.stream, each.symbol) for each in found] == [
        (1, 5, "btcusdt@trade", "BTCUSDT"),
        (3, 7, "", ""),
    ]
    assert stream_counts([plain, packed]) == Counter({"btcusdt@trade": 2})


def test_a_symbol_is_found_in_a_frame_without_envelope() -> None:
    assert CapturedFrame(1, 1, b'{"u":1,"s":"ETHUSDT"}').symbol == "ETHUSDT"


@pytest.mark.parametrize("content", [b"no capture\n", b"12\n", b"12 \n", b"-1 {}\n", b"\x1f\x8bnot gzip"])
def test_what_is_no_capture_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "session.gz"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"session\.gz"):
        list(read_capture(path))


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="nowhere, after line 0: No such file"):
        list(read_capture(tmp_path / "nowhere"))


def test_a_dropper_loses_the_same_frames_by_the_same_seed_and_never_the_first_or_last() -> None:
    frames = [frame(n, stream) for n in range(300) for stream in ("x@trade", "x@depth@100ms", "x@bookTicker")]
    totals = Counter(each.stream for each in frames)

    def lost(seed: int, rate: float) -> list[CapturedFrame]:
        dropper = FrameDropper(seed, rate, totals)
        return [each for each in frames if dropper.drops(each, in_sync=each.line > 10)]

    everything = lost(1, 1.0)
    assert {each.stream for each in everything} == {"x@trade", "x@depth@100ms"}
    assert {each.line for each in everything} == set(range(12, 299))
    assert lost(1, 0.1) == lost(1, 0.1) != lost(2, 0.1)
    assert 30 < len(lost(1, 0.1)) < 90


def test_a_symbol_is_cut_at_a_known_quote_asset() -> None:
    assert [unified_symbol(each) for each in ("BTCUSDT", "ETHBTC", "BTCFDUSD")] == ["BTC/USDT", "ETH/BTC", "BTC/FDUSD"]
    with pytest.raises(InvalidInput, match="--symbol"):
        unified_symbol("ABCDEF")


MARKET: dict[str, Any] = {
    "id": "BTCUSDT",
    "symbol": "BTC/USDT",
    "base": "BTC",
    "quote": "USDT",
    "active": True,
    "maker": 0.001,
    "taker": 0.002,
    "info": {
        "makerCommission": "0.00020000",
        "filters": [
            {"filterType": "PRICE_FILTER", "tickSize": "0.01000000"},
            {"filterType": "LOT_SIZE", "stepSize": "0.00001000", "minQty": "0.00001000", "maxQty": "9000.00000000"},
            {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
        ],
    },
}


def test_rules_come_from_the_venues_filters_and_fees_from_its_own_strings_where_it_gives_them() -> None:
    found = definition_from_market(MARKET, "SIM", 1)
    assert (found.instrument_id, found.version) == ("SIM:BTC/USDT", 1)
    assert (found.tick_size, found.step_size) == (Decimal("0.01"), Decimal("0.00001"))
    assert (found.min_quantity, found.max_quantity) == (Decimal("0.00001"), Decimal(9000))
    assert (found.min_notional, found.max_notional) == (Decimal(5), Decimal(0))
    assert (found.maker_fee, found.taker_fee) == (Decimal("0.0002"), Decimal("0.002"))
    assert str(found.max_quantity) == "9000"


def test_a_new_version_is_made_only_when_a_rule_changed() -> None:
    found = definition_from_market(MARKET, "SIM", 1)
    assert next_version(found, None) == found
    assert next_version(definition_from_market(MARKET, "SIM", 99), found) is None
    halted = next_version(definition_from_market({**MARKET, "active": False}, "SIM", 99), found)
    assert halted is not None
    assert (halted.version, halted.active, halted.ts_init) == (2, False, 99)


def test_a_market_without_its_filters_is_the_venues_error() -> None:
    with pytest.raises(VenueError, match="PRICE_FILTER"):
        definition_from_market({**MARKET, "info": {"filters": []}}, "SIM", 1)
