"""Steps lead an empty partition to the same offsets: checked on a model of what brokers do with each step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from skeet.backup import steps as steps_module
from skeet.backup.segments import Stored
from skeet.backup.steps import Aborted, Committed, Dropped, Plain, Step, offsets_of, steps


def record(offset: int) -> Stored:
    return Stored(offset, 1, b"k", b"v")


def played(found: list[Step]) -> tuple[dict[int, Stored], int, int]:
    """What a broker does: records by offset, the offset behind the deleted, the end."""
    records: dict[int, Stored] = {}
    at = dropped = 0
    for step in found:
        match step:
            case Plain(each) | Committed(each):
                records |= {at + index: one for index, one in enumerate(each)}
            case Dropped(fillers):
                dropped += fillers
            case Aborted(fillers):
                assert fillers, "a transaction without records leaves no marker"
        if isinstance(step, Committed):
            assert step.records, "a transaction without records leaves no marker"
        at += offsets_of(step)
    return records, dropped, at


@st.composite
def partitions(draw: st.DrawFn) -> tuple[list[Stored], int, int]:
    first = draw(st.integers(0, 5))
    gaps = draw(st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 3, 7]), max_size=40))
    at, records = first, []
    for gap in gaps:
        records.append(record(at + gap))
        at += gap + 1
    return records, first, at + draw(st.sampled_from([0, 1, 2, 3, 9]))


@given(partitions())
def test_every_record_gets_its_offset_and_the_partition_its_end(partition: tuple[list[Stored], int, int]) -> None:
    records, first, end = partition
    found = list(steps(records, first, end))
    by_offset, dropped, reached = played(found)
    assert by_offset == {each.offset: each for each in records}
    assert reached == end
    # What is deleted in the end was only fillers before the first kept offset, or a lone hole at the very start.
    assert dropped in (first, first + 1)
    assert all(each.offset >= dropped for each in records)


def test_a_desk_s_transactions_become_transactions() -> None:
    found = list(steps([record(0), record(1), record(3)], 0, 5))
    assert found == [Committed((record(0), record(1))), Committed((record(3),))]


def test_a_long_run_is_cut_and_its_last_piece_carries_the_marker() -> None:
    count = 2 * steps_module.MAX_RUN + 3
    found = list(steps([record(offset) for offset in range(count)], 0, count + 1))
    assert [type(step) for step in found] == [Plain, Plain, Committed]
    assert played(found)[2] == count + 1


def test_what_retention_deleted_is_written_and_deleted_again() -> None:
    assert list(steps([record(7)], 7, 8)) == [Dropped(7), Plain((record(7),))]


def test_a_warmed_up_empty_partition_keeps_its_end() -> None:
    assert list(steps([], 0, 2)) == [Aborted(1)]
