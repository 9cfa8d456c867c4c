"""Others read our topics with their own tools: Kafka's Java client, and ClickHouse's AvroConfluent format."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from skeet.config import Settings
from skeet.core.commands import SubmitOrder
from skeet.core.record import Meta, Out
from skeet.core.values import AccountId, EventId, OrderType, PrincipalId, Side, TenantId, TimeInForce
from skeet.local.jars import kafka_jars
from skeet.schemas.codec import HEADER, Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import messages_until_end, partitions_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import COMMANDS, topic_name

pytestmark = pytest.mark.integration

JAVA_SOURCE = Path(__file__).with_name("ConsoleConsumer.java")
ORDERS = 40
JAVA_DEADLINE_S = 90


@pytest.fixture
def orders(fresh_settings: Callable[[], Settings]) -> tuple[Settings, Codec]:
    """An installation whose commands topic holds some orders of several accounts."""
    settings = fresh_settings()
    topics_admin.apply(settings)
    codec = registered_codec(settings)
    publisher = Publisher(settings, codec, producer(settings, "test"))
    publisher.send(order(number) for number in range(ORDERS))
    publisher.flush()
    return settings, codec


def order(number: int) -> Out[SubmitOrder]:
    account, identity = AccountId(f"account-{number % 7}-é"), EventId(f"{number:032x}")
    event = SubmitOrder(
        ts_cause=number,
        valid_until=number + 10**18,
        book_id="manual",
        instrument_id="SIM:BTC/USDT",
        side=Side.BUY if number % 2 else Side.SELL,
        order_type=OrderType.LIMIT if number % 3 else OrderType.MARKET,
        time_in_force=TimeInForce.GTC,
        post_only=bool(number % 2),
        quantity=Decimal(number) + Decimal("0.000000000000000001"),
        limit_price=Decimal("20000.5") if number % 3 else None,
        code_version="",
        rule="",
    )
    meta = Meta(
        event_id=identity,
        tenant_id=TenantId("main"),
        account_id=account,
        principal_id=PrincipalId("test"),
        correlation_id=identity,
        causation_id=identity,
        cause_at="",
        ts_event=number,
        ts_init=number,
    )
    return Out(topic=COMMANDS.name, key=account, event=event, meta=meta)


def test_a_java_console_consumer_reads_every_record_and_agrees_on_partitions(orders: tuple[Settings, Codec]) -> None:
    javac = shutil.which("javac")
    if javac is None:
        pytest.skip("no Java compiler on this machine")
    settings, codec = orders
    java = Path(javac).resolve().with_name("java")
    class_path = os.pathsep.join(map(str, kafka_jars()))
    topic = topic_name(COMMANDS, settings.kafka)
    done = subprocess.run(
        [str(java), "-cp", class_path, str(JAVA_SOURCE), settings.kafka.bootstrap, topic, str(ORDERS)],
        capture_output=True,
        text=True,
        timeout=JAVA_DEADLINE_S,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8", "JAVA_TOOL_OPTIONS": "-Dfile.encoding=UTF-8 -Dstdout.encoding=UTF-8"},
    )
    assert done.returncode == 0, done.stderr
    read = [line.split("\t") for line in done.stdout.splitlines()]
    ours = {
        (str(m.partition()), str(m.offset()), (m.key() or b"").decode()): m.value() or b""
        for m in messages_until_end(settings, partitions_of(settings, [COMMANDS]))
    }
    assert {(partition, offset, key) for partition, offset, _, _, key, _ in read} == ours.keys()
    assert len({partition for partition, *_ in read}) > 1
    for partition, offset, belongs, schema_id, key, first in read:
        value = ours[partition, offset, key]
        _, meta = codec.decode(value)
        assert meta is not None
        assert (belongs, schema_id, first) == (partition, str(HEADER.unpack_from(value)[1]), meta.event_id)


def test_clickhouse_reads_our_bytes_by_the_registry(
    orders: tuple[Settings, Codec], clickhouse: tuple[str, str]
) -> None:
    settings, _ = orders
    columns = "event_id String, account_id String, side String, quantity Decimal(38, 18), valid_until Int64, "
    columns += "limit_price Nullable(Decimal(38, 18)), post_only Bool"
    table = f"others_{settings.kafka.topic_prefix.strip('.')}"
    ask(clickhouse, f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY event_id")
    record_bytes = b"".join(
        message.value() or b"" for message in messages_until_end(settings, partitions_of(settings, [COMMANDS]))
    )
    ask(
        clickhouse,
        f"INSERT INTO {table} FORMAT AvroConfluent",
        record_bytes,
        format_avro_schema_registry_url=settings.registry.url,
        input_format_avro_allow_missing_fields="1",
    )
    answer = ask(
        clickhouse, f"SELECT * FROM {table} ORDER BY event_id FORMAT JSONEachRow", output_format_json_quote_decimals="1"
    )
    rows = [json.loads(line) for line in answer.splitlines()]
    assert len(rows) == ORDERS
    for row, out in zip(rows, map(order, range(ORDERS)), strict=True):
        assert out.meta is not None
        assert (row["event_id"], row["account_id"]) == (out.meta.event_id, out.meta.account_id)
        assert (row["side"], row["post_only"]) == (out.event.side.value, out.event.post_only)
        assert (Decimal(row["quantity"]), int(row["valid_until"])) == (out.event.quantity, out.event.valid_until)
        price = row["limit_price"]
        assert (Decimal(price) if price is not None else None) == out.event.limit_price


def ask(clickhouse: tuple[str, str], query: str, body: bytes = b"", **settings: str) -> str:
    """One request as any HTTP client of ClickHouse makes it."""
    address, token = clickhouse
    request = urllib.request.Request(
        f"{address}/?{urllib.parse.urlencode({'query': query, **settings})}",
        data=body,
        headers={"X-ClickHouse-User": "default", "X-ClickHouse-Key": token},
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return str(response.read().decode())
