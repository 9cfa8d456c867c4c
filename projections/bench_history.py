"""The sides of ``skeet bench sinks`` that copy trades from Kafka into ClickHouse, each run in a process of its own.

``python -m skeet.projections.bench_history SIDE COUNT`` (settings from the environment) copies so many trades of the topic
into an empty database and prints one line of JSON: trades, seconds and processor seconds without the first insert.

``rows``
    what one writes with the stock clients: fastavro, a Python list for each trade, ``clickhouse_connect``'s insert of them.
``records``
    the projection with records decoded one by one into Arrow.
``columns``
    the projection as it is.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from zlib import crc32

import fastavro
from confluent_kafka import Message, TopicPartition

from skeet.config import Settings, load_settings
from skeet.core.market import Trade
from skeet.process import StopSignal
from skeet.projections.blocks import MAX_BLOCK_RECORDS
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_columns import COLUMNS_FROM, BlockReader
from skeet.projections.history_writer import FETCH_BYTES, POLL_S, HistorySession
from skeet.projections.messages import without_passing_errors
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import HEADER, numbered_codec
from skeet.streams.kafka import consumer
from skeet.streams.topics import MARKET_TRADES, partition_count, topic_name

COLUMNS = (
    *("log_partition", "log_offset", "log_ts", "record_crc", "instrument_id", "ts_event", "ts_init", "trade_id"),
    *("price", "size", "price_scale", "size_scale", "aggressor_side", "backfilled"),
)
POLL_RECORDS = 5_000
LAST_FLUSH_S = 1.0
"""What the last, unfilled blocks wait for company that will not come; all others go when they are full."""


class Clock:
    """Counts trades inserted, and takes the time from the end of the first insert on."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._left_out = self._records = 0
        self._began = self._cpu_began = 0.0
        self.found: dict[str, float] = {}

    def add(self, records: int) -> bool:
        """So many more; whether these were enough."""
        self._records += records
        if not self._began:
            self._left_out, self._began, self._cpu_began = records, time.perf_counter(), time.process_time()
        elif self._records >= self._count and not self.found:
            self.found = {
                "records": self._records - self._left_out,
                "seconds": time.perf_counter() - self._began,
                "cpu_seconds": time.process_time() - self._cpu_began,
            }
        return bool(self.found)


def rows(settings: Settings, clock: Clock) -> None:
    """Row lists through the stock clients; the client is as deep as the projection's, its inserts as large as blocks."""
    store = HistoryStore(settings)
    read, schema = fastavro.schemaless_reader, fastavro.parse_schema(dict(committed_schema(Trade)))
    held: list[list[Any]] = []
    for message in _messages(settings):
        value = message.value() or b""
        trade: Any = read(io.BytesIO(value[HEADER.size :]), schema)
        price_scale, size_scale = trade["price_scale"], trade["size_scale"]
        held.append(
            [
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                crc32(value),
                trade["instrument_id"],
                trade["ts_event"],
                trade["ts_init"],
                trade["trade_id"],
                Decimal(trade["price_mantissa"]).scaleb(-price_scale),
                Decimal(trade["size_mantissa"]).scaleb(-size_scale),
                price_scale,
                size_scale,
                trade["aggressor_side"],
                trade["backfilled"],
            ]
        )
        if len(held) >= MAX_BLOCK_RECORDS:
            store.insert_rows("trades", held, COLUMNS)
            if clock.add(len(held)):
                return
            held = []


def _messages(settings: Settings) -> Iterator[Message]:
    client = consumer(
        settings,
        "bench",
        queued_min_messages=20_000,
        queued_max_messages_kbytes=32 * 1024,
        fetch_min_bytes=FETCH_BYTES,
    )
    name = topic_name(MARKET_TRADES, settings.kafka)
    client.assign([TopicPartition(name, p, 0) for p in range(partition_count(MARKET_TRADES, settings.kafka))])
    while True:
        yield from without_passing_errors(client.consume(POLL_RECORDS, POLL_S))


def projection(settings: Settings, clock: Clock, columns_from: int = COLUMNS_FROM) -> None:
    """The projection's own session, until enough trades are in the store."""
    stop, store, codec = StopSignal(), HistoryStore(settings), numbered_codec()
    insert = store.insert

    def counted(table: str, rows: Any, token: str) -> None:
        insert(table, rows, token)
        if clock.add(rows.num_rows):
            stop.stop()

    store.insert = counted  # type: ignore[method-assign]
    reader = BlockReader(codec, columns_from)
    HistorySession(settings, codec, store, reader=reader, flush_after_s=LAST_FLUSH_S).run(stop)


SIDES: dict[str, Callable[[Settings, Clock], None]] = {
    "rows": rows,
    "records": lambda settings, clock: projection(settings, clock, sys.maxsize),
    "columns": projection,
}


if __name__ == "__main__":
    counting = Clock(int(sys.argv[2]))
    SIDES[sys.argv[1]](load_settings(), counting)
    sys.stdout.write(json.dumps(counting.found) + "\n")
