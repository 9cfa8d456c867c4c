"""Each store on a full disk of its own: what it acknowledged is there when space returns, and nothing else is needed."""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from small_disks import fill, make_room, mounted

from skeet.config import ClickhouseSettings, Settings
from skeet.core.errors import DiskFull, InfrastructureError
from skeet.local.kafka import BALLAST, KafkaBroker
from skeet.local.ports import free_port
from skeet.local.postgres import PostgresServer
from skeet.local.server import ChildServer
from skeet.process import StopSignal
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_writer import HistorySession
from skeet.projections.sessions import run_sessions
from skeet.streams.kafka import producer
from skeet.streams.registry import registered_codec
from skeet.streams.topics import MARKET_TRADES, topic_name

pytestmark = pytest.mark.integration
DEADLINE_S = 60.0
KIB = 1024
TOPIC = "full"


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.05)
    return found


@pytest.fixture
def disk() -> Iterator[Path]:
    """A file system of 256 MiB of its own."""
    # Not pytest's own directory: that one is closed to the unprivileged user PostgreSQL runs as under root.
    with tempfile.TemporaryDirectory(prefix="skeet-disk-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        with mounted(Path(folder) / "disk", "size=256m,mode=0755") as disk:
            yield disk


def test_broker_on_a_full_disk_keeps_what_it_acknowledged_and_starts_again(disk: Path) -> None:
    broker = KafkaBroker(disk / "kafka")
    acknowledged: list[int] = []
    try:
        broker.start()
        (disk / "kafka" / BALLAST).unlink(missing_ok=True)
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic(TOPIC, 1, 1)])[TOPIC].result(20)
        fill(disk, leave=1024 * KIB)
        _produce_until_it_dies(broker, acknowledged)
        with pytest.raises(DiskFull, match=f"disk full: kafka at {disk / 'kafka'}, free"):
            broker.start()
        make_room(disk)
        broker.start()
        assert acknowledged
        assert set(acknowledged) <= set(_numbers(broker))
    finally:
        broker.stop()


def test_full_broker_with_ballast_starts_once_more(disk: Path) -> None:
    broker = KafkaBroker(disk / "kafka")
    try:
        broker.start()
        (disk / "kafka" / BALLAST).write_bytes(bytes(32 * KIB * KIB))
        broker.kill()
        fill(disk)
        broker.start()
        assert not (disk / "kafka" / BALLAST).exists()
    finally:
        broker.stop()


def _produce_until_it_dies(broker: KafkaBroker, acknowledged: list[int]) -> None:
    client = Producer(
        {"bootstrap.servers": broker.bootstrap, "acks": "all", "enable.idempotence": True, "log_level": 0}
    )

    def delivered(number: int) -> Callable[[Any, Any], None]:
        return lambda error, _: None if error else acknowledged.append(number)

    deadline = time.monotonic() + DEADLINE_S
    for number in range(100_000):
        with suppress(BufferError):
            client.produce(TOPIC, number.to_bytes(8, "big") + os.urandom(10 * KIB), on_delivery=delivered(number))
        client.poll(0.005)
        if broker.ended():
            return
        assert time.monotonic() < deadline, "the broker lives on a full disk"


def _numbers(broker: KafkaBroker) -> list[int]:
    client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "x", "enable.partition.eof": True})
    client.assign([TopicPartition(TOPIC, 0, 0)])
    numbers: list[int] = []
    while True:
        message = client.poll(DEADLINE_S)
        assert message is not None
        if message.error():
            client.close()
            return numbers
        numbers.append(int.from_bytes(message.value()[:8], "big"))


def test_postgres_on_a_full_disk_refuses_keeps_what_it_committed_and_goes_on(disk: Path) -> None:
    server = PostgresServer(disk / "cluster")
    try:
        dsn = server.start()
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("CREATE TABLE rows (number int, filling text)")
        fill(disk, leave=1024 * KIB)
        committed = _insert_until_refused(dsn)
        make_room(disk)
        if server.ended():
            server.start()
        eventually(lambda: _insert(dsn, committed), "a row is taken again")
        with psycopg.connect(dsn) as connection:
            found = connection.execute("SELECT number FROM rows ORDER BY 1").fetchall()
        # The refused statement may have been committed only if its answer was lost; it never was here.
        assert [number for (number,) in found] == list(range(committed + 1))
    finally:
        server.stop()


def _insert(dsn: str, number: int) -> bool:
    try:
        with psycopg.connect(dsn, autocommit=True, connect_timeout=3) as connection:
            connection.execute(
                "INSERT INTO rows SELECT %s, string_agg(md5(random()::text || n), '') FROM generate_series(1, 4000) n",
                (number,),
            )
        return True
    except psycopg.Error:
        return False


def _insert_until_refused(dsn: str) -> int:
    number = 0
    while _insert(dsn, number):
        number += 1
        assert number < 10_000, "PostgreSQL writes on a full disk"
    return number


def test_history_waits_while_the_disk_of_clickhouse_is_full_and_misses_nothing(
    disk: Path, applied_settings: Settings, tmp_path: Path
) -> None:
    token, port = secrets.token_urlsafe(16), free_port()
    (tmp_path / "token").write_text(token)
    words = ["--data", str(disk / "engine"), "--port", str(port), "--token-file", str(tmp_path / "token")]
    engine = ChildServer("skeet.local.clickhouse", words, tmp_path)
    section = ClickhouseSettings(url=f"http://127.0.0.1:{port}", password=token, database=f"t{uuid4().hex[:8]}")
    settings = applied_settings.model_copy(update={"clickhouse": section})
    stop, failures = StopSignal(), []
    try:
        engine.start()

        def session() -> None:
            store = HistoryStore(settings)
            try:
                HistorySession(settings, registered_codec(settings), store).run(stop)
            except InfrastructureError as error:
                failures.append(str(error))
                raise
            finally:
                store.close()

        thread = threading.Thread(target=lambda: run_sessions(stop, session))
        thread.start()
        _publish_unreadable(settings, 0, 500)
        eventually(lambda: _stored(settings) == 500, "stored before")
        published = 500
        while not any("NOT_ENOUGH_SPACE" in text or "No space left" in text for text in failures):
            fill(disk)  # again and again: the engine gives back what its merges free
            _publish_unreadable(settings, published, 500)
            published += 500
            assert published < 50_000, failures
            stop.wait(0.5)
        assert _stored(settings) < published
        make_room(disk)
        eventually(lambda: _stored(settings) == published, "stored when space returned")
    finally:
        stop.stop()
        thread.join(DEADLINE_S)
        engine.stop()


def _publish_unreadable(settings: Settings, first: int, count: int) -> None:
    """Records are stored whatever their bytes: those that nobody can read are the largest rows."""
    client = producer(settings, "test")
    for number in range(first, first + count):
        client.produce(topic_name(MARKET_TRADES, settings.kafka), b"%d" % number + os.urandom(KIB), b"key")
    assert client.flush(20) == 0


def _stored(settings: Settings) -> int:
    try:
        store = HistoryStore(settings)
        try:
            return int(
                store.rows(
                    "SELECT uniqExact(log_partition, log_offset) * (count() = uniqExact(log_partition, log_offset)) FROM unreadable_records"
                )[0][0]
            )
        finally:
            store.close()
    except InfrastructureError:
        return -1
