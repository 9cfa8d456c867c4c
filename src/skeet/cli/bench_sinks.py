"""``skeet bench sinks``: the projections against row lists and executemany, on a Kafka and stores that it starts itself."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from confluent_kafka.admin import NewTopic

from skeet.cli.bench_kafka import DEADLINE_S, trades
from skeet.cli.bench_ratio import Comparison, Floor, Json, report
from skeet.cli.bench_upserts import measured_accounts
from skeet.config import ClickhouseSettings, KafkaSettings, Settings
from skeet.core.errors import BugError, InfrastructureError
from skeet.local.kafka import KafkaBroker
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.projections.bench_accounts import BATCH_FACTS
from skeet.projections.blocks import MAX_BLOCK_RECORDS
from skeet.projections.clickhouse_store import HistoryStore, quoted
from skeet.projections.history import TABLES
from skeet.schemas.codec import numbered_codec
from skeet.streams.kafka import admin, producer
from skeet.streams.topics import MARKET_TRADES, partition_count, topic_config, topic_name

PARTITIONS = 4
ROW_SHARE = 10
"""The sides that make a Python object of every trade copy a tenth: their rate does not depend on how many."""
LEAST_RECORDS = 200_000
"""Three full inserts: the first does not count, and row lists are inserted in full ones only."""
HISTORY = (
    # what, baseline, goal, floor
    ("trades into ClickHouse, against row lists", "rows", 4.0, 2.0),
    ("trades into ClickHouse, against records one by one", "records", None, None),
)


def bench_sinks(
    records: Annotated[
        int, typer.Option(min=LEAST_RECORDS, help="Trades in the topic, which our side copies.")
    ] = 3_000_000,
    facts: Annotated[
        int, typer.Option(min=BATCH_FACTS, help="Account facts that each side stores in a round.")
    ] = 10_000,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds that count; one more goes before them.")] = 3,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """Trades into ClickHouse by columns against row lists, account state into PostgreSQL against executemany, in one run.

    Starts a Kafka, a ClickHouse engine and a PostgreSQL of its own in temporary directories. The floor is of both ratios; without
    one it is 2 and 8. Exit 1 when one is below its floor, or when the tables of both sides differ.
    """
    found, notes = measured_history(records, rounds, floor)
    states, more = measured_accounts(facts, rounds, floor)
    report(f"Sinks: {records:,} trades, {facts:,} account facts", found + states, notes=notes + more, as_json=as_json)


def measured_history(records: int, rounds: int, floor: float | None = None) -> tuple[list[Comparison], tuple[str, ...]]:
    """Copying trades from Kafka into ClickHouse: comparisons, and what else was seen."""
    with tempfile.TemporaryDirectory(prefix="skeet-bench-") as home, _stores(Path(home)) as settings:
        _create_topics(settings)
        _fill(settings, records)
        runs = [_round(settings, records, number) for number in range(rounds + 1)]
    rates = {side: [run[side]["records"] / run[side]["seconds"] for run in runs[1:]] for side in runs[0]}
    found = [
        Comparison(
            what=what,
            unit="rows/s",
            baseline_name=baseline,
            our_name="columns",
            baseline=tuple(rates[baseline]),
            ours=tuple(rates["columns"]),
            goal=goal,
            floor=floor or least if least else None,
        )
        for what, baseline, goal, least in HISTORY
    ]
    times = {side: median(1e9 * run[side]["cpu_seconds"] / run[side]["records"] for run in runs[1:]) for side in rates}
    return found, (
        "processor time of the copying process, ns a row: " + ", ".join(f"{s} {ns:,.0f}" for s, ns in times.items()),
        f"compared: {runs[-1]['rows']['compared']:,.0f} rows of each side, every column",
    )


@contextmanager
def _stores(home: Path) -> Iterator[Settings]:
    """Settings of an empty Kafka and an empty ClickHouse engine."""
    broker, port, token = KafkaBroker(home / "kafka"), free_port(), secrets.token_urlsafe(16)
    (home / "token").write_text(token)
    words = ["--data", str(home / "engine"), "--port", str(port), "--token-file", str(home / "token")]
    engine = ChildServer("skeet.local.clickhouse", words, home / "clickhouse")
    try:
        engine.start()
        yield Settings(
            kafka=KafkaSettings(bootstrap=broker.start(), market_partitions=PARTITIONS),
            clickhouse=ClickhouseSettings(url=f"http://127.0.0.1:{port}", password=token),
            data=home,
        )
    finally:
        engine.stop()
        broker.stop()


def _create_topics(settings: Settings) -> None:
    wanted = [
        NewTopic(
            topic_name(table.topic, settings.kafka),
            partition_count(table.topic, settings.kafka),
            config=topic_config(table.topic),
        )
        for table in TABLES
    ]
    client = admin(settings)
    for made in client.create_topics(wanted).values():
        made.result(30)


def _fill(settings: Settings, records: int) -> None:
    codec = numbered_codec()
    encoded = [(trade.instrument_id.encode(), codec.encode(trade)) for trade in trades()]
    client = producer(settings, "bench", linger_ms=20, batch_size=262_144, queue_buffering_max_messages=1_000_000)
    topic = topic_name(MARKET_TRADES, settings.kafka)
    for number in range(records):
        key, value = encoded[number % len(encoded)]
        if number % 10_000 == 0:
            client.flush(DEADLINE_S)
        client.produce(topic, value, key)
    if client.flush(DEADLINE_S):
        raise InfrastructureError("the broker did not take the trades in time")


def _round(settings: Settings, records: int, number: int) -> dict[str, dict[str, float]]:
    """What every side found, in turn, each in a database of its own; the rows of all are compared."""
    found: dict[str, dict[str, float]] = {}
    sides = ("rows", "records", "columns")
    for side in sides if number % 2 else reversed(sides):
        at = settings.model_copy(
            update={
                "clickhouse": settings.clickhouse.model_copy(update={"database": f"bench_{side}"}),
                "kafka": settings.kafka,
            }
        )
        store = HistoryStore(at)
        store.command_outside(f"DROP DATABASE IF EXISTS {quoted(store.database)} SYNC")
        store.migrate()
        store.close()
        count = _in_full_blocks(records) if side == "columns" else max(records // ROW_SHARE, LEAST_RECORDS // 2)
        found[side] = _copied(at, side, count)
    for side in ("rows", "records"):
        found[side]["compared"] = _compare(settings, side)
    return found


def _in_full_blocks(records: int) -> int:
    """What our side has copied when its clock stops: the last blocks are not full, and wait for company that does not come."""
    return max(records - PARTITIONS * MAX_BLOCK_RECORDS, records // 2)


def _copied(settings: Settings, side: str, count: int) -> dict[str, float]:
    words = [sys.executable, "-m", "skeet.projections.bench_history", side, str(count)]
    variables = {
        "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "SKEET_KAFKA__MARKET_PARTITIONS": str(settings.kafka.market_partitions),
        "SKEET_CLICKHOUSE__URL": settings.clickhouse.url,
        "SKEET_CLICKHOUSE__PASSWORD": settings.clickhouse.password.get_secret_value(),
        "SKEET_CLICKHOUSE__DATABASE": settings.clickhouse.database,
        "SKEET_DATA": str(settings.data),
    }
    try:
        done = subprocess.run(
            words,
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            env={**os.environ, **variables},
        )
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"{words!r} did not end within {DEADLINE_S:.0f} s") from error
    if done.returncode:
        raise BugError(f"{words!r} ended with {done.returncode}: {done.stderr[-2000:]}")
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def _compare(settings: Settings, side: str) -> int:
    """How many rows both sides hold, each equal in every column.

    Raises
    ------
    BugError
        they differ.
    """
    theirs, ours = (
        HistoryStore(
            settings.model_copy(
                update={"clickhouse": settings.clickhouse.model_copy(update={"database": f"bench_{name}"})}
            )
        )
        for name in (side, "columns")
    )
    both = {at: min(end, ours.next_offsets().get(at, 0)) for at, end in theirs.next_offsets().items()}
    held = [next(each for each in store.checksums(both) if each.table == "trades") for store in (theirs, ours)]
    theirs.close()
    ours.close()
    if held[0] != held[1] or not held[0].rows:
        raise BugError(f"{side} wrote {held[0]}, columns {held[1]}")
    return held[0].rows
