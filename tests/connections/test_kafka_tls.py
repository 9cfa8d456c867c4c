"""Kafka clients over TLS: with the right files all of them work, with wrong ones each says which setting is wrong."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path

import aiokafka
import pytest
from certificates import Authority
from confluent_kafka.admin import NewTopic
from pydantic import SecretStr
from tls_kafka import PASSWORD, Listeners, encrypted, login

from skeet.config import KafkaSettings, RegistrySettings, Settings
from skeet.connections.kafka import aiokafka_options, connection_environment
from skeet.core.errors import CredentialError
from skeet.local.sampler import Sampler
from skeet.local.server import ChildServer
from skeet.streams import topics_admin
from skeet.streams.kafka import admin, consumer, producer
from skeet.verify.log import Log

pytestmark = pytest.mark.integration


def settings_of(kafka: KafkaSettings, data: Path) -> Settings:
    return Settings(kafka=kafka.model_dump(), registry={"url": "http://127.0.0.1:1"}, data=data)


@pytest.fixture(params=["ssl", "mutual", "sasl"])
def reachable(request: pytest.FixtureRequest, tls_kafka: Listeners, authority: Authority) -> KafkaSettings:
    match request.param:
        case "ssl":
            return encrypted(tls_kafka.ssl, authority.ca)
        case "mutual":
            certificate, key = authority.issue("client")
            return encrypted(tls_kafka.mutual, authority.ca, ssl_certificate=certificate, ssl_key=key)
        case _:
            return login(tls_kafka.sasl, authority.ca)


async def test_every_client_works_over_tls(reachable: KafkaSettings, tmp_path: Path) -> None:
    settings = settings_of(reachable, tmp_path)
    topic = f"{reachable.topic_prefix}{uuid.uuid4().hex[:8]}"
    operator = admin(settings)
    operator.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    writer = producer(settings, "writer")
    writer.produce(topic, b"x")
    assert writer.flush(20) == 0
    reader = consumer(settings, "reader", group_id=topic)
    reader.subscribe([topic])
    message = await asyncio.to_thread(reader.poll, 20)
    assert message is not None and message.value() == b"x"
    reader.commit(message, asynchronous=False)
    reader.close()
    async with aiokafka.AIOKafkaConsumer(
        topic, bootstrap_servers=reachable.bootstrap, auto_offset_reset="earliest", **aiokafka_options(reachable)
    ) as faust_reader:
        received = await asyncio.wait_for(faust_reader.getone(), 20)
        assert received.value == b"x"
    sampler = Sampler(reachable)
    try:
        assert sampler.sample(topic).committed == {(topic, 0): 1}
    finally:
        sampler.close()
    log = Log(settings)
    assert log.ranges([(topic.removeprefix(reachable.topic_prefix), 0)]) == {(topic.removeprefix("tls."), 0): (0, 1)}


def test_a_faust_worker_logs_in_over_tls(
    tls_kafka: Listeners, authority: Authority, registry_url: str, tmp_path: Path
) -> None:
    kafka = login(tls_kafka.sasl, authority.ca)
    kafka = kafka.model_copy(update={"account_partitions": 2, "market_partitions": 2})
    topics_admin.apply(Settings(kafka=kafka.model_dump(), registry={"url": registry_url}, data=tmp_path))
    environment = connection_environment(kafka, RegistrySettings()) | {
        "SKEET_DATA": str(tmp_path),
        "SKEET_REGISTRY__URL": registry_url,
        "SKEET_KAFKA__BOOTSTRAP": kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": kafka.topic_prefix,
        "SKEET_KAFKA__ACCOUNT_PARTITIONS": "2",
        "SKEET_KAFKA__MARKET_PARTITIONS": "2",
    }
    worker = ChildServer("skeet", ["run", "worker"], tmp_path / "worker", environment)
    try:
        worker.start()  # ready: it was assigned its partitions
    finally:
        worker.stop()
    assert PASSWORD not in (tmp_path / "worker" / "output.log").read_text()


def refusal(kafka: KafkaSettings, data: Path) -> str:
    """What each way in says; the same everywhere."""
    settings = settings_of(kafka, data)
    ways_in: tuple[Callable[[], object], ...] = (
        lambda: producer(settings, "x"),
        lambda: consumer(settings, "x"),
        lambda: admin(settings),
    )
    for make in ways_in:
        with pytest.raises(CredentialError) as refused:
            make()
    with pytest.raises(CredentialError) as at_verify:
        Log(settings)
    assert str(at_verify.value).split("(")[0] == str(refused.value).split("(")[0]
    return str(refused.value)


def test_a_wrong_authority_is_named(tls_kafka: Listeners, stranger: Authority, tmp_path: Path) -> None:
    assert "SKEET_KAFKA__SSL_CA" in refusal(encrypted(tls_kafka.ssl, stranger.ca), tmp_path)


def test_a_missing_client_certificate_is_named(tls_kafka: Listeners, authority: Authority, tmp_path: Path) -> None:
    assert "SKEET_KAFKA__SSL_CERTIFICATE" in refusal(encrypted(tls_kafka.mutual, authority.ca), tmp_path)


def test_a_wrong_password_is_named_and_not_shown(tls_kafka: Listeners, authority: Authority, tmp_path: Path) -> None:
    said = refusal(login(tls_kafka.sasl, authority.ca, password="not-the-password"), tmp_path)
    assert "SKEET_KAFKA__SASL_PASSWORD" in said
    assert "not-the-password" not in said and PASSWORD not in said


def test_a_missing_file_is_named(tls_kafka: Listeners, tmp_path: Path) -> None:
    said = refusal(encrypted(tls_kafka.ssl, tmp_path / "nowhere.pem"), tmp_path)
    assert "SKEET_KAFKA__SSL_CA" in said and "nowhere.pem" in said


def test_an_address_without_tls_is_named(kafka: str, authority: Authority, tmp_path: Path) -> None:
    with pytest.raises(CredentialError, match="SKEET_KAFKA__SECURITY_PROTOCOL"):
        producer(settings_of(encrypted(kafka, authority.ca), tmp_path), "x")


def test_secrets_are_not_in_the_settings_text(tls_kafka: Listeners, authority: Authority) -> None:
    settings = login(tls_kafka.sasl, authority.ca)
    assert isinstance(settings.sasl_password, SecretStr)
    assert PASSWORD not in repr(settings)
