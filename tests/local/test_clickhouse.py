"""Contract: the stock clickhouse-connect client, sync and async, against our server as against a real one."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import clickhouse_connect
import pyarrow as pa
import pytest
import urllib3
from clickhouse_connect.driver.exceptions import DatabaseError

from skeet.local.ports import free_port
from skeet.local.server import ChildServer

pytestmark = pytest.mark.integration

Address = tuple[str, str]


def connected(address: Address, **options: Any) -> Any:
    url, token = address
    return clickhouse_connect.get_client(
        host="127.0.0.1", port=int(url.rpartition(":")[2]), username="default", password=token, **options
    )


@pytest.fixture
def client(clickhouse: Address) -> Iterator[Any]:
    opened = connected(clickhouse)
    yield opened
    opened.close()


@pytest.fixture
def table(client: Any) -> str:
    name = f"t_{uuid.uuid4().hex}"
    client.command(
        f"CREATE TABLE {name} (id UInt64, price Decimal(38, 18), at DateTime64(9), note String)"
        " ENGINE = MergeTree ORDER BY id SETTINGS non_replicated_deduplication_window = 100"
    )
    return name


ROWS = [
    (1, Decimal("0.000000000000000001"), 1, "a"),
    (2, Decimal("12345678901234567890.123456789012345678"), 2, "it's\t\\"),
]


def test_rows_come_back_exact(client: Any, table: str) -> None:
    summary = client.insert(table, ROWS, column_names=["id", "price", "at", "note"])
    assert summary.written_rows == 2
    found = client.query(f"SELECT id, price, toUnixTimestamp64Nano(at), note FROM {table} ORDER BY id").result_rows
    assert [tuple(row) for row in found] == ROWS


@pytest.mark.parametrize("compression", ["lz4", "zstd", "gzip", False])
def test_every_compression_the_client_asks_for(clickhouse: Address, table: str, compression: str | bool) -> None:
    client = connected(clickhouse, compress=compression)
    client.insert(table, [(n, Decimal(n), n, "x" * 50) for n in range(20_000)])
    assert client.query(f"SELECT count(), sum(length(note)) FROM {table}").result_rows == [(20_000, 1_000_000)]
    assert len(client.query(f"SELECT * FROM {table}").result_rows) == 20_000


def test_arrow_in_and_out(client: Any, table: str) -> None:
    prices = pa.array([Decimal("1.5"), Decimal("2.5")], pa.decimal128(38, 18))
    times = pa.array([1, 2], pa.timestamp("ns"))
    client.insert_arrow(table, pa.table({"id": [1, 2], "price": prices, "at": times, "note": ["a", "b"]}))
    answer = client.query_arrow(f"SELECT price, note FROM {table} ORDER BY id")
    assert answer.column("price").to_pylist() == [Decimal("1.5"), Decimal("2.5")]


def test_parameters_are_bound_on_the_server(client: Any) -> None:
    text = "it's \t \\ {x}"
    answer = client.query("SELECT {t:String}, {n:Array(UInt8)}", parameters={"t": text, "n": [1, 2]})
    assert answer.result_rows == [(text, [1, 2])]


def test_large_result_is_streamed(client: Any) -> None:
    total = 0
    with client.query_column_block_stream("SELECT number FROM numbers(3000000)") as stream:
        total = sum(len(block[0]) for block in stream)
    assert total == 3_000_000


def test_query_without_rows_has_its_columns(client: Any, table: str) -> None:
    assert client.query(f"SELECT id FROM {table}").result_rows == []
    assert client.query_arrow(f"SELECT id FROM {table}").column_names == ["id"]


def test_unknown_table_is_told_as_clickhouse_tells_it(client: Any) -> None:
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE") as refusal:
        client.query("SELECT * FROM nowhere")
    assert refusal.value.code == 60


def test_deduplication_token_holds_once_and_does_not_leak_into_the_next_insert(client: Any, table: str) -> None:
    for _ in range(2):
        client.insert(table, ROWS[:1], settings={"insert_deduplication_token": "block-1"})
    assert client.command(f"SELECT count() FROM {table}") == 1
    client.insert(table, ROWS[1:])
    assert client.command(f"SELECT count() FROM {table}") == 2


def test_max_execution_time_ends_a_query(client: Any) -> None:
    with pytest.raises(DatabaseError) as refusal:
        client.query("SELECT sum(cityHash64(number)) FROM numbers(100000000000)", settings={"max_execution_time": 1})
    assert refusal.value.code == 159


def test_heavy_query_does_not_hold_an_insert_and_is_killed_by_its_id(
    clickhouse: Address, client: Any, table: str
) -> None:
    heavy, errors = str(uuid.uuid4()), []

    def run() -> None:
        try:
            connected(clickhouse).query(
                "SELECT sum(cityHash64(number)) FROM numbers(100000000000)",
                transport_settings={},
                settings={"query_id": heavy},
            )
        except DatabaseError as error:
            errors.append(error.code)

    thread = threading.Thread(target=run)
    thread.start()
    deadline = time.monotonic() + 10
    counting = f"SELECT count() FROM system.processes WHERE Settings['log_comment'] = '{heavy}'"
    while client.command(counting) == 0 and time.monotonic() < deadline:
        pass
    begun = time.monotonic()
    client.insert(table, ROWS)
    assert time.monotonic() - begun < 2
    client.command(f"KILL QUERY WHERE query_id = '{heavy}'")
    thread.join(10)
    assert errors == [394]


def test_raw_http_speaks_for_itself(clickhouse: Address) -> None:
    url, token = clickhouse
    http = urllib3.PoolManager()
    assert http.request("GET", f"{url}/ping").data == b"Ok.\n"
    keyed = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": token}
    assert http.request("GET", f"{url}/?query=SELECT%201", headers=keyed).data == b"1\n"
    bearer = {"Authorization": f"Bearer {token}"}
    assert http.request("POST", url, body=b"SELECT 1 AS x FORMAT JSONEachRow", headers=bearer).data == b'{"x":1}\n'
    written = http.request("GET", f"{url}/?query=CREATE%20TABLE%20no%20(a%20Int8)%20ENGINE%3DMemory", headers=keyed)
    assert (written.status, written.headers["X-ClickHouse-Exception-Code"]) == (403, "164")
    for wrong in ({}, {"X-ClickHouse-Key": "guess"}, {"Authorization": "Basic !!"}):
        refused = http.request("POST", url, body=b"SELECT 1", headers=wrong)
        assert (refused.status, refused.headers["X-ClickHouse-Exception-Code"]) == (403, "516")


async def test_async_client(clickhouse: Address, table: str) -> None:
    url, token = clickhouse
    client = await clickhouse_connect.get_async_client(
        host="127.0.0.1", port=int(url.rpartition(":")[2]), username="default", password=token
    )
    await client.insert(table, ROWS)
    assert (await client.query(f"SELECT count() FROM {table}")).result_rows == [(2,)]
    await client.close()


def test_answered_inserts_survive_kill(tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "token").write_text("secret")
    arguments = ["--data", str(tmp_path / "engine"), "--port", str(port), "--token-file", str(tmp_path / "token")]
    server = ChildServer("skeet.local.clickhouse", arguments, tmp_path)
    address = (f"http://127.0.0.1:{port}", "secret")
    try:
        server.start()
        connected(address).command("CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a")
        connected(address).insert("kept", [(7,)])
        server.kill()
        server.start()
        assert connected(address).command("SELECT a FROM kept") == 7
        server.stop()
        assert server.wait(0) == 0
    finally:
        server.stop()
