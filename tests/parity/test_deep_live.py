"""``verify --deep`` over a real broker: what the desk wrote is folded and decided again in other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from installation import eventually

from skeet.agents import desk_books
from skeet.agents.desk import GROUP, Desk
from skeet.config import Settings
from skeet.core import commands, control, market
from skeet.core.accounts import FundsDeposited, StateMarked
from skeet.core.ids import account_event_id, derive_id
from skeet.core.record import Event, Meta, Out, Record
from skeet.core.values import NS_PER_S, AccountId, OrderType, PrincipalId, Side, TenantId, TimeInForce
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import admin, group_name, producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, CLOCK, COMMANDS, CONTROL, INSTRUMENTS, MARKET_REFERENCE, topic_name

pytestmark = pytest.mark.integration

DEADLINE_S = 40.0
SYMBOL = "SIM:BTC/USDT"
INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=1, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip
DEEP = """
import json
from skeet.config import load_settings
from skeet.parity.run import verify_deep
found = verify_deep(load_settings())
desk = [check for check in found.report.checks if check.name in "FDA"]
print(json.dumps({"exit_code": found.report.exit_code, "first": found.report.first_difference, "hashes": found.hashes,
                  "compared": {check.name: check.compared for check in desk}}))
"""


class Trader:
    """What people do to two accounts."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self.settings = settings
        self.codec = codec
        self._publisher = Publisher(settings, codec, producer(settings, "test"))

    def publish(
        self, topic: str, key: str, event: Event, meta: Meta | None = None, partition: int | None = None
    ) -> None:
        self._publisher.send([Out(topic=topic, key=key, event=event, meta=meta, partition=partition)])
        self._publisher.flush()

    def quote(self) -> None:
        now = time.time_ns()
        reference = market.Reference(
            instrument_id=SYMBOL, ts_event=now, ts_init=now, bid_mantissa=9_999, ask_mantissa=10_000,
            last_mantissa=10_000, price_scale=2, status=market.ReferenceStatus.LIVE, source_at="market.quotes.v1/0/0",
        )  # fmt: skip
        self.publish(INSTRUMENTS.name, SYMBOL, INSTRUMENT)
        self.publish(MARKET_REFERENCE.name, SYMBOL, reference)
        self.publish(CLOCK.name, "clock", market.Tick(ts_event=now))

    def command(self, account: str, make: Any, **fields: Any) -> str:
        now = time.time_ns()
        meta = self.meta(account)
        event = make(ts_cause=now, valid_until=now + 60 * NS_PER_S, **fields)
        self.publish(COMMANDS.name, account, event, meta)
        return meta.event_id

    def order(
        self, account: str, quantity: str = "0.1", price: str | None = "99", book: str = "manual", epoch: int = 0
    ) -> str:
        return self.command(
            account, commands.SubmitOrder, book_id=book, instrument_id=SYMBOL, side=Side.BUY, epoch=epoch,
            order_type=OrderType.LIMIT if price else OrderType.MARKET,
            time_in_force=TimeInForce.GTC if price else TimeInForce.IOC, post_only=False, quantity=Decimal(quantity),
            limit_price=Decimal(price) if price else None, code_version="", rule="test",
        )  # fmt: skip

    def control(self, event: Event) -> None:
        self.publish(CONTROL.name, "platform", event, self.meta(""))

    def meta(self, account: str, **changes: Any) -> Meta:
        identity, now = derive_id("test", uuid.uuid4().hex), time.time_ns()
        fields: dict[str, Any] = {
            "event_id": identity, "tenant_id": TenantId("main"), "account_id": AccountId(account),
            "principal_id": PrincipalId("test"), "correlation_id": identity, "causation_id": identity, "cause_at": "",
            "ts_event": now, "ts_init": now,
        }  # fmt: skip
        return Meta(**fields | changes)

    def control_events(self) -> list[Record[Any]]:
        return list(records_until_end(self.settings, self.codec, [CONTROL]))

    def events(self) -> list[Record[Any]]:
        return list(records_until_end(self.settings, self.codec, [ACCOUNT_EVENTS]))


@pytest.fixture
def trader(kafka: str, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Trader:
    settings = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "account_partitions": 2, "market_partitions": 1},
        registry={"url": registry_url},
        data=tmp_path_factory.mktemp("deep"),
        desk={"snapshot_every": 8},
        risk={"reference_max_age_ms": 600_000, "collar_bps": 150},
    )  # fmt: skip
    topics_admin.apply(settings)
    found = Trader(settings, registered_codec(settings))
    found.quote()
    return found


def work(desk: Desk, count: int) -> None:
    deadline, done = time.monotonic() + DEADLINE_S, 0
    while done < count:
        assert time.monotonic() < deadline, f"{done} of {count} inputs done"
        done += desk.step()


def deep(settings: Settings, seed: str, zone: str) -> Any:
    environment = os.environ | {
        "SKEET_DATA": str(settings.data),
        "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": "2",
        "SKEET_KAFKA__MARKET_PARTITIONS": "1",
        "SKEET_REGISTRY__URL": settings.registry.url,
        "PYTHONHASHSEED": seed,
        "TZ": zone,
    }
    done = subprocess.run([sys.executable, "-c", DEEP], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def first_desk(trader: Trader) -> None:
    """Two accounts trade; some orders are refused; the desk leaves snapshots."""
    desk = Desk(trader.settings, trader.codec)
    desk.start()
    for account in ("alice", "bob"):
        trader.command(account, commands.OpenAccount, venue="sim", label=account)
        trader.command(account, commands.Deposit, asset="USDT", amount=Decimal(10_000), external_ref=account)
    orders = [trader.order(account, price=price) for account in ("alice", "bob") for price in ("99", "98", None, "400")]
    work(desk, 12)
    trader.command("alice", commands.CancelOrder, order_id=orders[0], book_id="manual", code_version="", rule="")
    trader.order("bob", quantity="99999")
    work(desk, 2)
    desk.close()


def second_desk(trader: Trader) -> None:
    """From the snapshots: more orders, a zombie of an instance that was started again, a kill switch, a session's end."""
    desk = Desk(trader.settings, trader.codec)
    desk.start()
    for account in ("alice", "bob"):
        for _ in range(6):
            trader.order(account, quantity="0.2")
    work(desk, 12)
    assert_zombie_is_refused(trader, desk)
    trader.control(control.KillSwitchSet(scope="tenant:main", active=True, cancel_open=True, reason="drill"))
    trader.control(control.SessionMark(label="end"))
    step_until(
        desk,
        lambda: sum(isinstance(e, StateMarked) and e.reason == "session mark end" for e in bodies(trader)) == 2,
        "marks of the session's end in both partitions",
    )
    desk.close()


def assert_zombie_is_refused(trader: Trader, desk: Desk) -> None:
    for _ in range(2):
        trader.control(
            control.StrategyStarted(
                instance_id="alpha", strategy="x", instrument_id=SYMBOL, parameters="{}", code_version=""
            )
        )
    starts = [r.at.offset for r in trader.control_events() if isinstance(r.event, control.StrategyStarted)]
    step_until(
        desk,
        lambda: sum(getattr(event, "control_offset", -1) >= starts[-1] for event in bodies(trader)) == 2,
        "the second start applied by both partitions",
    )
    zombie, owner = (trader.order("alice", book="alpha", epoch=start) for start in starts)
    work(desk, 2)
    outcome: dict[str, Any] = {r.meta.causation_id: r.event for r in trader.events() if r.meta}
    assert [breach.control for breach in outcome[zombie].breaches] == ["epoch"]
    assert type(outcome[owner]).__name__ == "OrderAuthorized"


def bodies(trader: Trader) -> list[Any]:
    return [record.event for record in trader.events()]


def step_until(desk: Desk, condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"not in time: {what}"
        desk.step()


def forge_a_deposit(trader: Trader) -> str:
    """A writer that is not the desk; returns where its event stands."""
    alice = [r.meta for r in trader.events() if r.meta and r.meta.account_id == "alice"]
    version, partition = alice[-1].stream_version + 1, partition_of(b"alice", 2)
    forged = trader.meta(
        "alice",
        event_id=account_event_id(AccountId("alice"), version),
        cause_at=f"orders.commands.v1/{partition}/0",
        stream_version=version,
    )
    money = FundsDeposited(asset="USDT", amount=Decimal(1), external_ref="forged", postings=())
    trader.publish(ACCOUNT_EVENTS.name, "alice", money, forged, partition)
    return str(max(r.at for r in trader.events() if r.at.partition == partition))


def test_deep_verify_agrees_with_two_desks_in_any_process_and_names_a_forged_deposit(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_books, "MARK_EVERY", 10)
    first_desk(trader)
    second_desk(trader)
    marks = [event for event in bodies(trader) if isinstance(event, StateMarked)]
    assert any(mark.reason == "events" for mark in marks)

    found = deep(trader.settings, seed="1", zone="Asia/Tokyo")
    assert (found["exit_code"], found["first"]) == (0, "")
    assert found["compared"]["F"]["marks"] == len(marks)
    assert found["compared"]["F"]["snapshots"] >= 4
    assert found["compared"]["D"]["decided events"] > 30
    assert found["compared"]["A"]["inputs"] > 25
    assert deep(trader.settings, seed="42", zone="America/New_York")["hashes"] == found["hashes"]

    at = forge_a_deposit(trader)
    tampered = deep(trader.settings, seed="3", zone="UTC")
    assert tampered["exit_code"] == 1
    assert at in tampered["first"]
    assert "FundsDeposited" in tampered["first"]
    assert tampered["hashes"] != found["hashes"]


def test_deep_verify_names_a_command_that_the_desk_passed_over(trader: Trader) -> None:
    first_desk(trader)
    group = group_name(trader.settings, GROUP)
    trader.order("alice")
    commands_of_alice = [
        r
        for r in records_until_end(trader.settings, trader.codec, [COMMANDS])
        if r.meta and r.meta.account_id == "alice"
    ]
    passed = max(record.at for record in commands_of_alice)
    place = TopicPartition(topic_name(COMMANDS, trader.settings.kafka), passed.partition, passed.offset + 1)
    client = admin(trader.settings)  # held until the answers are here

    def moved() -> bool:
        asked = client.alter_consumer_group_offsets([ConsumerGroupTopicPartitions(group, [place])])
        return all(found.error is None for found in asked[group].result(20).topic_partitions)

    eventually(moved, DEADLINE_S, "the group lets go of the desk that closed")
    found = deep(trader.settings, seed="1", zone="UTC")
    assert found["exit_code"] == 1
    assert found["first"].startswith(f"A {passed}: the desk has read this SubmitOrder of alice")
