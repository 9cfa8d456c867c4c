"""Each store on a full disk of its own: what it acknowledged is there when space returns, and nothing else is needed."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import clickhouse_connect
import psycopg
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import ClickHouseError
from clickhouse_process import clickhouse_server
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from small_disks import fill, make_room, mounted

from skeet.core.errors import DiskFull
from skeet.local.kafka import BALLAST, KafkaBroker
from skeet.local.postgres import PostgresServer

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


@pytest.mark.parametrize("how", ["rows", "arrow"])
def test_clickhouse_on_a_full_disk_refuses_what_it_cannot_keep_and_takes_it_once_when_it_is_repeated(
    disk: Path, how: str
) -> None:
    with clickhouse_server(disk) as (url, token):
        client = clickhouse_connect.get_client(dsn=url, username="skeet", password=token)
        client.command(
            "CREATE TABLE filled (number UInt64, filling String) ENGINE = MergeTree ORDER BY number "
            "SETTINGS non_replicated_deduplication_window = 100"
        )
        _insert_block(client, how, 0)
        fill(disk)
        with pytest.raises(ClickHouseError, match="not enough space"):
            _insert_block(client, how, 1)
        make_room(disk)
        _insert_block(client, how, 1)
        _insert_block(client, how, 1)
        assert client.query("SELECT count(), uniqExact(number) FROM filled").result_rows == [(2 * ROWS, 2 * ROWS)]


ROWS = 2_000


def _insert_block(client: Any, how: str, number: int) -> None:
    settings = {"insert_deduplication_token": f"block-{number}", "insert_deduplicate": 1}
    numbers = list(range(number * ROWS, (number + 1) * ROWS))
    fillings = [str(each) * 20 for each in numbers]
    if how == "arrow":
        client.insert_arrow(
            "filled", pa.table({"number": pa.array(numbers, pa.uint64()), "filling": fillings}), settings=settings
        )
    else:
        client.insert("filled", list(zip(numbers, fillings, strict=True)), settings=settings)
