"""Blocks, marks and columns: pure parts of the history."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.errors import InvalidInput
from skeet.core.values import from_mantissa
from skeet.projections.blocks import MAX_BLOCK_RECORDS, Mark, PartitionBuffer, Range, month_of
from skeet.projections.column_arrays import decimals
from skeet.projections.migrations import migrations_of, pending, split_statements
from skeet.projections.records import Records, StoredRecord

JANUARY = int(datetime(2026, 1, 31, 23, 59, 59, tzinfo=UTC).timestamp() * 1000)
FEBRUARY = JANUARY + 1_000


def record(offset: int, log_ms: int = JANUARY, value: bytes = b"v") -> StoredRecord:
    return StoredRecord(offset, log_ms, b"", value)


def buffer(*records: StoredRecord, repeat: Range | None = None) -> PartitionBuffer:
    made = PartitionBuffer(topic="market.trades.v1", partition=3, repeat=repeat)
    for number, entry in enumerate(records):
        if number % 3:
            made.add(entry)
        else:
            made.take(Records.of([entry]))
    return made


@given(st.lists(st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(0, 18)), max_size=50))
def test_columns_of_mantissas_are_exact_decimals(pairs: list[tuple[int, int]]) -> None:
    mantissas = np.array([mantissa for mantissa, _ in pairs], np.int64)
    scales = np.array([scale for _, scale in pairs], np.int64)
    fits = [abs(mantissa) * 10 ** (18 - scale) < 10**38 for mantissa, scale in pairs]
    made = decimals(mantissas, scales)
    for index, ((mantissa, scale), fit) in enumerate(zip(pairs, fits, strict=True)):
        if fit:
            assert made[index].as_py() == from_mantissa(mantissa, scale)


def test_a_scale_beyond_eighteen_places_is_refused_not_rounded() -> None:
    with pytest.raises(ValueError, match="19"):
        decimals(np.array([1], np.int64), np.array([19], np.int64))


def test_a_block_ends_with_the_month_of_the_append_time() -> None:
    held = buffer(record(1), record(2), record(3, FEBRUARY), record(4, FEBRUARY))
    first = held.next_block()
    assert first is not None
    assert first.records.offsets.tolist() == [1, 2]
    held.stored(first)
    second = held.next_block()
    assert second is not None
    assert second.token == "market.trades.v1/3/3-5"


def test_a_block_is_never_larger_than_its_limit() -> None:
    block = buffer(*(record(offset) for offset in range(MAX_BLOCK_RECORDS + 5))).next_block()
    assert block is not None
    assert len(block) == MAX_BLOCK_RECORDS


def test_a_record_larger_than_a_block_is_a_block_of_its_own() -> None:
    huge = b"x" * (17 * 1024 * 1024)
    block = buffer(record(1, value=huge), record(2)).next_block()
    assert block is not None
    assert len(block) == 1


def test_a_range_to_repeat_waits_until_it_is_read_whole_and_keeps_its_token() -> None:
    original = buffer(record(5), record(6), record(9)).next_block()
    assert original is not None
    again = buffer(record(5), record(6), repeat=original.range)
    assert again.next_block() is None
    again.add(record(9))
    again.add(record(10))
    repeated = again.next_block()
    assert repeated is not None
    assert (repeated.token, repeated.records.offsets.tolist(), repeated.is_whole) == (original.token, [5, 6, 9], True)


def test_a_range_of_which_records_expired_is_repeated_under_its_token_and_known_to_differ() -> None:
    held = buffer(record(6), record(9), repeat=Range(first=5, end=10, count=3, crc=1))
    block = held.next_block()
    assert block is not None
    assert (block.token, block.is_whole) == ("market.trades.v1/3/5-10", False)


def test_a_range_that_expired_whole_is_given_up() -> None:
    block = buffer(record(20), repeat=Range(first=5, end=10, count=3, crc=1)).next_block()
    assert block is not None
    assert block.token == "market.trades.v1/3/20-21"


def test_an_offset_that_falls_is_refused() -> None:
    with pytest.raises(InvalidInput, match="offset 4 came after 5"):
        buffer(record(5), record(4))


def test_a_mark_survives_its_commit() -> None:
    mark = Mark(store_id="s", under_way=Range(first=1, end=9, count=7, crc=123))
    assert Mark.from_text(mark.to_text()) == mark
    assert Mark.from_text(Mark(store_id="s").to_text()) == Mark(store_id="s")


@pytest.mark.parametrize("text", ["", None, "nonsense", "[]", '{"first": 1}', "3"])
def test_a_commit_that_is_not_ours_is_no_mark(text: str | None) -> None:
    assert Mark.from_text(text) is None


def test_months_are_those_of_utc() -> None:
    assert (month_of(JANUARY), month_of(FEBRUARY)) == ((2026, 1), (2026, 2))


def test_statements_end_at_line_ends_and_comments_are_left_out() -> None:
    assert split_statements("-- why; how\nSELECT ';'\nFROM t;\n\nSELECT 2;\n") == ("SELECT ';'\nFROM t", "SELECT 2")


@pytest.mark.parametrize("store", ["postgres", "clickhouse"])
def test_a_migration_that_changed_after_it_was_applied_is_refused(store: str) -> None:
    files = migrations_of(store)
    assert pending(files, {files[0].version: files[0].checksum}) == files[1:]
    with pytest.raises(InvalidInput, match="changed after it was applied"):
        pending(files, {files[0].version: "other"})
    with pytest.raises(InvalidInput, match="does not know"):
        pending(files, {**{file.version: file.checksum for file in files}, 99: "x"})


def test_decimals_print_all_eighteen_places() -> None:
    assert decimals(np.array([6171001], np.int64), np.array([2], np.int64))[0].as_py() == Decimal("61710.01")
