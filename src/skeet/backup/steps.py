"""How records get back to their old offsets: steps for one partition, each of which takes a known number of offsets.

A read_committed reader sees holes: control markers, aborted records, what a compaction or the retention removed. Brokers give
offsets out one by one, so each hole is made again of what made it: the marker of a commit takes one offset, an aborted
transaction of n records n + 1, and what stood before the first kept record is written and then deleted. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from skeet.backup.segments import Stored

MAX_RUN = 2_000
"""Records of one step; longer runs are cut, and only their last piece carries the marker after them."""


@dataclass(frozen=True, slots=True)
class Plain:
    """Records outside a transaction: as many offsets as records."""

    records: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Committed:
    """Records of a transaction that is committed: one offset more than records, for the marker."""

    records: tuple[Stored, ...]


@dataclass(frozen=True, slots=True)
class Aborted:
    """Fillers of a transaction that is aborted: one offset more than fillers, delivered to nobody."""

    fillers: int


@dataclass(frozen=True, slots=True)
class Dropped:
    """Fillers that are deleted once all is written: the partition then begins behind them."""

    fillers: int


Step = Plain | Committed | Aborted | Dropped


def offsets_of(step: Step) -> int:
    """How many offsets the step takes."""
    match step:
        case Plain(records):
            return len(records)
        case Committed(records):
            return len(records) + 1
        case Aborted(fillers):
            return fillers + 1
        case Dropped(fillers):
            return fillers


def steps(records: Iterable[Stored], first: int, end: int) -> Iterator[Step]:
    """Steps after which an empty partition holds the records at their offsets and ends at ``end``.

    ``records`` are in order of their offsets, all of them in ``first <= offset < end``.
    """
    run: list[Stored] = []
    at = first
    if first:
        yield Dropped(first)
    for record in records:
        if record.offset > at:
            yield from _hole(run, record.offset - at)
            run = []
        if len(run) > MAX_RUN:
            yield Plain(tuple(run[:-1]))
            run = run[-1:]
        run.append(record)
        at = record.offset + 1
    if end > at:
        yield from _hole(run, end - at)
    elif run:
        yield Plain(tuple(run))


def _hole(run: list[Stored], size: int) -> Iterator[Step]:
    """The run of records before a hole, and the hole."""
    match size:
        case 1 if run:
            yield Committed(tuple(run))
        case 1:
            yield Dropped(1)  # nothing before it could carry a marker: what an early compaction leaves
        case 2 if run:
            yield Plain(tuple(run))
            yield Aborted(1)
        case _ if run:
            yield Committed(tuple(run))
            yield Aborted(size - 2)
        case _:
            yield Aborted(size - 1)
