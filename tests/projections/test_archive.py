"""From the log into the archive and out of the log: real Kafka, a real ClickHouse engine, real files."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from dying import die_at, seal_everything

from skeet.config import ArchiveSettings, ClickhouseSettings, Settings
from skeet.core import market
from skeet.core.errors import InfrastructureError
from skeet.core.platform import IngestResumed, IngestStopped, SegmentSealed
from skeet.core.record import Out
from skeet.core.values import Side
from skeet.process import StopSignal
from skeet.projections.archive import Keeper, locked
from skeet.projections.archive_files import Proof, difference, manifests
from skeet.projections.archive_sealing import Archive
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_writer import HistorySession
from skeet.projections.rebuilding import rebuild_clickhouse
from skeet.projections.sessions import run_sessions
from skeet.streams.crash_points import ARCHIVE_AFTER_ANNOUNCED, ARCHIVE_BEFORE_MANIFEST, CrashPoint
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import MARKET_TRADES, PLATFORM_EVENTS
from skeet.verify.columns import TABLE_OF_TOPIC
from skeet.verify.history import History
from skeet.verify.log import Log

pytestmark = pytest.mark.integration
DEADLINE_S = 30.0
BTC = "SIM:BTC/USDT"
MIB = 1024 * 1024


@pytest.fixture
def settings(applied_settings: Settings, clickhouse: tuple[str, str]) -> Iterator[Settings]:
    url, token = clickhouse
    section = ClickhouseSettings(url=url, password=token, database=f"t{uuid4().hex[:8]}")
    archive = ArchiveSettings(segment_size=20_000, keep_minutes=0, seal_after_s=0)
    made = applied_settings.model_copy(
        update={"clickhouse": section, "archive": archive, "disk_budget": 4 * MIB, "disk_reserve": 0}
    )
    yield made
    store = HistoryStore(made)
    store.command_outside(f"DROP DATABASE IF EXISTS {section.database} SYNC")
    store.close()


@contextmanager
def history_running(settings: Settings) -> Iterator[HistoryStore]:
    """The ClickHouse projection, in a thread."""
    stop, codec = StopSignal(), registered_codec(settings)

    def session() -> None:
        store = HistoryStore(settings)
        try:
            HistorySession(settings, codec, store).run(stop)
        finally:
            store.close()

    store = HistoryStore(settings)
    store.migrate()
    thread = threading.Thread(target=lambda: run_sessions(stop, session))
    thread.start()
    try:
        yield store
    finally:
        stop.stop()
        thread.join(DEADLINE_S)
        store.close()
        assert not thread.is_alive()


def eventually(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def publish_trades(settings: Settings, first: int, count: int) -> None:
    publisher = Publisher(settings, registered_codec(settings), producer(settings, "test"))
    publisher.send(
        Out(
            topic=MARKET_TRADES.name,
            key=BTC,
            event=market.Trade(
                instrument_id=BTC,
                ts_event=1_723_161_253_000_000_000 + number,
                ts_init=1_723_161_253_000_000_001 + number,
                trade_id=str(number),
                price_mantissa=6_171_001 + number,
                size_mantissa=1 + number,
                price_scale=2,
                size_scale=5,
                aggressor_side=Side.BUY,
            ),
        )
        for number in range(first, first + count)
    )
    publisher.flush()


def use_disk(settings: Settings, mib: float) -> None:
    """Let the data directory hold so much."""
    (settings.data / "ballast").write_bytes(b"x" * int(mib * MIB))


def keeper(settings: Settings) -> tuple[Keeper, Archive]:
    archive = Archive(settings)
    return Keeper(settings, registered_codec(settings), archive), archive


def platform_events(settings: Settings) -> list[Any]:
    return [r.event for r in records_until_end(settings, registered_codec(settings), [PLATFORM_EVENTS])]


def kept_trades(settings: Settings) -> list[int]:
    records = records_until_end(settings, registered_codec(settings), [MARKET_TRADES])
    return sorted(int(record.event.trade_id) for record in records)


def stored_trades(store: HistoryStore) -> int:
    return int(store.rows("SELECT count() FROM trades")[0][0])


def history_check(settings: Settings) -> Any:
    log = Log(settings)
    history = History(settings, log)
    for entry in log.read(log.places(TABLE_OF_TOPIC)):
        history.add(entry)
    return history.finish()


def test_records_leave_the_log_only_sealed_proven_in_clickhouse_and_when_the_budget_asks(settings: Settings) -> None:
    publish_trades(settings, 1, 2_000)
    kept, archive = keeper(settings)
    kept.step()
    assert archive.segments == []  # under half of the budget nothing is sealed

    use_disk(settings, 3.3)
    kept.step()
    assert {segment.proof for segment in archive.segments} == {Proof.FILE}
    assert not platform_events(settings)
    assert kept_trades(settings) == list(range(1, 2_001))  # over the budget, but ClickHouse has none of it

    with history_running(settings) as store:
        eventually(lambda: stored_trades(store) == 2_000, "the history is stored")
        eventually(lambda: kept.step() is not None and len(kept_trades(settings)) < 2_000, "records leave the log")
    left = kept_trades(settings)
    assert left == list(range(2_001 - len(left), 2_001))  # the oldest left first
    sealed = [event for event in platform_events(settings) if isinstance(event, SegmentSealed)]
    proven = [segment for segment in archive.segments if segment.proof is Proof.CLICKHOUSE]
    assert sorted((e.first_offset, e.next_offset, e.checksum) for e in sealed) == sorted(
        (s.first_offset, s.next_offset, str(s.record_crc)) for s in proven
    )
    assert all(difference(settings.archive_dir, segment) == "" for segment in manifests(settings.archive_dir))
    check = history_check(settings)
    assert not check.differences
    assert check.compared["records"] == len(left) + 1  # and the genesis event
    assert "1 partition begins above 0" in check.covers

    # The rest as well, and then everything again out of the archive.
    use_disk(settings, 0.1)
    with history_running(settings) as store:
        before = store.checksums()
    outcome = rebuild_clickhouse(settings, lambda done, total: None, in_place=True)
    assert "archive" in outcome.note
    with history_running(settings) as store:
        assert store.checksums() == before


def test_partition_that_loses_records_while_it_is_verified_is_left_out_and_named(settings: Settings) -> None:
    publish_trades(settings, 1, 1_000)
    with history_running(settings) as store:
        eventually(lambda: stored_trades(store) == 1_000, "the history is stored")
    log = Log(settings)
    history = History(settings, log)
    use_disk(settings, 3.3)
    kept, archive = keeper(settings)
    eventually(
        lambda: kept.step() is not None and archive.ranges()["market.trades.v1", 0][0] > 0, "records leave the log"
    )
    for entry in log.read(log.places(TABLE_OF_TOPIC)):
        history.add(entry)
    check = history.finish()
    assert not check.differences
    assert "not market.trades.v1/0, of which records left the log meanwhile" in check.covers


def test_clickhouse_that_differs_from_a_segment_keeps_its_records_in_the_log(settings: Settings) -> None:
    publish_trades(settings, 1, 500)
    with history_running(settings) as store:
        eventually(lambda: stored_trades(store) == 500, "the history is stored")
        store.command(
            "ALTER TABLE trades UPDATE record_crc = record_crc + 1 WHERE trade_id = '7' SETTINGS mutations_sync = 2"
        )
        use_disk(settings, 3.9)
        kept, archive = keeper(settings)
        kept.step()
        kept.step()
    assert archive.segments[0].proof is Proof.FILE
    assert kept_trades(settings) == list(range(1, 501))


def test_ingest_stops_and_resumes_once_each_and_a_successor_knows_it(settings: Settings) -> None:
    kept, _ = keeper(settings)
    kept.step()
    use_disk(settings, 3.7)
    kept.step()
    kept.step()
    assert [type(event) for event in platform_events(settings)] == [IngestStopped]
    successor, _ = keeper(settings)
    assert successor.stopped
    use_disk(settings, 3.5)  # between the marks it stays stopped
    successor.step()
    assert len(platform_events(settings)) == 1
    use_disk(settings, 1)
    successor.step()
    assert [type(event) for event in platform_events(settings)] == [IngestStopped, IngestResumed]
    assert not keeper(settings)[0].stopped


def test_a_segment_is_announced_again_after_a_crash_under_the_same_id(settings: Settings) -> None:
    publish_trades(settings, 1, 300)
    with history_running(settings) as store:
        eventually(lambda: stored_trades(store) == 300, "the history is stored")
        archive = Archive(settings)
        archive.seal(archive.ranges(), all_of_it=True)
        archive.prove(lambda: store)
    first, _ = keeper(settings)
    for segment in archive.segments:
        first.announce(segment)  # and died before it could note that
    second, again = keeper(settings)
    again.announce(second.announce)
    records = records_until_end(settings, registered_codec(settings), [PLATFORM_EVENTS])
    ids = [record.event_id for record in records]
    assert len(ids) == 2 * len(archive.segments)
    assert len(set(ids)) == len(archive.segments)


@pytest.mark.parametrize("point", [ARCHIVE_BEFORE_MANIFEST, ARCHIVE_AFTER_ANNOUNCED], ids=lambda point: point.name)
def test_death_while_sealing_leaves_an_archive_that_the_next_process_completes(
    settings: Settings, point: CrashPoint
) -> None:
    publish_trades(settings, 1, 300)
    with history_running(settings) as store:
        eventually(lambda: stored_trades(store) == 300, "the history is stored")
    die_at(point, settings, seal_everything)
    seal_everything(settings)
    segments = manifests(settings.archive_dir)
    assert {segment.proof for segment in segments} == {Proof.CLICKHOUSE}
    assert all(segment.announced for segment in segments)
    assert [difference(settings.archive_dir, segment) for segment in segments] == [""] * len(segments)
    assert sum(segment.records for segment in segments) == 300
    records = records_until_end(settings, registered_codec(settings), [PLATFORM_EVENTS])
    assert len({record.event_id for record in records}) == len(segments)


def test_one_process_at_a_time_works_on_an_archive(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(InfrastructureError, match="another process works on the archive"),
        locked(tmp_path),
    ):
        pass
