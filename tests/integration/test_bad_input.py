"""Bad input of every kind on every topic, on running roles: each row of the table in ``docs/bad-input.md``.

All of it is sent at once to a desk, a gateway, a worker, the strategies role and both projections. Every role must be the
process it was, what the table says must be in the log, and accounts that had no part in it must trade on, after a restart too.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest's import mode does not

from bad_input_cases import (
    BEGIN,
    DOCUMENT,
    END,
    LATER_SCHEMA,
    OTHER_SCHEMA,
    OTHER_SYMBOL,
    SYMBOL,
    TOPICS,
    Bench,
    Case,
    Sent,
    cases,
    newer,
    newer_side_schema,
    rendered,
)
from confluent_kafka import Producer

from skeet.config import Settings
from skeet.core import commands, market
from skeet.core.accounts import AccountHalted, OrderRejected
from skeet.core.control import DeadLetter
from skeet.core.record import Out, Record
from skeet.schemas.catalogue import full_name
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    CLOCK,
    COMMANDS,
    DEAD_LETTERS,
    INSTRUMENTS,
    MARKET_REFERENCE,
    TOPIC_BY_NAME,
    partition_count,
    topic_name,
)
from skeet.verify.run import verify

pytestmark = pytest.mark.integration

CASES = cases()
ROLES = ("desk", "gateway", "worker", "strategies", "projection-postgres", "projection-clickhouse")
RESTARTED = ("desk", "gateway", "strategies", "projection-postgres")
READY_S = 60.0
DONE_S = 60.0
NEIGHBOURS = ("neighbour-0", "neighbour-1", "neighbour-2", "neighbour-3")
PARTITIONS = 2

INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=1, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip


class Roles:
    """The roles as processes."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self._settings = settings
        self._environment = environment
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *names: str) -> None:
        """Start them side by side and wait until each is ready."""
        marks = {name: self._settings.data / f"ready-{name}-{uuid.uuid4().hex}" for name in names}
        for name, mark in marks.items():
            with (self._settings.data / f"{name}.log").open("ab") as log:
                environment = self._environment | {"SKEET_READY_FILE": str(mark)}
                command = [sys.executable, "-m", "skeet", "run", name]
                self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        wait_until(lambda: all(mark.exists() for mark in marks.values()) or self.ended(), READY_S, "roles are ready")
        assert not self.ended(), self.logs()

    def stop(self, *names: str) -> None:
        for name in names:
            self.running[name].terminate()
        for name in names:
            assert self.running.pop(name).wait(30) == 0, f"{name} did not end well"

    def ended(self) -> list[str]:
        return [name for name, process in self.running.items() if process.poll() is not None]

    def logs(self) -> str:
        tails = [(name, (self._settings.data / f"{name}.log").read_text()[-1500:]) for name in self.ended()]
        return "\n".join(f"--- {name}: {text}" for name, text in tails)

    def kill(self) -> None:
        for process in self.running.values():
            process.kill()
            process.wait()


@dataclass(slots=True, repr=False)
class Aftermath:
    """What is in the log once everything was dealt with. Letters by the place of their origin."""

    settings: Settings
    roles: Roles
    places: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    sent: dict[str, Sent] = field(default_factory=dict)
    letters: dict[tuple[str, int, int], list[Record[Any]]] = field(default_factory=dict)
    events: dict[str, list[Record[Any]]] = field(default_factory=dict)

    def of(self, case: Case) -> list[Record[Any]]:
        """The account events that the case's record caused."""
        at = "/".join(map(str, self.places[case.name]))
        found = [(record, record.meta) for events in self.events.values() for record in events]
        return [record for record, meta in found if meta and meta.cause_at == at and meta.account_id[0] != "~"]

    def look(self, codec: Codec) -> None:
        """Read letters and events anew."""
        self.letters, self.events = defaultdict(list), defaultdict(list)
        for record in records_until_end(self.settings, codec, [DEAD_LETTERS, ACCOUNT_EVENTS]):
            if isinstance(record.event, DeadLetter):
                letter = record.event
                self.letters[letter.topic, letter.partition, letter.offset].append(record)
            elif record.meta is not None:
                self.events[record.meta.account_id].append(record)

    @property
    def settled(self) -> bool:
        """Whether every case has as many letters and events as the table says."""
        return all(
            len(self.letters.get(self.places[case.name], ())) >= len(case.letters)
            and len(self.of(case)) >= len(case.becomes)
            for case in CASES
        )


@pytest.fixture(scope="module")
def aftermath(
    kafka: str,
    registry_url: str,
    postgres_dsn: str,
    clickhouse: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Aftermath]:
    settings, environment = installation(
        kafka, registry_url, postgres_dsn, clickhouse, tmp_path_factory.mktemp("bad-input")
    )
    topics_admin.apply(settings)
    codec = registered_codec(settings)
    found = Aftermath(settings, Roles(settings, environment))
    try:
        prepare(settings, codec)
        found.roles.start(*ROLES)
        flood(found, codec, registered(settings, codec))

        def settled() -> bool:
            found.look(codec)
            return found.settled or bool(found.roles.ended())

        try:
            wait_until(settled, DONE_S, "everything is dealt with")
        except AssertionError:
            pass  # the cases say what is missing
        yield found
    finally:
        found.roles.kill()


def installation(
    kafka: str, registry_url: str, dsn: str, clickhouse: tuple[str, str], data: Path
) -> tuple[Settings, dict[str, str]]:
    """Settings of an installation of its own, and the same as environment."""
    name = f"t{uuid.uuid4().hex[:8]}"
    chosen = {
        "SKEET_DATA": str(data),
        "SKEET_KAFKA__BOOTSTRAP": kafka,
        "SKEET_KAFKA__TOPIC_PREFIX": f"{name}.",
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": str(PARTITIONS),
        "SKEET_KAFKA__MARKET_PARTITIONS": str(PARTITIONS),
        "SKEET_REGISTRY__URL": registry_url,
        "SKEET_POSTGRES__DSN": dsn,
        "SKEET_POSTGRES__SCHEMA_NAME": name,
        "SKEET_CLICKHOUSE__URL": clickhouse[0],
        "SKEET_CLICKHOUSE__PASSWORD": clickhouse[1],
        "SKEET_CLICKHOUSE__DATABASE": name,
        "SKEET_RISK__REFERENCE_MAX_AGE_MS": "600000",  # a slow machine is no stale market
        "SKEET_LOG_LEVEL": "INFO",
    }
    with pytest.MonkeyPatch.context() as patch:
        for key, value in chosen.items():
            patch.setenv(key, value)
        return Settings(), {**os.environ}


def prepare(settings: Settings, codec: Codec) -> None:
    """A price, and an open, funded account for each case and neighbour."""
    publisher = Publisher(settings, codec, producer(settings, "test"))
    now = time.time_ns()
    reference = market.Reference(
        instrument_id=SYMBOL, ts_event=now, ts_init=now, bid_mantissa=10_000, ask_mantissa=10_001, last_mantissa=10_000,
        price_scale=2, status=market.ReferenceStatus.LIVE, source_at="market.quotes.v1/0/0",
    )  # fmt: skip
    publisher.send([
        Out(topic=INSTRUMENTS.name, key=SYMBOL, event=INSTRUMENT),
        Out(topic=MARKET_REFERENCE.name, key=SYMBOL, event=reference),
        Out(topic=CLOCK.name, key="", event=market.Tick(ts_event=now)),
    ])  # fmt: skip
    for number, account in enumerate([*(account_of(case) for case in CASES), *NEIGHBOURS]):
        bench = Bench(codec, {}, account, now + number)
        opened = bench.command(commands.OpenAccount, venue="sim", label=account)
        funded = bench.command(commands.Deposit, asset="USDT", amount=Decimal(1_000), external_ref=f"fund {account}")
        for step, event in enumerate((opened, funded)):
            meta = Bench(codec, {}, f"{account}{step}", now).meta(account_id=bench.meta().account_id)
            publisher.send([Out(topic=COMMANDS.name, key=account, event=event, meta=meta)])
    publisher.flush()


def account_of(case: Case) -> str:
    return f"case-{CASES.index(case)}"


def registered(settings: Settings, codec: Codec) -> dict[str, int]:
    """Ids of the schemas that a newer version, or somebody else, registered."""
    bench = Bench(codec, {}, "x", time.time_ns())
    found = {"other": register(settings, "somebody-elses-value", OTHER_SCHEMA)}
    found["later"] = register(
        settings, f"{topic_name(COMMANDS, settings.kafka)}-skeet.commands.AddedLater", LATER_SCHEMA
    )
    for topic in TOPICS:
        schema, name = newer(topic, bench)
        subject = f"{topic_name(topic, settings.kafka)}-{full_name(type(bench.event(topic)))}"
        found[f"newer {name}"] = register(settings, subject, schema)
    side = f"{topic_name(COMMANDS, settings.kafka)}-{full_name(commands.SubmitOrder)}"
    found["newer side"] = register(settings, f"{side}.side", newer_side_schema())
    return found


def register(settings: Settings, subject: str, schema: dict[str, Any]) -> int:
    url = f"{settings.registry.url}/subjects/{subject}/versions"
    body = json.dumps({"schema": json.dumps(schema), "schemaType": "AVRO"}).encode()
    request = Request(url, body, {"Content-Type": "application/json"}, method="POST")
    with urlopen(request, timeout=10) as answer:
        return int(json.load(answer)["id"])


def flood(found: Aftermath, codec: Codec, schema_ids: dict[str, int]) -> None:
    """Send the record of every case, and note where each came to stand."""
    client = Producer({
        "bootstrap.servers": found.settings.kafka.bootstrap, "partitioner": "murmur2_random", "linger.ms": 5,
        "message.max.bytes": 1_000_000, "enable.idempotence": True,
    })  # fmt: skip
    now = time.time_ns()
    for number, case in enumerate(CASES):
        sent = case.make(Bench(codec, schema_ids, account_of(case), now + number))
        key = sent.key if sent.key is not None else key_of(case)
        count = partition_count(case.topic, found.settings.kafka)
        partition = (partition_of(key, count) + int(sent.wrong_partition)) % count

        def delivered(error: Any, message: Any, case: Case = case) -> None:
            assert error is None, f"{case.name}: {error}"
            found.places[case.name] = (case.topic.name, message.partition(), message.offset())

        found.sent[case.name] = dataclasses.replace(sent, key=key)
        name = topic_name(case.topic, found.settings.kafka)
        client.produce(name, sent.value, key, partition, on_delivery=delivered)
        client.poll(0)
    assert client.flush(30) == 0


def key_of(case: Case) -> bytes:
    keyed = TOPIC_BY_NAME[case.topic.name].key
    return account_of(case).encode() if keyed == "account_id" else OTHER_SYMBOL.encode()


def wait_until(condition: Any, deadline_s: float, what: str) -> None:
    until = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < until, f"not within {deadline_s:.0f} s: {what}"
        time.sleep(0.2)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_input_becomes_what_the_table_says(aftermath: Aftermath, case: Case) -> None:
    letters = aftermath.letters.get(aftermath.places[case.name], [])
    assert sorted(record.event.role for record in letters) == sorted(case.letters), "each role writes one letter"
    events = aftermath.of(case)
    assert [type(record.event).__name__ for record in events] == list(case.becomes)
    sent = aftermath.sent[case.name]
    for record in letters:
        assert record.event.value == (sent.value or b"")[:500_000]
        assert record.event.size == len(sent.value or b"")
        assert record.event.key == sent.key
    reasons = [record.event.cause for record in letters] + [
        str(getattr(record.event, "breaches", getattr(record.event, "reason", ""))) for record in events
    ]
    for word in case.says:
        assert all(word in reason for reason in reasons), reasons
    halted = any(isinstance(r.event, AccountHalted) for r in aftermath.events.get(account_of(case), []))
    assert halted is case.halts


def test_no_role_ended(aftermath: Aftermath) -> None:
    assert aftermath.roles.ended() == [], aftermath.roles.logs()


def test_others_trade_on_after_a_restart_and_the_stores_agree(aftermath: Aftermath) -> None:
    settings, codec = aftermath.settings, registered_codec(aftermath.settings)
    assert aftermath.roles.ended() == [], aftermath.roles.logs()
    before = {place: len(letters) for place, letters in aftermath.letters.items()}
    aftermath.roles.stop(*RESTARTED)
    aftermath.roles.start(*RESTARTED)
    publisher = Publisher(settings, codec, producer(settings, "test"))
    for account in NEIGHBOURS:
        bench = Bench(codec, {}, account, time.time_ns())
        publisher.send([Out(topic=COMMANDS.name, key=account, event=bench.order(), meta=bench.meta())])
    publisher.flush()
    assert {partition_of(account.encode(), PARTITIONS) for account in NEIGHBOURS} == {0, 1}

    def rejected() -> bool:
        aftermath.look(codec)
        ended = [r for account in NEIGHBOURS for r in aftermath.events[account] if isinstance(r.event, OrderRejected)]
        return len(ended) == len(NEIGHBOURS)  # by the gateway, which has no key of theirs: the whole path works

    wait_until(rejected, DONE_S, "the neighbours' orders went through desk and gateway")
    after = {place: len({record.event_id for record in letters}) for place, letters in aftermath.letters.items()}
    assert after == before, "a restart writes no new letter, at most an old one again under its id"

    def agree() -> bool:
        checks = {check.name: check for check in verify(settings).checks}
        wrong.clear()
        wrong.update({name: checks[name].differences for name in ("I1", "I3", "I4", "I5") if checks[name].differences})
        covered.append(checks["I5"].covers)
        # Nobody writes any more: the history is complete once it stands still (its distance in offsets is never 0, because
        # transactions leave markers behind the last record).
        return not wrong and covered[-2:-1] == covered[-1:]

    wrong: dict[str, Any] = {}
    covered: list[str] = []
    try:
        wait_until(agree, DONE_S, "verify agrees")
    except AssertionError:
        pytest.fail(f"verify: {wrong}")


def test_the_table_in_the_documentation_is_this_one() -> None:
    text = DOCUMENT.read_text()
    table = text.partition(BEGIN)[2].partition(END)[0]
    assert table == rendered(), "run `python tests/integration/bad_input_cases.py`"
