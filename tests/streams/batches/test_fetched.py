"""Chunks of fetched bytes against aiokafka's own reader, on random batches and on damaged ones."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from aiokafka.consumer.fetcher import READ_COMMITTED, PartitionRecords
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.legacy_records import LegacyRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.errors import InvalidInput
from skeet.streams.batches.chunk import Chunk
from skeet.streams.batches.fetched import FetchedChunks
from skeet.streams.batches.framing import Column, Walk, walk_plainly
from skeet.streams.batches.walking import walk as walk_compiled

pytestmark = pytest.mark.parametrize("walk", [walk_compiled, walk_plainly])

PLACE = TopicPartition("trades", 3)
HEADER = struct.Struct(">qiibIhiqqqhii")
CONTROL, TRANSACTIONAL, APPEND_TIME = 0x20, 0x10, 0x08

Plain = tuple[int, int, bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]


@dataclass(frozen=True)
class Written:
    """One batch in the bytes, and how it is to be framed."""

    records: tuple[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...], int], ...]
    codec: int = 0
    producer: int = -1
    transactional: bool = False
    append_time: bool = False
    skip: int = 0
    """Offsets that compaction left empty behind the batch."""
    marker: bytes | None = None
    """The key of a control record; then the records do not count."""


def encoded(batches: list[Written]) -> bytes:
    content, offset = b"", 100
    for batch in batches:
        records = ((batch.marker, b"\0" * 6, (), 1),) if batch.marker is not None else batch.records
        codec = 0 if batch.marker is not None else batch.codec
        builder = DefaultRecordBatchBuilder(2, codec, batch.transactional, batch.producer, 0, 0, 1 << 20)
        for index, (key, value, headers, time) in enumerate(records):
            builder.append(index, 1_700_000_000_000 + time, key, value, list(headers))
        frame = bytearray(builder.build())
        fields = list(HEADER.unpack_from(frame))
        fields[0] = offset
        fields[5] |= (CONTROL if batch.marker is not None else 0) | (APPEND_TIME if batch.append_time else 0)
        fields[6] += batch.skip
        HEADER.pack_into(frame, 0, *fields)
        fields[4] = crc32c(bytes(frame[21:]))
        HEADER.pack_into(frame, 0, *fields)
        content += bytes(frame)
        offset += len(records) + batch.skip
    return content


def by_aiokafka(raw: bytes, aborted: list[tuple[int, int]], position: int) -> tuple[list[Plain], int]:
    records = PartitionRecords(PLACE, MemoryRecords(raw), list(aborted), position, None, None, True, READ_COMMITTED)
    found = [(r.offset, r.timestamp, r.key, r.value, tuple(r.headers)) for r in records]
    return found, records.next_fetch_offset


def by_us(raw: bytes, aborted: list[tuple[int, int]], position: int, cap: int, walk: Walk) -> tuple[list[Plain], int]:
    found: list[Plain] = []
    fetched, at = FetchedChunks(PLACE, raw, aborted, position, walk), position
    while not fetched.exhausted:
        chunk = fetched.next_chunk(cap, 1 << 20)
        assert chunk.first == at
        at = chunk.next_offset
        found.extend(plain(chunk))
    return found, fetched.next_fetch_offset


def plain(chunk: Chunk) -> Iterator[Plain]:
    assert chunk.values() == [chunk.value(n) for n in range(len(chunk))]
    for n, (key, value) in enumerate(zip(chunk.keys(), chunk.values(), strict=True)):
        yield int(chunk.offsets[n]), int(chunk.timestamps_ms[n]), key, value, chunk.headers(n)


content = st.one_of(st.none(), st.binary(max_size=80))
headers = st.lists(st.tuples(st.text(max_size=5), content), max_size=2).map(tuple)
records = st.lists(st.tuples(content, content, headers, st.integers(-(10**6), 10**9)), min_size=1, max_size=12).map(
    tuple
)
COMMIT_MARKER, ABORT_MARKER = struct.pack(">hh", 0, 1), struct.pack(">hh", 0, 0)
batches = st.builds(
    Written,
    records=records,
    codec=st.integers(0, 4),
    producer=st.sampled_from([-1, 7, 8]),
    transactional=st.booleans(),
    append_time=st.booleans(),
    skip=st.integers(0, 4),
    marker=st.sampled_from([None, None, None, COMMIT_MARKER, ABORT_MARKER]),
)


@settings(max_examples=100, deadline=None)
@given(
    written=st.lists(batches, min_size=1, max_size=8),
    aborted=st.lists(st.tuples(st.sampled_from([7, 8]), st.integers(90, 180)), max_size=4),
    into=st.integers(-5, 15),
    cap=st.integers(1, 30),
)
def test_chunks_hold_what_aiokafka_reads(
    walk: Walk, written: list[Written], aborted: list[tuple[int, int]], into: int, cap: int
) -> None:
    raw = encoded(written)
    # A broker answers with the batch that holds the position, or with the one behind it.
    held = 1 if written[0].marker is not None else len(written[0].records)
    position = 100 + min(into, held + written[0].skip - 1)
    assert by_us(raw, aborted, position, cap, walk) == by_aiokafka(raw, aborted, position)


@settings(max_examples=100, deadline=None)
@given(written=st.lists(batches, min_size=1, max_size=3), data=st.data())
def test_damaged_bytes_end_in_an_error_or_the_same_records(
    walk: Walk, written: list[Written], data: st.DataObject
) -> None:
    raw = bytearray(encoded(written))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    del raw[data.draw(st.integers(len(raw) // 2, len(raw))) :]
    try:
        found, _ = by_us(bytes(raw), [], 0, 1000, walk)
    except (CorruptRecordException, InvalidInput):
        return
    expected, _ = by_aiokafka(bytes(raw), [], 0)
    assert found == expected


def with_valid_checksum(raw: bytes, at: int, byte: int) -> bytes:
    """One batch, changed behind its header, with the checksum made anew: only the walk can see it."""
    frame = bytearray(raw)
    frame[HEADER.size + at] = byte
    struct.pack_into(">I", frame, 17, crc32c(bytes(frame[21:])))
    return bytes(frame)


@settings(max_examples=100, deadline=None)
@given(taken=records, at=st.integers(0, 500), byte=st.integers(0, 255))
def test_malformed_framing_never_reads_beyond_its_batch(walk: Walk, taken: Any, at: int, byte: int) -> None:
    raw = encoded([Written(taken)])
    raw = with_valid_checksum(raw, at % (len(raw) - HEADER.size), byte)
    try:
        chunk = FetchedChunks(PLACE, raw, [], 0, walk).next_chunk(1000, 1 << 20)
    except CorruptRecordException:
        return
    for starts, lengths in ((chunk.value_starts, chunk.value_lengths), (chunk.key_starts, chunk.key_lengths)):
        assert ((starts >= HEADER.size) & (starts + lengths.clip(0) <= len(raw)) & (lengths >= -1)).all()


def test_a_flipped_bit_is_no_record(walk: Walk) -> None:
    raw = bytearray(encoded([Written(((b"k", b"value", (), 0),))]))
    raw[raw.index(b"value")] ^= 1
    with pytest.raises(CorruptRecordException, match="trades-3 from offset 0: invalid CRC of the batch at offset 100"):
        FetchedChunks(PLACE, bytes(raw), [], 0, walk).next_chunk(10, 1000)


def test_offsets_that_go_backwards_are_no_records(walk: Walk) -> None:
    written = encoded([Written(((b"k", b"one", (), 0),)), Written(((b"k", b"two", (), 0),))])
    for high_byte, said in (
        (1, f"a batch at offset 101 behind {2**56 + 101}"),
        (0xFF, f"at offset {100 - 2**56} behind 0"),
    ):
        raw = bytes([high_byte]) + written[1:]
        with pytest.raises(CorruptRecordException, match=said):
            FetchedChunks(PLACE, raw, [], 0, walk).next_chunk(10, 1000)


def test_batches_from_before_kafka_0_11_are_refused(walk: Walk) -> None:
    builder = LegacyRecordBatchBuilder(1, 0, 1000)
    builder.append(0, timestamp=1, key=b"k", value=b"v")
    with pytest.raises(InvalidInput, match="a batch of format 1; only format 2 is read"):
        FetchedChunks(PLACE, bytes(builder.build()), [], 0, walk).next_chunk(10, 1000)


def test_a_count_that_the_bytes_cannot_hold_allocates_nothing(walk: Walk) -> None:
    frame = bytearray(encoded([Written(((b"k", b"v", (), 0),))]))
    struct.pack_into(">i", frame, 57, 2**31 - 1)
    struct.pack_into(">I", frame, 17, crc32c(bytes(frame[21:])))
    with pytest.raises(CorruptRecordException, match="2147483647 records in"):
        FetchedChunks(PLACE, bytes(frame), [], 0, walk).next_chunk(10, 1000)


def test_a_batch_that_the_fetch_cut_off_is_left_for_the_next_one(walk: Walk) -> None:
    raw = encoded([Written(((b"k", b"one", (), 0),)), Written(((b"k", b"two", (), 0),))])
    fetched = FetchedChunks(PLACE, raw[:-1], [], 0, walk)
    assert fetched.next_chunk(10, 1000).values() == [b"one"]
    assert fetched.exhausted
    assert fetched.next_fetch_offset == 101


def test_a_chunk_ends_at_the_batch_that_fills_it(walk: Walk) -> None:
    rng = random.Random(1)
    raw = encoded([Written(tuple((None, rng.randbytes(50), (), n) for n in range(10))) for _ in range(6)])
    fetched = FetchedChunks(PLACE, raw, [], 100, walk)
    sizes = []
    while not fetched.exhausted:
        sizes.append(len(fetched.next_chunk(25, 1 << 20)))
    assert sizes == [30, 30]
    assert len(FetchedChunks(PLACE, raw, [], 100, walk).next_chunk(1000, 700)) == 20


@settings(max_examples=300, deadline=None)
@given(
    raw=st.binary(max_size=60), count=st.integers(0, 8), taken=records, at=st.integers(0, 500), byte=st.integers(0, 255)
)
def test_any_bytes_are_the_same_to_both_walks(
    walk: Walk, raw: bytes, count: int, taken: Any, at: int, byte: int
) -> None:
    damaged = bytearray(encoded([Written(taken)])[HEADER.size :])
    damaged[at % len(damaged)] = byte
    for content, records_in in ((raw, count), (bytes(damaged), len(taken))):
        table = np.array([[0, len(content), records_in, 100, 7, 0]], np.int64)
        assert table.shape[1] == len(Column)
        ours, other = (
            walk(content, table, 99),
            (walk_plainly if walk is walk_compiled else walk_compiled)(content, table, 99),
        )
        assert (ours is None) == (other is None)
        if ours is not None and other is not None:
            assert [part.tolist() for part in ours] == [part.tolist() for part in other]


def test_a_record_that_says_it_is_longer_than_its_fields_is_malformed(walk: Walk) -> None:
    first = encoded([Written(((b"k", b"v", (), 0),))])[HEADER.size :]
    second = first
    assert first[0] == 2 * (len(first) - 1), "the length before it, as one byte"
    swallowing = bytes([2 * (len(first) - 1 + len(second))]) + first[1:] + second
    for content, found in ((first + second, 2), (swallowing, None)):
        walked = walk(content, np.array([[0, len(content), 2, 100, 7, 0]], np.int64), 0)
        assert (None if walked is None else walked[0].shape[1]) == found
