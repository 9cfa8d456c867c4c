"""Intake and egress on a real broker: who may ask for what, what goes on, what comes back."""

from __future__ import annotations

import struct
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import ConfigResource, ResourceType
from installation import eventually

from skeet.agents.account_owners import AccountOwners
from skeet.agents.egress import Egress
from skeet.agents.forwarding import Forwarder
from skeet.agents.intake import Intake
from skeet.config import Settings
from skeet.core.accounts import AccountOpened
from skeet.core.commands import CancelOrder, Command, Deposit, SubmitOrder
from skeet.core.ids import outside_command_id
from skeet.core.outside import CommandForwarded, CommandRefused
from skeet.core.record import Meta, Out, Record
from skeet.core.values import AccountId, EventId, OrderType, PrincipalId, Side, TenantId, TimeInForce
from skeet.process import StopSignal
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import admin, consumer, producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.reading import Partition, end_offsets, partitions_of, records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.tenants import create_topics
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    COMMANDS,
    DEAD_LETTERS,
    TENANT_COMMANDS,
    TENANT_EVENTS,
    TENANT_TOPICS,
    of_tenant,
    topic_name,
)

pytestmark = pytest.mark.integration

DEADLINE_S = 30.0
TESTS = 13
"""Pairs of tenants made in advance: at least one per test."""


def meta(account: str, tenant: str, key: str = "", version: int = 0) -> Meta:
    identity = EventId(key or uuid.uuid4().hex)
    return Meta(
        event_id=identity,
        tenant_id=TenantId(tenant),
        account_id=AccountId(account),
        principal_id=PrincipalId("operator"),
        correlation_id=identity,
        causation_id=identity,
        cause_at="",
        ts_event=1,
        ts_init=1,
        stream_version=version,
    )


def order(quantity: str = "0.01") -> SubmitOrder:
    return SubmitOrder(
        ts_cause=1,
        valid_until=2,
        book_id="mine",
        instrument_id="SIM:BTC/USDT",
        side=Side.BUY,
        order_type=OrderType.MARKET,
        time_in_force=TimeInForce.IOC,
        post_only=False,
        quantity=Decimal(quantity),
        limit_price=None,
        code_version="",
        rule="",
    )


@dataclass
class House:
    """Two tenants of the test, each with an account of the same number, and the forwarders that all tests share."""

    settings: Settings
    codec: Codec
    intake: Forwarder
    egress: Forwarder
    owners: AccountOwners
    raw: Producer
    desk: Publisher
    number: int = 0

    @property
    def acme(self) -> str:
        return f"acme-{self.number}"

    @property
    def globex(self) -> str:
        return f"globex-{self.number}"

    @property
    def alpha(self) -> str:
        """The account of acme."""
        return f"alpha-{self.number}"

    @property
    def beta(self) -> str:
        """The account of globex."""
        return f"beta-{self.number}"

    def open(self, account: str, tenant: str) -> None:
        opened = AccountOpened(venue="sim", label=account)
        envelope = meta(account, tenant, version=1)
        self.desk.send([Out(topic=ACCOUNT_EVENTS.name, key=account, event=opened, meta=envelope)])
        self.desk.flush()

    def ask(self, tenant: str, account: str, command: Any, key: str, *, claims: str = "") -> None:
        """Write a command onto the tenant's topic, as its own process would."""
        value = self.codec.encode(command, meta(account, claims or tenant, key))
        self.write(tenant, value, account.encode())

    def write(self, tenant: str, value: bytes, key: bytes, partition: int | None = None) -> None:
        extra = {} if partition is None else {"partition": partition}
        name = topic_name(of_tenant(TENANT_COMMANDS, tenant), self.settings.kafka)
        self.raw.produce(name, value, key=key, **extra)
        assert self.raw.flush(10) == 0

    def forward(self, count: int, which: str = "intake") -> None:
        """Step until that many more records were taken, and what came of them can be read."""
        self.take(count, which)
        self.settle()

    def take(self, count: int, which: str) -> None:
        """Step until that many more records were taken."""
        forwarder: Forwarder = getattr(self, which)
        deadline = time.monotonic() + DEADLINE_S
        while count > 0:
            assert time.monotonic() < deadline, f"{which}: {count} records are not taken"
            taken = forwarder.step()
            count -= taken
        assert count == 0, f"{which}: {-count} records too many"

    def settle(self) -> None:
        """Wait for the markers of what was forwarded: a commit is acknowledged a moment before they let readers past."""
        tenants = (of_tenant(TENANT_EVENTS, tenant) for tenant in (self.acme, self.globex))
        places = partitions_of(self.settings, [COMMANDS, DEAD_LETTERS, *tenants])

        def ends(isolation: str) -> dict[Partition, int]:
            client = consumer(self.settings, "ends", isolation_level=isolation)
            try:
                return end_offsets(client, places)
            finally:
                client.close()

        eventually(
            lambda: ends("read_committed") == ends("read_uncommitted"), DEADLINE_S, "markers of what was forwarded"
        )

    def commands(self) -> list[Record[Command]]:
        """What was forwarded of this test's tenants."""
        records = records_until_end(self.settings, self.codec, [COMMANDS])
        return [record for record in records if record.meta and record.meta.tenant_id in (self.acme, self.globex)]

    def told(self, tenant: str) -> list[Any]:
        """What intake told the tenant."""
        records = records_until_end(self.settings, self.codec, [of_tenant(TENANT_EVENTS, tenant)])
        return [record.event for record in records if not isinstance(record.event, AccountOpened)]


@pytest.fixture(scope="module")
def shared(kafka: str, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    settings = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "account_partitions": 2, "market_partitions": 2},
        registry={"url": registry_url},
        data=tmp_path_factory.mktemp("outsiders"),
    )  # fmt: skip
    topics_admin.apply(settings)
    codec, client = registered_codec(settings), admin(settings)
    owners = AccountOwners(settings, codec, "owners")
    owners.start()
    made = House(
        settings=settings,
        codec=codec,
        intake=Forwarder(settings, codec, "intake", TENANT_COMMANDS, Intake(settings, codec, owners).outs_of),
        egress=Forwarder(settings, codec, "egress", ACCOUNT_EVENTS, Egress(settings, codec).outs_of),
        owners=owners,
        raw=producer(settings, "tenant"),
        desk=Publisher(settings, codec, producer(settings, "desk-of-the-test")),
    )
    # All at once and before intake subscribes: a new topic is noticed after two seconds only, which one test is about.
    for number in range(1, TESTS + 1):
        for tenant, account in ((f"acme-{number}", f"alpha-{number}"), (f"globex-{number}", f"beta-{number}")):
            create_topics(settings, client, tenant)
            made.open(account, tenant)
    made.intake.start()
    made.egress.start()
    made.take(2 * TESTS, "egress")
    yield made
    made.intake.close()
    made.egress.close()
    owners.close()


@pytest.fixture
def house(shared: House) -> House:
    """The shared house with two tenants that no other test has used."""
    shared.number += 1
    shared.settle()
    return shared


def test_a_command_goes_on_under_an_envelope_of_ours_and_the_tenant_is_told_its_id(house: House) -> None:
    house.ask(house.acme, house.alpha, order(), "k1", claims=house.globex)
    house.forward(1)
    (forwarded,) = house.commands()
    command_id = outside_command_id(house.acme, f"t.{house.acme}", "k1")
    assert forwarded.event == order()
    assert forwarded.meta is not None
    assert (forwarded.meta.tenant_id, forwarded.meta.principal_id) == (house.acme, f"t.{house.acme}")
    assert forwarded.meta.event_id == command_id
    assert forwarded.meta.cause_at.startswith(f"t.{house.acme}.commands.v1/")
    (told,) = house.told(house.acme)
    assert (told.client_key, told.command_id, told.command) == ("k1", command_id, "SubmitOrder")
    assert house.told(house.globex) == []


def test_a_repeated_client_key_makes_the_same_id_for_the_desk_to_see(house: House) -> None:
    house.ask(house.acme, house.alpha, order(), "k1")
    house.ask(house.acme, house.alpha, order(), "k1")
    house.ask(house.globex, house.beta, order(), "k1")
    house.forward(3)
    ids = [record.event_id for record in house.commands()]
    assert len(ids) == 3
    assert len(set(ids)) == 2  # the other tenant's is another command


@pytest.mark.parametrize(
    "command",
    [order(), CancelOrder(ts_cause=1, valid_until=2, order_id="o", book_id="", code_version="", rule="")],
    ids=["order", "cancel"],
)
def test_a_second_tenant_cannot_touch_the_firsts_account(house: House, command: Command) -> None:
    house.ask(house.globex, house.alpha, command, "steal", claims=house.acme)
    house.ask(house.globex, "nobody", command, "guess")
    house.forward(2)
    assert house.commands() == []
    assert house.told(house.acme) == []
    refused = house.told(house.globex)
    assert {event.client_key for event in refused} == {"steal", "guess"}
    for event in refused:
        assert isinstance(event, CommandRefused)
        (breach,) = event.breaches
        assert (breach.control, breach.detail) == ("account", "the account is not open")


def test_an_account_opened_a_moment_ago_is_known(house: House) -> None:
    house.open("newest", house.acme)
    house.forward(1, "egress")
    house.ask(house.acme, "newest", order(), "k1")
    house.forward(1)
    assert [record.event_id for record in house.commands()] == [outside_command_id(house.acme, f"t.{house.acme}", "k1")]


def test_owners_are_followed_while_nobody_asks(house: House) -> None:
    while house.owners.follow():
        pass  # what other tests left
    house.open(f"{house.alpha}-a", house.acme)
    house.open(f"{house.alpha}-b", house.acme)
    followed, stop, deadline = 0, StopSignal(), time.monotonic() + DEADLINE_S

    def follow() -> None:
        nonlocal followed
        followed += house.owners.follow()
        if followed == 2 or time.monotonic() > deadline:
            stop.stop()

    house.intake.run(stop, between=follow)
    assert followed == 2
    house.forward(2, "egress")


def test_a_deposit_from_outside_is_refused(house: House) -> None:
    money = Deposit(ts_cause=1, valid_until=2, asset="USDT", amount=Decimal(10**9), external_ref="sim:1")
    house.ask(house.acme, house.alpha, money, "rich")
    house.forward(1)
    assert house.commands() == []
    assert [breach.control for event in house.told(house.acme) for breach in event.breaches] == ["command"]


def test_poison_is_a_dead_letter_and_an_answer_and_the_partition_goes_on(house: House) -> None:
    good = house.codec.encode(order(), meta(house.alpha, house.acme, "after"))
    poison = [
        b"",
        b"\x00",
        b"junk!",
        struct.pack(">bI", 0, 999_999) + b"x",
        good[:-3],
        good + b"x",
        good[:5] + b"\xff" * 64,
    ]
    home = partition_of(house.alpha.encode(), house.settings.kafka.account_partitions)
    for value in poison:
        house.write(house.acme, value, b"\xff\xfe", partition=home)
    house.write(house.acme, good, b"\xff\xfe", partition=home)  # a key that is no text
    house.write(house.acme, good, house.alpha.encode(), partition=1 - home)  # where its key does not belong
    house.write(house.acme, good, house.alpha.encode(), partition=home)
    house.forward(len(poison) + 3)
    letters = list(records_until_end(house.settings, house.codec, [DEAD_LETTERS]))
    assert [letter.event.value for letter in letters] == [*poison, good]
    assert {letter.event.topic for letter in letters} == {f"t.{house.acme}.commands.v1"}
    told = house.told(house.acme)
    assert sum(isinstance(event, CommandRefused) for event in told) == len(poison) + 2
    assert sum(isinstance(event, CommandForwarded) for event in told) == 1
    assert len(house.commands()) == 1


def test_a_tenants_topic_takes_no_large_record(house: House) -> None:
    name = topic_name(of_tenant(TENANT_COMMANDS, house.acme), house.settings.kafka)
    failed: list[Any] = []
    random = b"".join(uuid.uuid4().bytes for _ in range(6_000))  # does not compress
    house.raw.produce(name, random, key=b"k", on_delivery=lambda error, _: failed.append(error))
    house.raw.flush(10)
    assert "MSG_SIZE_TOO_LARGE" in failed[0].name()


def test_egress_copies_a_tenants_events_byte_for_byte_to_that_tenant_alone(house: House) -> None:
    for tenant, account in ((house.acme, house.alpha), (house.globex, house.beta)):
        (copy,) = records_until_end(house.settings, house.codec, [of_tenant(TENANT_EVENTS, tenant)])
        assert isinstance(copy.event, AccountOpened)
        assert copy.meta is not None
        assert (copy.meta.account_id, copy.meta.tenant_id, copy.meta.stream_version) == (account, tenant, 1)
        assert copy.at.partition == partition_of(account.encode(), house.settings.kafka.account_partitions)


def test_events_of_a_tenant_without_topics_go_nowhere_and_a_later_tenant_is_served(house: House) -> None:
    house.open("gamma", "initech")
    house.forward(1, "egress")
    create_topics(house.settings, admin(house.settings), "initech")
    house.open("delta", "initech")
    house.forward(1, "egress")

    def copied() -> list[str]:
        copies = records_until_end(house.settings, house.codec, [of_tenant(TENANT_EVENTS, "initech")])
        return [record.meta.account_id for record in copies if record.meta]

    # A commit is acknowledged a moment before its markers let readers past, longest in partitions that are new.
    assert eventually(copied, DEADLINE_S, "a copy") == ["delta"]
    house.ask("initech", "delta", order(), "k1")  # a topic that came after intake subscribed
    house.forward(1)
    told = eventually(lambda: house.told("initech"), DEADLINE_S, "an answer")
    assert [type(event) for event in told] == [CommandForwarded]


def test_after_a_crash_before_the_commit_the_command_is_forwarded_once(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.ask(house.acme, house.alpha, order(), "k1")
    outs_of: Callable[..., Any] = house.intake._outs_of
    with monkeypatch.context() as patched:
        patched.setattr(house.intake, "_outs_of", lambda messages: (outs_of(messages), 1 / 0)[0])
        deadline = time.monotonic() + DEADLINE_S
        with pytest.raises(ZeroDivisionError):
            while time.monotonic() < deadline:
                house.intake.step()
    outs = Intake(house.settings, house.codec, house.owners).outs_of
    house.intake = Forwarder(house.settings, house.codec, "intake", TENANT_COMMANDS, outs)  # abandoned, not closed
    house.intake.start()
    house.forward(1)
    assert house.intake.step(1.0) == 0
    assert len(house.commands()) == 1
    assert len(house.told(house.acme)) == 1


def test_apply_and_plan_cover_the_tenants_topics(house: House) -> None:
    assert topics_admin.plan(house.settings) == []
    name = topic_name(of_tenant(TENANT_TOPICS[0], house.acme), house.settings.kafka)
    resource = ConfigResource(ResourceType.TOPIC, name, set_config={"retention.ms": "1"})
    client = admin(house.settings)
    client.alter_configs([resource])[resource].result(10)
    assert {(found.topic, found.remedy) for found in topics_admin.plan(house.settings)} == {(name, "alter")}
    topics_admin.apply(house.settings)
    assert topics_admin.plan(house.settings) == []
