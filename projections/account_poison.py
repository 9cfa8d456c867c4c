"""Records of the account and control topics that Postgres cannot take: passed over, counted, never in the way.

What is turned away at the door is a record nobody acts on; the desk or the gateway wrote its dead letter. It moves the position
and nothing else, as it does for whoever folds the topic from outside. What the door lets in and the store still refuses is a
mistake of ours: it is passed over alone, loudly, so that every other account goes on; ``verify`` shows the difference.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confluent_kafka import Message

from skeet.core.errors import InvalidInput, UnknownEvent
from skeet.core.record import Record
from skeet.process import logger
from skeet.projections.postgres_store import AccountStore, Positions, RefusedRecords
from skeet.streams.door import Door, RawRecord, dead_letter, raw_record
from skeet.streams.topics import ACCOUNT_EVENTS

ROLE = "projection-postgres"


def let_in(door: Door, message: Message, prefix: str) -> Record[Any]:
    """The record; in the place of one that is turned away, its dead letter, which no row is made of.

    Raises
    ------
    UnknownEvent
        a newer desk wrote it: the accounts are not what this version would make of the rest.
    """
    raw = raw_record(message, prefix)
    try:
        return door.record(raw)
    except InvalidInput as error:
        if isinstance(error, UnknownEvent) and raw.at.topic == ACCOUNT_EVENTS.name:
            raise
        logger().warning("unreadable record passed over", at=str(raw.at), cause=str(error))
        return _passed_over(raw, error)


def apply_records(store: AccountStore, records: Sequence[Record[Any]], positions: Positions) -> None:
    """Fold the records and move ``positions`` past them.

    Raises
    ------
    InfrastructureError
        PostgreSQL is away, or another instance moved the position.
    """
    try:
        _apply(store, records, positions)
    except RefusedRecords as error:
        logger().error("a record is refused; folding one by one", error=str(error))
        for record in records:
            try:
                _apply(store, [record], positions)
            except RefusedRecords as refused:
                logger().error("record passed over: verify will show it", at=str(record.at), error=str(refused))
                raw = RawRecord(at=record.at, key=b"", value=b"", log_ns=record.log_ns)
                _apply(store, [_passed_over(raw, refused)], positions)


def _apply(store: AccountStore, records: Sequence[Record[Any]], positions: Positions) -> None:
    store.apply(records, positions)
    positions |= {(record.at.topic, record.at.partition): record.at.offset + 1 for record in records}


def _passed_over(raw: RawRecord, cause: Exception) -> Record[Any]:
    letter = dead_letter(ROLE, raw, cause)
    return Record(event=letter.event, meta=letter.meta, at=raw.at, log_ns=raw.log_ns)
