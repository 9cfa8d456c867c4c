"""What a machine may fold as columns: nothing that the door would turn away, and everything that is as it should be."""

from __future__ import annotations

from typing import Any

import pytest
from chunks import raw_chunk
from market_records import SYMBOL, quote, trade

from skeet.config import KafkaSettings
from skeet.core.errors import InvalidInput
from skeet.core.market import Trade
from skeet.schemas.codec import numbered_codec
from skeet.streams.batches.rows import ChunkRows, RowsReader
from skeet.streams.door import Door
from skeet.streams.partitioner import partition_of

CODEC = numbered_codec()
KAFKA = KafkaSettings(market_partitions=4)
TOPIC = "market.trades.v1"
HERE = partition_of(SYMBOL.encode(), 4)
ELSEWHERE = next(f"SIM:{n}/USDT" for n in range(99) if partition_of(f"SIM:{n}/USDT".encode(), 4) != HERE)
GOOD = CODEC.encode(trade(1, 0.1))


def rows_of(*records: tuple[bytes, bytes]) -> ChunkRows:
    reader = RowsReader(CODEC, Door(KAFKA, CODEC), TOPIC, 4, Trade, {})
    return reader.rows(raw_chunk([(7 + n, 1_700_000_041_000, *each) for n, each in enumerate(records)], TOPIC, HERE))


def test_records_as_they_should_be_are_usual() -> None:
    rows = rows_of((SYMBOL.encode(), GOOD), (SYMBOL.encode(), CODEC.encode(trade(2, 0.2, backfilled=True))))
    assert rows.row_of.tolist() == [0, 1]
    assert str(rows.at(1)) == f"{TOPIC}/{HERE}/8"
    assert rows.record(1).event == trade(2, 0.2, backfilled=True)


def written(**fields: Any) -> bytes:
    return CODEC.encode(trade(1, 0.1, **fields))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (SYMBOL, b"\0\0\0"),
        (SYMBOL, b""),
        (SYMBOL, CODEC.encode(quote(1, 0.1))),
        ("SIM:ETH/USDT", GOOD),
        ("SIM:BTC/USDX", GOOD),
        ("", GOOD),
        (ELSEWHERE, written(symbol=ELSEWHERE)),
        ("", written(symbol="")),
        ("~1", written(symbol="~1")),
        (SYMBOL, written(price_scale=19)),
        (SYMBOL, written(size_scale=-1)),
        (SYMBOL, written(ts_event=-1)),
        (SYMBOL, written(ts_init=2**62)),
        (SYMBOL, written(trade_id="a\x01b")),
        (SYMBOL, written(trade_id="x" * 129)),
    ],
)
def test_what_the_door_turns_away_is_not_usual_and_its_neighbours_are(key: str, value: bytes) -> None:
    rows = rows_of((SYMBOL.encode(), GOOD), (key.encode(), value), (SYMBOL.encode(), GOOD))
    assert (rows.row_of >= 0).tolist() == [True, False, True]
    with pytest.raises(InvalidInput):
        rows.record(1)


def test_a_text_that_is_not_plainly_clean_is_left_to_the_door() -> None:
    rows = rows_of((SYMBOL.encode(), written(trade_id="é")))
    assert rows.row_of.tolist() == [-1]
    assert rows.record(0).event.trade_id == "é"
