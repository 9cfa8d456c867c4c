"""A broker that asks for credentials: the whole matrix of principals, topics and operations is tried, and what is tried
equals the declared table. Then the forgeries by name."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    ConsumerGroupTopicPartitions,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, NewTopic
from installation import eventually

from skeet.config import Settings, load_settings
from skeet.connections.kafka import kafka_options
from skeet.core.errors import InvalidInput
from skeet.core.outside import principal_of
from skeet.local.installation import Installation
from skeet.local.kafka import KafkaBroker, answers
from skeet.local.kafka_security import BROKER, CONTROLLER, broker_security, secure
from skeet.local.plan import principal_of_process
from skeet.streams.access import ADMIN, PUBLIC, SERVICES, Operation, tenant_access
from skeet.streams.access_admin import apply_access, password, password_file
from skeet.streams.kafka import admin, consumer, group_name, producer
from skeet.streams.tenants import create_topics
from skeet.streams.topics import (
    ACCOUNT_EVENTS,
    MARKET_TRADES,
    REPORTS,
    TENANT_COMMANDS,
    TENANT_EVENTS,
    TOPICS,
    Topic,
    of_tenant,
    topic_name,
)
from skeet.wiring import ROLES

TENANTS = ("acme", "globex")
ALL_TOPICS = (*TOPICS, *(of_tenant(topic, tenant) for tenant in TENANTS for topic in (TENANT_COMMANDS, TENANT_EVENTS)))
TABLE = (*SERVICES, *(line for tenant in TENANTS for line in tenant_access(tenant)))
PRINCIPALS = tuple(dict.fromkeys(line.principal for line in TABLE))
DENIED = "TOPIC_AUTHORIZATION_FAILED"
DEADLINE_S = 20.0

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """The operator's settings of a secured broker with all topics, two tenants' included, and one record in each."""
    installation = Installation(tmp_path_factory.mktemp("secured"))
    installation.create()
    secure(installation)
    broker = KafkaBroker(installation.data / "kafka", security=broker_security(installation))
    try:
        settings = acting_as(ADMIN, broker.start(), installation.data)
        client: Any = admin(settings)
        new = [NewTopic(topic_name(topic, settings.kafka), 1, 1) for topic in TOPICS]
        for future in client.create_topics(new, operation_timeout=DEADLINE_S).values():
            future.result(DEADLINE_S)
        for tenant in TENANTS:
            create_topics(settings, client, tenant)
        apply_access(settings)
        seed = written(settings, Producer(kafka_options(settings.kafka)))
        assert set(seed.values()) == {""}
        yield settings
    finally:
        broker.stop()


def acting_as(principal: str, bootstrap: str, data: Path) -> Settings:
    """Settings of a process that is this principal: its password is found by its name."""
    return load_settings(
        data=data,
        kafka={
            "bootstrap": bootstrap,
            "account_partitions": 1,
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_username": principal,
        },
    )


def written(settings: Settings, client: Producer) -> dict[str, str]:
    """Write one record to every topic; what the broker said, empty where it took the record."""
    said: dict[str, str] = {}
    for topic in ALL_TOPICS:
        client.produce(
            topic_name(topic, settings.kafka),
            b"tried",
            partition=0,
            on_delivery=lambda error, _, name=topic.name: said.__setitem__(name, error.name() if error else ""),
        )
    assert client.flush(DEADLINE_S) == 0
    return said


def hidden(client: Any, names: dict[str, str]) -> dict[str, str]:
    """Topics that the principal may not even see are refused when their partitions are asked for; the client goes no further."""
    errors = {topic: client.list_topics(name, timeout=DEADLINE_S).topics[name].error for name, topic in names.items()}
    return {topic: error.name() for topic, error in errors.items() if error is not None}


def read(settings: Settings) -> dict[str, str]:
    """Read the first record of every topic; what the broker said, empty where it was delivered."""
    client = consumer(settings, "tried")
    names = {topic_name(topic, settings.kafka): topic.name for topic in ALL_TOPICS}
    try:
        said = hidden(client, names)
        client.assign([TopicPartition(name, 0, OFFSET_BEGINNING) for name, topic in names.items() if topic not in said])
        deadline = time.monotonic() + DEADLINE_S
        while len(said) < len(names):
            assert time.monotonic() < deadline, f"no answer for {set(names.values()) - set(said)}"
            for message in client.consume(500, 0.05):
                error = message.error()
                assert message.topic() in names, error  # a client that joins no group is told of none
                said[names[message.topic()]] = error.name() if error else ""
    finally:
        client.close()
    return said


def expired(who: Settings) -> dict[str, str]:
    """What the broker says to letting nothing (everything before offset 0) of each topic go."""
    client = AdminClient(kafka_options(who.kafka))
    names = {topic_name(topic, who.kafka): topic.name for topic in ALL_TOPICS}
    said = hidden(client, names)
    places = [TopicPartition(name, 0, 0) for name, topic in names.items() if topic not in said]
    asked = client.delete_records(places, request_timeout=DEADLINE_S) if places else {}
    for place, future in asked.items():
        try:
            future.result(timeout=DEADLINE_S)
            said[names[place.topic]] = ""
        except KafkaException as error:
            said[names[place.topic]] = error.args[0].name()
    return said


def allowed(principal: str, operation: Operation, topic: Topic) -> bool:
    return any(line.allows(operation, topic) for line in TABLE if line.principal == principal)


@pytest.mark.integration
@pytest.mark.parametrize("principal", PRINCIPALS)
def test_the_broker_allows_what_the_table_says_and_nothing_else(secured: Settings, principal: str) -> None:
    who = acting_as(principal, secured.kafka.bootstrap, secured.data)
    tried = {
        Operation.WRITE: written(who, Producer(kafka_options(who.kafka))),
        Operation.READ: read(who),
        Operation.EXPIRE: expired(who),
    }
    for operation, said in tried.items():
        expected = {t.name: "" if allowed(principal, operation, t) else DENIED for t in ALL_TOPICS}
        assert said == expected, operation


@pytest.mark.integration
@pytest.mark.parametrize(
    "topic",
    [REPORTS, ACCOUNT_EVENTS, of_tenant(TENANT_COMMANDS, "globex"), of_tenant(TENANT_EVENTS, "acme"), MARKET_TRADES],
    ids=lambda topic: topic.name,
)
def test_a_tenant_cannot_forge(secured: Settings, topic: Topic) -> None:
    who = acting_as(principal_of("acme"), secured.kafka.bootstrap, secured.data)
    assert written(who, Producer(kafka_options(who.kafka)))[topic.name] == DENIED


@pytest.mark.integration
def test_a_tenant_cannot_read_another_ones_events_nor_join_another_ones_group(secured: Settings) -> None:
    who = acting_as(principal_of("globex"), secured.kafka.bootstrap, secured.data)
    assert read(who)[of_tenant(TENANT_EVENTS, "acme").name] == DENIED
    for group, denied in (("skeet.t.acme.bot", True), ("skeet.desk", True), ("skeet.t.globex.bot", False)):
        assert group_denied(who, group) is denied, group


@pytest.mark.integration
def test_a_tenant_cannot_fence_the_desk(secured: Settings) -> None:
    who = acting_as(principal_of("acme"), secured.kafka.bootstrap, secured.data)
    client = Producer({**kafka_options(who.kafka), "transactional.id": "skeet.desk-0"})
    with pytest.raises(KafkaException, match="TRANSACTIONAL_ID_AUTHORIZATION_FAILED"):
        client.init_transactions(DEADLINE_S)


@pytest.mark.integration
@pytest.mark.parametrize("principal", ["desk", "gateway", "intake", "egress", "t.acme"])
def test_a_principal_commits_its_transactions_with_its_groups_positions(secured: Settings, principal: str) -> None:
    who = acting_as(principal, secured.kafka.bootstrap, secured.data)
    own = f"{principal}.bot" if principal.startswith("t.") else principal
    topics = [topic for topic in ALL_TOPICS if allowed(principal, Operation.READ, topic)]
    out = next(topic for topic in ALL_TOPICS if allowed(principal, Operation.WRITE, topic))
    transactional_id = f"{own}-0" if own == principal else own
    client = producer(who, "tried", transactional_id=who.kafka.topic_prefix + transactional_id)
    client.init_transactions(DEADLINE_S)
    member = consumer(who, "tried", group_id=group_name(who, own))
    member.subscribe([topic_name(topics[0], who.kafka)])
    message = eventually(lambda: member.poll(0.2), DEADLINE_S, "a record")
    assert message.error() is None
    client.begin_transaction()
    client.produce(topic_name(out, who.kafka), b"tried")
    at = TopicPartition(message.topic(), message.partition(), message.offset() + 1)
    client.send_offsets_to_transaction([at], member.consumer_group_metadata(), DEADLINE_S)
    client.commit_transaction(DEADLINE_S)
    assert member.committed([at], DEADLINE_S)[0].offset == at.offset
    member.close()


@pytest.mark.integration
def test_a_wrong_password_and_no_password_get_no_answer(secured: Settings) -> None:
    connection = kafka_options(secured.kafka)
    assert answers(connection, DEADLINE_S)
    assert not answers(connection | {"sasl.password": "wrong"}, 2)
    assert not answers({"bootstrap.servers": secured.kafka.bootstrap}, 2)


@pytest.mark.integration
def test_passwords_are_in_files_of_their_owner_only_and_in_no_command_line_or_log(secured: Settings) -> None:
    principals = [ADMIN, BROKER, CONTROLLER, *PRINCIPALS]
    passwords = {password(secured, name) for name in principals}
    assert len(passwords) == len(principals)
    for name in principals:
        assert stat.S_IMODE(password_file(secured, name).stat().st_mode) == 0o600
    home = secured.data / "kafka"
    assert stat.S_IMODE((home / "server.properties").stat().st_mode) == 0o600
    assert not (home / "format.args").exists()
    children = psutil.Process().children(recursive=True)
    seen = (home / "broker.out").read_text() + str([process.cmdline() for process in children])
    assert "kafka.Kafka" in seen
    assert not [name for name in principals if password(secured, name) in seen]
    assert not [name for name in principals if password(secured, name) in repr(secured)]


def test_every_role_that_uses_kafka_has_a_line() -> None:
    without = {name for name in ROLES if not principal_of_process(name)}
    assert without == {"postgres", "clickhouse", "sim"}, "add a line to SERVICES in streams/access.py"


def test_no_principal_but_the_desk_writes_account_events_and_no_tenant_reads_them() -> None:
    assert [line.principal for line in TABLE if ACCOUNT_EVENTS in line.writes] == ["desk"]
    assert [line.principal for line in TABLE if REPORTS in line.writes] == ["gateway"]
    assert not {ACCOUNT_EVENTS, REPORTS} & set(PUBLIC)


def test_a_directory_of_a_broker_without_credentials_is_not_secured_later(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.create()
    (tmp_path / "kafka" / "logs").mkdir(parents=True)
    (tmp_path / "kafka" / "logs" / "meta.properties").touch()
    with pytest.raises(InvalidInput, match="without credentials"):
        secure(installation)
    assert not (installation.secrets / "kafka").exists()


def group_denied(who: Settings, group: str) -> bool:
    """Whether the broker refuses to show the principal this group's positions."""
    client = admin(who)
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(topic_name(MARKET_TRADES, who.kafka), 0)])
    try:
        client.list_consumer_group_offsets([asked])[group].result(DEADLINE_S)
    except KafkaException as error:
        assert error.args[0].name() == "GROUP_AUTHORIZATION_FAILED", error
        return True
    return False
