"""``skeet bench codec``: trades as Avro to columns and back, against fastavro's schemaless reader and writer."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import fastavro
import numpy as np
import typer

from skeet.cli.bench_ratio import Comparison, Floor, Json, Rounds, interleave, rate, report
from skeet.core.errors import BugError
from skeet.core.market import Trade
from skeet.core.values import NS_PER_MS, Side
from skeet.schemas.catalogue import committed_schema
from skeet.schemas.codec import HEADER, numbered_codec
from skeet.schemas.columns.columns import Columns, Longs
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.encoding import ColumnEncoder

BATCH = 15_000
"""Trades in a batch: about a megabyte, what a Kafka producer of ours sends at most."""
BASELINE_BATCHES = 5
"""fastavro's share of a round, a quarter of a second; all of these records are compared, too."""
INSTRUMENTS = 300
FIRST_NS = 1_760_000_000_000_000_000
DECODE_GOAL, DECODE_FLOOR = 30.0, 15.0
ENCODE_GOAL, ENCODE_FLOOR = 10.0, 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Framed trades in one buffer, as the engine hands them over."""

    buffer: bytes
    starts: Longs
    lengths: Longs

    def bodies(self) -> list[bytes]:
        """The Avro of each without its header: what fastavro reads."""
        ends = (self.starts + self.lengths).tolist()
        begins = (self.starts + HEADER.size).tolist()
        return [self.buffer[begin:end] for begin, end in zip(begins, ends, strict=True)]


def bench_codec(
    records: Annotated[int, typer.Option(min=BATCH, help="Trades that our side decodes, and encodes.")] = 3_000_000,
    rounds: Rounds = 9,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """Trades to columns and back against fastavro's schemaless reader and writer, in turn; both sides' results compared.

    Compilation and the first round do not count. The floor is of both ratios; without one it is 15 for decoding, 5 for
    encoding.
    """
    report(
        f"Columnar codec: {records:,} trades each way",
        measured(records, rounds, floor),
        notes=(f"compared: {BATCH * BASELINE_BATCHES:,} trades, every value and every byte equal",),
        as_json=as_json,
    )


def measured(records: int, rounds: int, floor: float | None = None) -> list[Comparison]:
    """Decoding and encoding, after a look at whether both sides have the same results.

    Raises
    ------
    BugError
        they have not.
    """
    codec = numbered_codec((Trade,))
    decoder, encoder = ColumnDecoder(codec, Trade), ColumnEncoder(codec, Trade)
    batches = [_batch(codec.encode(trade) for trade in _trades(BATCH, seed)) for seed in range(BASELINE_BATCHES)]
    bodies = [body for batch in batches for body in batch.bodies()]
    schema = fastavro.parse_schema(committed_schema(Trade))
    columns = [decoder.decode(batch.buffer, batch.starts, batch.lengths) for batch in batches]
    values = _read(bodies, schema)
    _compare(batches, columns, values, encoder)
    times = -(-records // (rounds * BATCH * BASELINE_BATCHES))

    def decode() -> None:
        for batch in batches * times:
            decoder.decode(batch.buffer, batch.starts, batch.lengths)

    def encode() -> None:
        for each in columns * times:
            encoder.encode(each)

    ours = len(bodies) * times
    read = interleave(lambda: rate(len(bodies), lambda: _read(bodies, schema)), lambda: rate(ours, decode), rounds)
    written = interleave(lambda: rate(len(values), lambda: _write(values, schema)), lambda: rate(ours, encode), rounds)
    return [
        _comparison("decode", *read, goal=DECODE_GOAL, floor=floor or DECODE_FLOOR),
        _comparison("encode", *written, goal=ENCODE_GOAL, floor=floor or ENCODE_FLOOR),
    ]


def _comparison(
    what: str, baseline: tuple[float, ...], ours: tuple[float, ...], *, goal: float, floor: float
) -> Comparison:
    return Comparison(
        what=what,
        unit="records/s",
        baseline_name="fastavro",
        our_name="columns",
        baseline=baseline,
        ours=ours,
        goal=goal,
        floor=floor,
    )


def _trades(count: int, seed: int) -> Iterator[Trade]:
    """As the feed writes them: many instruments mixed, ids and times that grow, prices and sizes of every length."""
    draw = random.Random(seed)
    for number in range(seed * count, (seed + 1) * count):
        yield Trade(
            instrument_id=f"BINANCE:X{draw.randrange(INSTRUMENTS)}/USDT",
            ts_event=FIRST_NS + number * NS_PER_MS,
            ts_init=FIRST_NS + number * NS_PER_MS + draw.randrange(NS_PER_MS),
            trade_id=str(3_000_000_000 + number),
            price_mantissa=draw.randrange(10 ** draw.randrange(3, 14)),
            size_mantissa=draw.randrange(10 ** draw.randrange(3, 12)),
            price_scale=8,
            size_scale=8,
            aggressor_side=draw.choice((Side.BUY, Side.SELL)),
        )


def _batch(records: Iterator[bytes]) -> Batch:
    held = list(records)
    lengths = np.fromiter(map(len, held), np.int64, len(held))
    return Batch(buffer=b"".join(held), starts=np.cumsum(lengths) - lengths, lengths=lengths)


def _read(bodies: list[bytes], schema: Any) -> list[Any]:
    read, stream = fastavro.schemaless_reader, io.BytesIO
    return [read(stream(body), schema) for body in bodies]


def _write(values: list[Any], schema: Any) -> list[bytes]:
    written = []
    for each in values:
        body = io.BytesIO()
        fastavro.schemaless_writer(body, schema, each)
        written.append(body.getvalue())
    return written


def _compare(batches: list[Batch], columns: list[Columns], values: list[Any], encoder: ColumnEncoder) -> None:
    ours = [each.values(row) for each in columns for row in range(len(each))]
    for number, (mine, theirs) in enumerate(zip(ours, values, strict=True)):
        if mine != theirs:
            raise BugError(f"trade {number}: columns hold {mine}, fastavro reads {theirs}")
    for batch, each in zip(batches, columns, strict=True):
        if encoder.encode(each).buffer.tobytes() != batch.buffer:
            raise BugError("columns are not written as fastavro writes them")
