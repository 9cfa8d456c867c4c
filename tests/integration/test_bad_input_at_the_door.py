"""The same table without a broker: what the door says to each row, what history keeps of it, what the account decides.

``test_bad_input.py`` sends it to running roles; this one says in a second which of the pure parts is wrong.
"""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's import mode does not

from bad_input_cases import HISTORY, LATER_SCHEMA, OTHER_SCHEMA, TOPICS, Bench, Case, cases, newer, newer_side_schema
from open_account import context, opened

from skeet.config import KafkaSettings
from skeet.core.account import decide, stamp
from skeet.core.errors import InvalidInput
from skeet.core.record import Record, TopicPosition
from skeet.core.values import exact_arithmetic
from skeet.projections.blocks import Block
from skeet.projections.history_rows import inserts_of
from skeet.projections.records import StoredRecord
from skeet.schemas.catalogue import EVENTS
from skeet.schemas.codec import Codec
from skeet.streams.door import Door, RawRecord, account_of
from skeet.streams.partitioner import partition_of
from skeet.streams.topics import COMMANDS, TOPIC_BY_NAME, PartitionedBy

NOW = 1_760_000_000_000_000_000
ACCOUNT = "case"
PARTITIONS = 2
KAFKA = KafkaSettings(account_partitions=PARTITIONS, market_partitions=PARTITIONS)


def _codec() -> tuple[Codec, dict[str, int]]:
    """A codec, with the ids of what others registered."""
    schemas: dict[str, dict[str, Any]] = {
        "other": OTHER_SCHEMA, "later": LATER_SCHEMA, "newer side": newer_side_schema()
    }  # fmt: skip
    bench = Bench(Codec({event: number for number, event in enumerate(EVENTS, 1)}), {}, ACCOUNT, NOW)
    for topic in TOPICS:
        schema, name = newer(topic, bench)
        schemas[f"newer {name}"] = schema
    ids = {name: 1_000 + number for number, name in enumerate(schemas)}
    by_id = {ids[name]: schema for name, schema in schemas.items()}

    def fetch(schema_id: int) -> dict[str, Any]:
        if schema_id not in by_id:
            raise InvalidInput("Schema not found")
        return by_id[schema_id]

    return Codec({event: number for number, event in enumerate(EVENTS, 1)}, fetch), ids


CODEC, IDS = _codec()


def raw_of(case: Case) -> RawRecord:
    sent = case.make(Bench(CODEC, IDS, ACCOUNT, NOW))
    own = ACCOUNT if TOPIC_BY_NAME[case.topic.name].key == "account_id" else "SIM:ETH/USDT"
    key = sent.key if sent.key is not None else own.encode()
    count = 1 if case.topic.partitioned_by is PartitionedBy.SINGLE else PARTITIONS
    partition = (partition_of(key, count) + int(sent.wrong_partition)) % count
    at = TopicPosition(case.topic.name, partition, 7)
    return RawRecord(at=at, key=key, value=sent.value or b"", log_ns=NOW)


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_row_is_turned_away_kept_or_decided_as_the_table_says(case: Case) -> None:
    raw = raw_of(case)
    if case.topic.history:
        assert _is_unreadable(raw) is (HISTORY in case.letters)
    turned_away = [role for role in case.letters if role != HISTORY]
    try:
        record = Door(KAFKA, CODEC).record(raw)
    except InvalidInput as error:
        assert case.letters, f"turned away: {error}"
        assert all(word in f"{type(error).__name__}: {error}" for word in case.says)
        halted = (
            account_of(raw, error, PARTITIONS) if case.topic.name in ("orders.commands.v1", "venue.reports.v1") else ""
        )
        assert halted == (ACCOUNT if case.halts else "")
        return
    assert not turned_away, "let in"
    if case.topic is COMMANDS or case.becomes:
        _decide(case, record)


def _is_unreadable(raw: RawRecord) -> bool:
    stored = StoredRecord(offset=raw.at.offset, log_ms=NOW // 1_000_000, key=raw.key, value=raw.value)
    block = Block.of(raw.at.topic, raw.at.partition, [stored])
    inserts, unreadable = inserts_of(block, CODEC)
    assert sum(insert.rows.num_rows for insert in inserts) == 1
    return bool(unreadable)


def _decide(case: Case, record: Record[Any]) -> None:
    state = opened(ACCOUNT, Decimal(1_000))
    with exact_arithmetic():
        events = decide(state, record, context(NOW, record.event))
        metas = stamp(state, record, NOW, events)
    assert [type(event).__name__ for event in events] == list(case.becomes)
    for event, meta in zip(events, metas, strict=True):
        CODEC.encode(event, meta)
        said = str(getattr(event, "breaches", getattr(event, "reason", "")))
        assert all(word in said for word in case.says), said
