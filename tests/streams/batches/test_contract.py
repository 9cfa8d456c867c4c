"""What the batch transport relies on in faust-streaming and aiokafka. Run first after an upgrade of either."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from faust._cython.streams import StreamIterator
from faust.transport.consumer import Consumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.types.tuples import TP, ConsumerMessage, Message

from skeet.core.errors import InfrastructureError
from skeet.streams.batches import contract
from skeet.streams.batches.contract import PRIVATE_NAMES, require_known_versions
from skeet.streams.batches.fetching import RawRecords, keep_bytes


def test_the_installed_versions_are_known() -> None:
    require_known_versions()


@pytest.mark.parametrize(("module", "path"), PRIVATE_NAMES)
def test_every_private_name_is_there(module: str, path: str) -> None:
    assert contract._exists(module, path)


def test_another_version_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        contract, "version", lambda name: "9.9" if name == "aiokafka" else contract.KNOWN_VERSIONS[name][0]
    )
    with pytest.raises(InfrastructureError, match=r"aiokafka is 9\.9; expected 0\.14\.0"):
        require_known_versions()


def test_a_private_name_that_is_gone_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(fetcher, "MemoryRecords")
    with pytest.raises(InfrastructureError, match=r"aiokafka\.consumer\.fetcher\.MemoryRecords is gone"):
        require_known_versions()


def test_the_fetcher_keeps_a_partitions_part_where_we_take_it() -> None:
    held = fetcher.PartitionRecords(TopicPartition("t", 0), RawRecords(b"\0" * 70), [(7, 3)], 5, None, None, True, 1)
    assert (held._records.raw, held._aborted_transactions, held.next_fetch_offset) == (b"\0" * 70, [(7, 3)], 5)
    result = fetcher.FetchResult(TopicPartition("t", 0), assignment=None, partition_records=held, backoff=0)
    assert result._partition_records is held
    assert result.has_more()


def test_other_consumers_of_the_process_read_as_before() -> None:
    keep_bytes()
    assert fetcher.MemoryRecords is RawRecords
    for raw in (b"", b"\0" * 10):
        ours, theirs = RawRecords(raw), MemoryRecords(raw)
        assert (ours.has_next(), ours.size_in_bytes()) == (theirs.has_next(), theirs.size_in_bytes())


def test_the_fetcher_and_the_consumer_have_what_we_look_at() -> None:
    source = inspect.getsource(fetcher.Fetcher)
    for name in ("_records", "_wait_consume_future", "_subscriptions", "_closed", "_fetch_waiters"):
        assert f"self.{name} = " in source
    made = inspect.getsource(AIOKafkaConsumer)
    for name in ("_isolation_level", "_fetch_max_wait_ms", "_fetcher", "_closed"):
        assert f"self.{name} = " in made
    # What is set after construction counts, because the fetcher is made at the start.
    assert "isolation_level=self._isolation_level" in inspect.getsource(AIOKafkaConsumer.start)
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in inspect.getsource(AIOKafkaConsumer.start)


@pytest.mark.parametrize(
    ("function", "parameters"),
    [
        (Consumer._drain_messages, ["self", "fetcher"]),
        (Consumer._new_offset, ["self", "tp"]),
        (Consumer._should_commit, ["self", "tp", "offset"]),
        (Consumer._add_gap, ["self", "tp", "offset_from", "offset_to"]),
        (Consumer._filter_tps_with_pending_acks, ["self", "topics"]),
        (Consumer._commit_offsets, ["self", "offsets", "start_new_transaction"]),
        (Consumer.force_commit, ["self", "topics", "start_new_transaction"]),
        (Consumer.seek, ["self", "partition", "offset"]),
        (AIOKafkaConsumerThread._create_worker_consumer, ["self", "transport"]),
        (
            AIOKafkaConsumerThread._fetch_records,
            ["self", "consumer", "active_partitions", "timeout", "max_records"],
        ),
    ],
)
def test_what_we_override_has_the_parameters_that_we_take(function: Any, parameters: list[str]) -> None:
    assert list(inspect.signature(function).parameters) == parameters


def test_messages_are_acknowledged_by_their_attribute() -> None:
    """The compiled stream calls no method of the message, so ours hears of it by a property; that needs a class with a
    dictionary over slots."""
    message = ConsumerMessage("t", 0, 1, 0.0, 0, None, None, b"", None, tp=TP("t", 0))
    assert (message.acked, message.tracked, message.generation_id) == (False, False, None)
    assert {"acked", "tracked", "generation_id", "refcount"} <= set(Message.__slots__)
    assert hasattr(message, "__dict__")
    assert hasattr(StreamIterator, "after")
