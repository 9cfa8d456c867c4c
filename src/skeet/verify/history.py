"""I5: ClickHouse holds exactly the records that a read_committed consumer is delivered, up to the stored position."""

from __future__ import annotations

import json
import zlib
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.exceptions import ClickHouseError

from skeet.config import Settings
from skeet.connections.clickhouse import clickhouse_options, raise_clickhouse_refusal
from skeet.verify.avro import WriterSchema
from skeet.verify.columns import SEPARATOR, TABLE_OF_TOPIC, NoRule, StoredColumn, row_sql, row_text
from skeet.verify.findings import CannotVerify, Check
from skeet.verify.log import Entry, Log, Place

GROUP = "projection-clickhouse"
"""The consumer group that commits how far the history is stored, without the installation's prefix."""
UNREADABLE = "unreadable_records"
NOT_COMPARED = frozenset({"record_crc"})
"""Compared apart, as a sum of its own."""


@dataclass(slots=True)
class Expected:
    """What one partition delivered below the stored position: counts, sums, and the CRCs by offset to find a row by."""

    records: int = 0
    unreadable: int = 0
    record_crc: int = 0
    row_crc: int = 0
    offsets: array[int] = field(default_factory=lambda: array("q"))
    row_crcs: array[int] = field(default_factory=lambda: array("q"))


class History:
    """Collects what the log delivers, then asks ClickHouse for the same sums."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.check = Check(name="I5", title="ClickHouse holds what the log delivers", must_not_be_empty=("records",))
        self._log = log
        self._client = _client(settings)
        self._database = settings.clickhouse.database
        self._columns = self._stored_columns()
        self._ranges = log.ranges(log.places(TABLE_OF_TOPIC))
        self.positions = self._positions(log)
        self._expected = {place: Expected() for place in self._ranges}
        self._texts: dict[tuple[str, int], Callable[[Entry], str]] = {}

    def add(self, entry: Entry) -> None:
        """Take one record; those past the stored position are not compared."""
        place = (entry.topic, entry.partition)
        if entry.offset >= self.positions[place]:
            return
        expected = self._expected[place]
        expected.record_crc += zlib.crc32(entry.value)
        text = self._row(entry)
        if text is None:
            expected.unreadable += 1
            return
        crc = zlib.crc32(text.encode())
        expected.records += 1
        expected.row_crc += crc
        expected.offsets.append(entry.offset)
        expected.row_crcs.append(crc)

    def finish(self) -> Check:
        """Compare, per topic and partition; a partition that differs is searched for the row and the column.

        A partition whose oldest records left the log while it was read is not compared: what was delivered of it is neither
        the old range nor the new one.
        """
        self._leave_out_expired()
        for topic, table in TABLE_OF_TOPIC.items():
            stored = self._stored_sums(topic, table)
            for place, expected in self._expected.items():
                if place[0] == topic:
                    self._compare(place, table, expected, stored.get(place[1], (0, 0, 0, 0)))
        return self.check

    def _leave_out_expired(self) -> None:
        now = self._log.ranges(self._expected)
        moved = [place for place, (start, _) in now.items() if start > self._ranges[place][0]]
        for topic, partition in moved:
            del self._expected[topic, partition]
        if moved:
            names = ", ".join(f"{topic}/{partition}" for topic, partition in moved)
            self.check.covers += f"; not {names}, of which records left the log meanwhile"

    def _compare(self, place: Place, table: str, expected: Expected, stored: tuple[int, int, int, int]) -> None:
        rows, unreadable, record_crc, row_crc = stored
        self.check.count("records", expected.records + expected.unreadable)
        self.check.count("partitions")
        wanted = (expected.records, expected.unreadable, expected.record_crc, expected.row_crc)
        if (rows, unreadable, record_crc, row_crc) == wanted:
            return
        where = f"{place[0]}/{place[1]} in table {table}"
        if not self._name_rows(place, table, expected):
            self.check.differs(
                f"{where}: rows {rows}+{unreadable} unreadable, CRC sum {record_crc}; "
                f"the log delivers {wanted[0]}+{wanted[1]}, CRC sum {wanted[2]}"
            )

    def _name_rows(self, place: Place, table: str, expected: Expected) -> bool:
        """Name the rows that are missing, surplus or altered; whether any was found."""
        found = self.check.difference_count
        stored: dict[int, list[int]] = {}
        row = row_sql(self._columns[table])
        where = self._where(place[0], [place])
        for offset, crc in self._rows(f"SELECT log_offset, CRC32({row}) FROM {table} WHERE {where}"):
            stored.setdefault(offset, []).append(crc)
        for offset, crc in zip(expected.offsets, expected.row_crcs, strict=True):
            crcs = stored.pop(offset, [])
            at = f"{place[0]}/{place[1]}/{offset}"
            if not crcs:
                self.check.differs(f"{table} row of {at} is missing")
            elif len(crcs) > 1:
                self.check.differs(f"{table} has {len(crcs)} rows of {at}")
            elif crcs[0] != crc:
                self.check.differs(f"{table} row of {at} was altered: {self._altered(place, table, offset)}")
        for offset in stored:
            self.check.differs(f"{table} has a row of {place[0]}/{place[1]}/{offset}, which the log never delivered")
        return self.check.difference_count > found

    def _altered(self, place: Place, table: str, offset: int) -> str:
        """Which columns of the row are not what the record says; fetched again, one record and one row."""
        columns = self._columns[table]
        query = f"SELECT {row_sql(columns)} FROM {table} WHERE log_partition = {place[1]} AND log_offset = {offset}"
        stored = str(self._rows(query)[0][0]).split(SEPARATOR)
        entry = self._log.record(place, offset)
        if entry is None or entry.schema is None:
            return "its record is gone from the log meanwhile"
        wanted = self._text(entry.topic, entry.schema)(entry).split(SEPARATOR)
        pairs = zip(columns, stored, wanted, strict=False)
        return ", ".join(f"{c.name} is {s!r}, expected {w!r}" for c, s, w in pairs if s != w) or "more than one column"

    def _row(self, entry: Entry) -> str | None:
        """The canonical text of the record's row; None for what must stand among the unreadable records."""
        if entry.schema is None:
            return None
        text = self._text(entry.topic, entry.schema)
        try:
            return text(entry)
        except ValueError:
            return None

    def _text(self, topic: str, schema: WriterSchema) -> Callable[[Entry], str]:
        key = (topic, id(schema))
        if key not in self._texts:
            try:
                self._texts[key] = row_text(self._columns[TABLE_OF_TOPIC[topic]], schema)
            except (NoRule, KeyError) as error:
                raise CannotVerify(
                    f"{TABLE_OF_TOPIC[topic]}: no rule to recompute a column of {schema.name} ({error})"
                ) from error
        return self._texts[key]

    def _stored_columns(self) -> dict[str, list[StoredColumn]]:
        query = (
            "SELECT table, name, type FROM system.columns WHERE database = {database:String} "
            "AND default_kind != 'ALIAS' ORDER BY table, position"
        )
        columns: dict[str, list[StoredColumn]] = {}
        for table, name, kind in self._rows(query, {"database": self._database}):
            if name not in NOT_COMPARED:
                columns.setdefault(table, []).append(StoredColumn(name, kind))
        missing = [table for table in TABLE_OF_TOPIC.values() if table not in columns]
        if missing:
            raise CannotVerify(f"ClickHouse has no table {self._database}.{missing[0]}: did its projection ever run?")
        return columns

    def _positions(self, log: Log) -> dict[Place, int]:
        """How far each partition is stored: as committed for this very database, else as far as its rows go."""
        store_id = self._rows("SELECT min(store_id) FROM projection_store")[0][0]
        held = {
            (topic, partition): end
            for topic, partition, end in self._rows(
                "SELECT log_topic, log_partition, max(log_offset) + 1 FROM log_records GROUP BY 1, 2"
            )
        }
        positions = {place: held.get(place, 0) for place in self._ranges}
        for place, (offset, mark) in log.committed(GROUP, self._ranges).items():
            if _store_of(mark) == store_id:
                positions[place] = offset
        behind = sum(max(0, high - positions[place]) for place, (_, high) in self._ranges.items())
        self.check.covers = (
            f"{len(positions)} partitions to the stored position, {behind} offsets behind the log's end"
            f"{_begun(self._ranges)}"
        )
        return positions

    def _stored_sums(self, topic: str, table: str) -> dict[int, tuple[int, int, int, int]]:
        """By partition: rows, unreadable rows, sum of record CRCs, sum of row CRCs."""
        where = self._where(topic, list(self._expected))
        sums: dict[int, tuple[int, int, int, int]] = {}
        row = row_sql(self._columns[table])
        query = f"SELECT log_partition, count(), sum(record_crc), sum(toUInt64(CRC32({row}))) FROM {table} WHERE {where} GROUP BY 1"
        for partition, rows, record_crc, row_crc in self._rows(query):
            sums[partition] = (rows, 0, record_crc, row_crc)
        query = f"SELECT log_partition, count(), sum(record_crc) FROM {UNREADABLE} WHERE log_topic = '{topic}' AND {where} GROUP BY 1"
        for partition, rows, record_crc in self._rows(query):
            before = sums.get(partition, (0, 0, 0, 0))
            sums[partition] = (before[0], rows, before[2] + record_crc, before[3])
        return sums

    def _where(self, topic: str, places: list[Place]) -> str:
        """Rows of the partitions between the log's first kept offset and the stored position."""
        parts = [
            f"(log_partition = {partition} AND log_offset >= {self._ranges[name, partition][0]} "
            f"AND log_offset < {self.positions[name, partition]})"
            for name, partition in places
            if name == topic
        ]
        return f"({' OR '.join(parts) or 'false'})"

    def _rows(self, query: str, parameters: dict[str, Any] | None = None) -> list[tuple[Any, ...]]:
        settings = {"database": self._database, "readonly": 2}
        try:
            result = self._client.query(query, parameters=parameters, settings=settings)
        except (ClickHouseError, OSError) as error:
            raise CannotVerify(f"ClickHouse: {' '.join(str(error).split())[:300]}") from error
        return [tuple(row) for row in result.result_rows]


def _begun(ranges: Mapping[Place, tuple[int, int]]) -> str:
    """Where the log no longer begins at its first record; rows of ClickHouse below are history, not a difference."""
    begun = {place: start for place, (start, _) in ranges.items() if start}
    if not begun:
        return ""
    partitions = "1 partition begins" if len(begun) == 1 else f"{len(begun)} partitions begin"
    return f"; {partitions} above 0, {sum(begun.values())} offsets before that are history"


def _store_of(mark: str) -> str:
    try:
        return str(json.loads(mark)["store"])
    except (ValueError, KeyError, TypeError):
        return ""


def _client(settings: Settings) -> Any:
    if not settings.clickhouse.url:
        raise CannotVerify("SKEET_CLICKHOUSE__URL is empty: start the platform with `skeet up`, or name your server")
    try:
        return clickhouse_connect.get_client(
            **clickhouse_options(settings.clickhouse),
            database="default",
            autogenerate_session_id=False,
            query_limit=0,
        )
    except (ClickHouseError, OSError) as error:
        raise_clickhouse_refusal(error)
        raise CannotVerify(f"ClickHouse at {settings.clickhouse.url}: {' '.join(str(error).split())[:300]}") from error
