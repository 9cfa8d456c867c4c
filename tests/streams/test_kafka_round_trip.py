"""Topics, genesis, publishing and reading, on a real broker and registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from skeet.config import Settings
from skeet.core.control import Genesis, SessionMark
from skeet.core.errors import InvalidInput
from skeet.core.market import Quote, Tick
from skeet.core.record import Meta, Out
from skeet.schemas.golden import sample
from skeet.streams import topics_admin
from skeet.streams.kafka import consumer, producer
from skeet.streams.partitioner import partition_of
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import CLOCK, COMMANDS, CONTROL, MARKET_QUOTES, TOPICS, topic_name

pytestmark = pytest.mark.integration

NewSettings = Callable[..., Settings]


def test_apply_creates_everything_once(fresh_settings: NewSettings) -> None:
    settings = fresh_settings()
    assert {d.remedy for d in topics_admin.plan(settings)} == {"create"}
    topics_admin.apply(settings)
    assert topics_admin.plan(settings) == []
    assert topics_admin.apply(settings) == []


def test_genesis_is_the_first_control_event_and_other_counts_are_refused(fresh_settings: NewSettings) -> None:
    settings = fresh_settings()
    topics_admin.apply(settings)
    codec = registered_codec(settings)
    first = next(records_until_end(settings, codec, [CONTROL]))
    assert first.at.offset == 0
    assert first.event == Genesis(account_partitions=2, market_partitions=2, partitioner="murmur2")

    kafka = settings.kafka.model_copy(update={"market_partitions": 3})
    with pytest.raises(InvalidInput, match="fixed at genesis"):
        topics_admin.apply(settings.model_copy(update={"kafka": kafka}))
    with pytest.raises(InvalidInput, match="this installation began with"):
        topics_admin.ensure_genesis(settings.model_copy(update={"kafka": kafka}), codec)


def test_what_is_published_is_read_with_its_place_and_the_logs_time(applied_settings: Settings) -> None:
    codec = registered_codec(applied_settings)
    publisher = Publisher(applied_settings, codec, producer(applied_settings, "test"))
    ticks = [Tick(ts_event=n) for n in range(500)]
    publisher.send(Out(topic=CLOCK.name, key="", event=tick) for tick in ticks)
    publisher.flush()
    records = list(records_until_end(applied_settings, codec, [CLOCK]))
    assert [record.event for record in records] == ticks
    assert [record.at.offset for record in records] == list(range(500))
    assert all(record.log_ns > 1_700_000_000 * 10**9 for record in records)


def test_a_key_goes_to_the_partition_that_every_other_client_gives_it(applied_settings: Settings) -> None:
    codec = registered_codec(applied_settings)
    client = producer(applied_settings, "test")
    publisher = Publisher(applied_settings, codec, client)
    keys = [f"SIM:{n}/USDT" for n in range(40)]
    quote = replace(sample(Quote), price_scale=2, size_scale=5)
    publisher.send(Out(topic=MARKET_QUOTES.name, key=key, event=replace(quote, instrument_id=key)) for key in keys)
    publisher.flush()
    found = {r.event.instrument_id: r.at.partition for r in records_until_end(applied_settings, codec, [MARKET_QUOTES])}
    assert found == {key: partition_of(key.encode(), applied_settings.kafka.market_partitions) for key in keys}


def test_aborted_records_are_not_read(applied_settings: Settings) -> None:
    codec = registered_codec(applied_settings)
    client = producer(applied_settings, "test", transactional_id=f"{applied_settings.kafka.topic_prefix}t")
    client.init_transactions(20)
    name, meta = topic_name(CONTROL, applied_settings.kafka), sample(Meta)
    for label, ends_well in (("kept", True), ("aborted", False), ("kept too", True)):
        client.begin_transaction()
        client.produce(name, codec.encode(SessionMark(label=label), meta), key=b"k")
        client.flush(10)
        client.commit_transaction(20) if ends_well else client.abort_transaction(20)
    labels = [
        r.event.label for r in records_until_end(applied_settings, codec, [CONTROL]) if isinstance(r.event, SessionMark)
    ]
    assert labels == ["kept", "kept too"]


def test_reading_empty_topics_ends_at_once(applied_settings: Settings) -> None:
    assert list(records_until_end(applied_settings, registered_codec(applied_settings), [COMMANDS, CLOCK])) == []


def test_log_append_time_is_set_on_every_topic(applied_settings: Settings) -> None:
    client = consumer(applied_settings, "test")
    present = client.list_topics(timeout=10).topics
    client.close()
    assert {topic_name(topic, applied_settings.kafka) for topic in TOPICS} <= set(present)
    assert topics_admin.plan(applied_settings) == []
