"""The transactional loop against a real broker: inputs' positions and outputs move together or not at all."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import ConsumerGroupState, Message
from installation import eventually

from skeet.config import Settings
from skeet.core.control import DeadLetter
from skeet.core.errors import InfrastructureError
from skeet.core.market import Tick
from skeet.core.record import Meta, Out
from skeet.core.values import AccountId, EventId, PrincipalId, TenantId
from skeet.schemas.codec import Codec
from skeet.streams import topics_admin
from skeet.streams.kafka import admin, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import CLOCK, DEAD_LETTERS
from skeet.streams.transactional import Inputs, TransactionAborted, Transactor

pytestmark = pytest.mark.integration

DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def settings(kafka: str, registry_url: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    found = Settings(
        kafka={"bootstrap": kafka, "topic_prefix": f"t{uuid.uuid4().hex[:8]}.", "account_partitions": 2, "market_partitions": 2},
        registry={"url": registry_url},
        data=tmp_path_factory.mktemp("transactional"),
    )  # fmt: skip
    topics_admin.apply(found)
    return found


@pytest.fixture(scope="module")
def codec(settings: Settings) -> Codec:
    return registered_codec(settings)


@pytest.fixture
def group() -> str:
    return f"g{uuid.uuid4().hex[:8]}"


@pytest.fixture
def inputs(settings: Settings, group: str) -> Iterator[Inputs]:
    member = Inputs(settings, [CLOCK], group, "member-0")
    yield member
    member.close()


def meta(number: int) -> Meta:
    identity = EventId(f"{number:032x}")
    return Meta(
        event_id=identity,
        tenant_id=TenantId("main"),
        account_id=AccountId(""),
        principal_id=PrincipalId("test"),
        correlation_id=identity,
        causation_id=identity,
        cause_at="",
        ts_event=number,
        ts_init=number,
    )


def letter(cause: str, number: int = 0) -> Out[DeadLetter]:
    event = DeadLetter(role="test", topic="clock.v1", partition=0, offset=number, key=b"", value=b"", cause=cause)
    return Out(topic=DEAD_LETTERS.name, key="clock.v1", event=event, meta=meta(number))


def publish_ticks(settings: Settings, codec: Codec, count: int) -> None:
    publisher = Publisher(settings, codec, producer(settings, "test"))
    publisher.send([Out(topic=CLOCK.name, key="clock", event=Tick(ts_event=n)) for n in range(count)])
    publisher.flush()


def letters(settings: Settings, codec: Codec, cause: str) -> int:
    return sum(record.event.cause == cause for record in records_until_end(settings, codec, [DEAD_LETTERS]))


def poll_until(inputs: Inputs, enough: Callable[[list[Message]], bool]) -> list[Message]:
    found: list[Message] = []
    deadline = time.monotonic() + DEADLINE_S
    while not enough(found):
        assert time.monotonic() < deadline, f"only {len(found)} records"
        found += inputs.poll(0.2)
    return found


def test_committed_outputs_and_positions_are_seen_together(
    settings: Settings, codec: Codec, inputs: Inputs, group: str
) -> None:
    publish_ticks(settings, codec, 3)
    transactor = Transactor(settings, codec, f"tx-{group}")
    transactor.open(warm=[DEAD_LETTERS])
    batch = poll_until(inputs, lambda found: len(found) >= 3)
    ends = transactor.commit([letter(group)], inputs, batch)
    assert letters(settings, codec, group) == 1
    assert list(ends) == [(settings.kafka.topic_prefix + DEAD_LETTERS.name, 0)]
    inputs.rewind()
    assert inputs.poll(1.0) == []


def test_aborted_commit_leaves_nothing_and_rewind_delivers_again(
    settings: Settings, codec: Codec, inputs: Inputs, group: str
) -> None:
    publish_ticks(settings, codec, 2)
    transactor = Transactor(settings, codec, f"tx-{group}")
    transactor.open()
    batch = poll_until(inputs, lambda found: len(found) >= 2)

    def fail() -> Iterator[Out[DeadLetter]]:
        yield letter(group)
        raise ValueError("thinking failed in the middle")

    with pytest.raises(ValueError, match="in the middle"):
        transactor.commit(fail(), inputs, batch)
    assert letters(settings, codec, group) == 0
    inputs.rewind()
    again = poll_until(inputs, lambda found: len(found) >= len(batch))
    assert [message.offset() for message in again] == [message.offset() for message in batch]


def test_older_producer_of_the_same_id_is_fenced(settings: Settings, codec: Codec, group: str) -> None:
    zombie = Transactor(settings, codec, f"tx-{group}")
    zombie.open()
    zombie.commit([letter(f"{group}-1")])
    successor = Transactor(settings, codec, f"tx-{group}")
    successor.open()
    with pytest.raises(InfrastructureError, match="must end"):
        zombie.commit([letter(f"{group}-zombie")])
    successor.commit([letter(f"{group}-2")])
    assert letters(settings, codec, f"{group}-zombie") == 0
    assert letters(settings, codec, f"{group}-2") == 1


def test_restarted_member_gets_its_partitions_back_at_once_and_is_told_first(
    settings: Settings, codec: Codec, group: str
) -> None:
    publish_ticks(settings, codec, 1)
    told: list[list[int]] = []
    first = Inputs(settings, [CLOCK], group, "member-0", on_assigned=told.append)
    poll_until(first, lambda found: len(found) >= 1)
    # Abandoned, not closed: as after kill -9.
    started = time.monotonic()
    second = Inputs(settings, [CLOCK], group, "member-0", on_assigned=told.append)
    poll_until(second, lambda found: len(found) >= 1)
    assert told == [[0], [0]]
    assert time.monotonic() - started < 5
    second.close()


def test_member_of_an_older_generation_cannot_commit(settings: Settings, codec: Codec, group: str) -> None:
    publish_ticks(settings, codec, 1)
    transactor = Transactor(settings, codec, f"tx-{group}")
    transactor.open()
    first = Inputs(settings, [CLOCK], group, "member-0")
    batch = poll_until(first, lambda found: len(found) >= 1)
    second = Inputs(settings, [CLOCK], group, "member-0")
    poll_until(second, lambda found: len(found) >= 1)
    with pytest.raises((TransactionAborted, InfrastructureError)):
        transactor.commit([letter(group)], first, batch)
    assert letters(settings, codec, group) == 0
    second.close()


def test_transaction_that_consumed_nothing_is_fenced_by_the_group_too(
    settings: Settings, codec: Codec, group: str
) -> None:
    publish_ticks(settings, codec, 1)
    transactor = Transactor(settings, codec, f"tx-{group}")
    transactor.open()
    first = Inputs(settings, [CLOCK], group, "member-0")
    batch = poll_until(first, lambda found: len(found) >= 1)
    transactor.commit([letter(f"{group}-member")], first, batch)
    transactor.commit([letter(f"{group}-member")], first)
    second = Inputs(settings, [CLOCK], group, "member-0")
    second.poll(1.0)
    with pytest.raises((TransactionAborted, InfrastructureError)):
        transactor.commit([letter(f"{group}-zombie")], first)
    assert letters(settings, codec, f"{group}-zombie") == 0
    assert letters(settings, codec, f"{group}-member") == 2
    second.close()


def test_member_that_has_read_nothing_yet_may_write_and_moves_no_position(
    settings: Settings, codec: Codec, group: str
) -> None:
    publish_ticks(settings, codec, 2)
    transactor = Transactor(settings, codec, f"tx-{group}")
    transactor.open()
    assigned: list[list[int]] = []

    def write_at_once(partitions: list[int]) -> None:
        assigned.append(partitions)
        transactor.commit([letter(group)], member)

    member = Inputs(settings, [CLOCK], group, "member-0", on_assigned=write_at_once)
    batch = poll_until(member, lambda found: len(found) >= 2)
    assert assigned == [[0]]
    assert letters(settings, codec, group) == 1
    member.rewind()
    again = poll_until(member, lambda found: len(found) >= len(batch))
    assert again[0].offset() == batch[0].offset()
    member.close()


def test_member_is_caught_up_once_the_end_was_reported_to_it(
    settings: Settings, codec: Codec, inputs: Inputs, group: str
) -> None:
    publish_ticks(settings, codec, 3)
    poll_until(inputs, lambda found: len(found) >= 3)
    deadline = time.monotonic() + DEADLINE_S
    while inputs.progress.reason():
        assert time.monotonic() < deadline, inputs.progress.reason()
        inputs.poll(0.1)
    assert set(inputs.progress.lag().values()) == {0}
    publish_ticks(settings, codec, 2)
    while not any(inputs.progress.lag().values()):
        # The client learns of the new end while it fetches; nothing is taken out of it here.
        assert time.monotonic() < deadline
        time.sleep(0.02)
        inputs.progress.look(0.0)


def test_a_member_that_is_closed_before_it_heard_of_its_partitions_closes_without_an_error(
    settings: Settings, group: str
) -> None:
    told: list[list[int]] = []
    member = Inputs(settings, [CLOCK], group, "member-0", on_assigned=told.append)
    asked = admin(settings)

    def joined() -> bool:
        state = asked.describe_consumer_groups([group])[group].result(DEADLINE_S).state
        return bool(state == ConsumerGroupState.STABLE)

    eventually(joined, DEADLINE_S, "a member that nobody polls, with partitions")
    member.close()
    assert told == []
