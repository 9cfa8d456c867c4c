"""Backup and restore between two real brokers: offsets, times, headers, holes, settings and positions come back."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import TopicPartition

from skeet.backup import cut
from skeet.backup.creating import create, delivered
from skeet.backup.cut import Place, places_of, positions_of, take_cut
from skeet.backup.layout import BackupDamaged, Manifest
from skeet.backup.restoring import restore
from skeet.backup.segments import Stored
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.local.kafka import KafkaBroker
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.streams import topics_admin
from skeet.streams.kafka import admin, consumer, producer
from skeet.streams.topics import COMMANDS, MARKET_TRADES, REPORTS, topic_name

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker whose registry topic and groups are this module's alone."""
    yield from _broker(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="module")
def registry_url(source: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A registry whose topic is on that broker."""
    port = free_port()
    words = ["--bootstrap", source.bootstrap, "--port", str(port)]
    server = ChildServer("skeet.local.registry", words, tmp_path_factory.mktemp("registry"))
    try:
        server.start()
        yield f"http://127.0.0.1:{port}"
    finally:
        server.stop()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[KafkaBroker]:
    """An empty broker."""
    yield from _broker(tmp_path / "target")


def _broker(home: Path) -> Iterator[KafkaBroker]:
    broker = KafkaBroker(home)
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()


def settings_of(broker: KafkaBroker, data: Path, registry_url: str = "") -> Settings:
    section = {"bootstrap": broker.bootstrap, "account_partitions": 2, "market_partitions": 2}
    return Settings(kafka=section, registry={"url": registry_url}, data=data)


@pytest.fixture(scope="module")
def filled(
    source: KafkaBroker, registry_url: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Settings, Path, Manifest]:
    """An installation with every kind of hole, and its backup."""
    data = tmp_path_factory.mktemp("data")
    settings = settings_of(source, data, registry_url)
    topics_admin.apply(settings)
    (data / "sim").mkdir()
    (data / "sim" / "accounts.jsonl").write_text("witness\n")
    _transactions(settings, topic_name(REPORTS, settings.kafka))
    _plain(settings, topic_name(MARKET_TRADES, settings.kafka), 5_000)
    _plain(settings, topic_name(COMMANDS, settings.kafka), 3)
    client = admin(settings)
    expired = TopicPartition(topic_name(MARKET_TRADES, settings.kafka), 0, 1_000)
    client.delete_records([expired])[expired].result(20)
    member = consumer(settings, "member", group_id="skeet.desk")
    member.commit(
        offsets=[TopicPartition(topic_name(COMMANDS, settings.kafka), 0, 2, metadata="a mark")], asynchronous=False
    )
    member.close()
    folder = tmp_path_factory.mktemp("backups") / "one"
    return settings, folder, create(settings, folder)


def _transactions(settings: Settings, topic: str) -> None:
    """Committed, aborted, lone markers, two writers' transactions that overlap: holes of 1, 2, 3 and more."""
    first = producer(settings, "first", transactional_id="first")
    second = producer(settings, "second", transactional_id="second")
    for client in (first, second):
        client.init_transactions(20)
    for count, commits in ((1, False), (3, True), (1, True), (2, False), (4, True), (1, False)):
        first.begin_transaction()
        for number in range(count):
            first.produce(topic, f"{count}-{number}".encode(), key=b"k", partition=0, headers=[("n", b"%d" % number)])
        first.flush(20)
        first.commit_transaction(20) if commits else first.abort_transaction(20)
    for client in (first, second):
        client.begin_transaction()
        client.produce(topic, b"together", key=b"k", partition=0)
        client.flush(20)
    first.commit_transaction(20)
    second.abort_transaction(20)


def _plain(settings: Settings, topic: str, count: int) -> None:
    client = producer(settings, "plain")
    for number in range(count):
        client.produce(topic, b"%d" % number, key=None if number % 7 == 0 else b"key", partition=0)
    assert client.flush(20) == 0


def content(settings: Settings) -> dict[Place, list[Stored]]:
    ranges = take_cut(settings).ranges
    return {place: list(delivered(settings, place, *bounds)) for place, bounds in ranges.items()}


def test_everything_comes_back(filled: tuple[Settings, Path, Manifest], target: KafkaBroker, tmp_path: Path) -> None:
    settings, folder, manifest = filled
    there = settings_of(target, tmp_path / "restored")
    told: list[tuple[str, int, int]] = []
    assert restore(there, folder, lambda *progress: told.append(progress)) == manifest
    before, after = admin(settings), admin(there)
    places = places_of(before, settings)
    assert places_of(after, there) == places
    assert content(there) == content(settings)
    assert take_cut(there).ranges == take_cut(settings).ranges
    assert positions_of(after, there) == positions_of(before, settings)
    assert positions_of(after, there)[0].metadata == "a mark"
    assert take_cut(there).configs == take_cut(settings).configs
    assert (tmp_path / "restored" / "sim" / "accounts.jsonl").read_text() == "witness\n"
    assert told[-1] == ("restoring", told[-1][2], told[-1][2])
    # The next start of the platform finds all in place.
    assert topics_admin.plan(there) == []


def test_a_cut_waits_until_no_account_topic_moves(
    filled: tuple[Settings, Path, Manifest], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, _, _ = filled
    topic, client, look = topic_name(COMMANDS, settings.kafka), producer(settings, "trading"), cut.ends

    def trades_meanwhile(*arguments: Any) -> dict[Place, int]:
        client.produce(topic, b"x", partition=1)
        assert client.flush(20) == 0
        return look(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(cut, "QUIET_DEADLINE_S", 0.5)
        patch.setattr(cut, "ends", trades_meanwhile)
        with pytest.raises(InfrastructureError, match="traded without a pause"):
            take_cut(settings)
    assert take_cut(settings).ranges[topic, 1][1] > 0


def test_a_target_that_is_not_empty_is_refused(filled: tuple[Settings, Path, Manifest], tmp_path: Path) -> None:
    settings, folder, _ = filled
    with pytest.raises(InvalidInput, match=r"has topic _schemas|has topic skeet\."):
        restore(settings.model_copy(update={"data": tmp_path}), folder)
    with pytest.raises(InvalidInput, match="is not empty"):
        restore(settings, folder)


def test_another_partition_count_is_refused(
    filled: tuple[Settings, Path, Manifest], target: KafkaBroker, tmp_path: Path
) -> None:
    other = Settings(
        kafka={"bootstrap": target.bootstrap, "account_partitions": 4, "market_partitions": 2}, data=tmp_path
    )
    with pytest.raises(InvalidInput, match="SKEET_KAFKA__ACCOUNT_PARTITIONS is 4"):
        restore(other, filled[1])
    assert places_of(admin(other), other) == []


def test_a_damaged_backup_is_refused_before_anything_is_written(
    filled: tuple[Settings, Path, Manifest], target: KafkaBroker, tmp_path: Path
) -> None:
    folder = tmp_path / "damaged"
    shutil.copytree(filled[1], folder)
    bad = folder / next(filled[2].segments()).path
    bad.write_bytes(bad.read_bytes()[:-3])
    there = settings_of(target, tmp_path / "data")
    with pytest.raises(BackupDamaged, match=bad.name):
        restore(there, folder)
    assert places_of(admin(there), there) == []


def test_a_backup_is_never_changed_and_a_failed_one_leaves_no_folder(
    filled: tuple[Settings, Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, folder, _ = filled
    with pytest.raises(InvalidInput, match="exists"):
        create(settings, folder)

    def fails(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("skeet.backup.segments.os.fsync", fails)
    with pytest.raises(OSError, match="no space"):
        create(settings, tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
