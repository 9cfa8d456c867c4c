"""A broker in a directory: what was acknowledged survives kill -9; a busy port is named and left alone."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.core.errors import InfrastructureError
from skeet.local import jars
from skeet.local.jars import ClassArchive
from skeet.local.kafka import KafkaBroker


@pytest.mark.integration
def test_acknowledged_record_survives_kill_of_the_broker(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("kept", 1, 1)])["kept"].result(10)
        producer = Producer({"bootstrap.servers": broker.bootstrap, "acks": "all"})
        producer.produce("kept", b"value")
        assert producer.flush(10) == 0
        broker.kill()
        broker.start()
        consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "reader"})
        consumer.assign([TopicPartition("kept", 0, 0)])
        message = consumer.poll(10)
        assert message is not None and message.value() == b"value"
        consumer.close()
    finally:
        broker.stop()


def test_busy_port_names_its_holder_and_kills_nothing(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        with pytest.raises(InfrastructureError, match=r"port \d+ of Kafka is in use by pid \d+"):
            KafkaBroker(tmp_path / "kafka", port=squatter.getsockname()[1]).start()


def test_changed_jar_is_named_and_refused(tmp_path: Path) -> None:
    for name in jars.expected_hashes():
        (tmp_path / name).write_bytes(b"not a jar")
    with pytest.raises(InfrastructureError, match=r"HdrHistogram-2\.2\.2\.jar .* has SHA-256 .* expected"):
        jars.verify(tmp_path)


def test_unknown_jar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "aaa.jar").write_bytes(b"smuggled")
    with pytest.raises(InfrastructureError, match=r"aaa\.jar .* is not a jar of Kafka"):
        jars.verify(tmp_path)


def test_class_archive_is_made_and_used_in_the_javas_own_way(tmp_path: Path) -> None:
    made = tmp_path / "classes.jsa"
    assert ClassArchive(made, 17).make(made) == f"-XX:ArchiveClassesAtExit={made}"
    assert ClassArchive(made, 25).make(made) == f"-XX:AOTCacheOutput={made}"
    assert ClassArchive(made, 17).use == []
    made.touch()
    assert ClassArchive(made, 17).use == [], "a training that yielded nothing"
    made.write_bytes(b"x")
    assert ClassArchive(made, 17).use == [f"-XX:SharedArchiveFile={made}"]
    assert ClassArchive(made, 25).use == [f"-XX:AOTCache={made}"]
