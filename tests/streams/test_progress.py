"""Positions of groups, asked for from outside."""

from __future__ import annotations

from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.streams import progress
from skeet.streams.kafka import consumer, group_name
from skeet.streams.progress import committed_positions
from skeet.streams.topics import MARKET_TRADES, topic_name


@pytest.mark.integration
def test_committed_positions_are_told_and_the_group_is_not_joined(applied_settings: Settings) -> None:
    topic = topic_name(MARKET_TRADES, applied_settings.kafka)
    member = consumer(applied_settings, "member", group_id=group_name(applied_settings, "worker"))
    member.commit(offsets=[TopicPartition(topic, 1, 7)], asynchronous=False)  # refused while another is a member
    assert committed_positions(applied_settings, "worker") == {(topic, 1): 7}
    member.commit(offsets=[TopicPartition(topic, 1, 8)], asynchronous=False)
    assert committed_positions(applied_settings, "worker") == {(topic, 1): 8}
    assert committed_positions(applied_settings, "nobody") == {}
    member.close()


class Coordinatorless:
    """A client whose broker knows no coordinator for the first answers."""

    def __init__(self, answers_after: int) -> None:
        self._left = answers_after

    topics: ClassVar[dict[str, object]] = {}

    def list_topics(self, timeout: float) -> Coordinatorless:
        return self

    def committed(self, places: list[TopicPartition], timeout: float) -> list[TopicPartition]:
        self._left -= 1
        if self._left >= 0:
            raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))
        return [TopicPartition("t", 0, 5)]

    def close(self) -> None:
        pass


def test_a_broker_that_looks_for_the_coordinator_is_asked_again_with_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    monkeypatch.setattr(progress, "POLL_INTERVAL_S", 0.0)
    monkeypatch.setattr(progress, "consumer", lambda *_, **__: Coordinatorless(answers_after=2))
    assert committed_positions(settings, "desk") == {("t", 0): 5}
    monkeypatch.setattr(progress, "REQUEST_TIMEOUT_S", 0.0)
    with pytest.raises(InfrastructureError, match=r"desk.*coordinator"):
        committed_positions(settings, "desk")
