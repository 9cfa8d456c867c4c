"""Reading the log for people: topics by short name, starting points in words, records that could not be decoded kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.record import Record, TopicPosition
from skeet.core.values import NS_PER_MS
from skeet.schemas.codec import Codec
from skeet.streams.kafka import consumer
from skeet.streams.reading import Partition, end_offsets, messages_until_end, partitions_of, record_of
from skeet.streams.topics import TOPIC_BY_NAME, Topic

QUERY_TIMEOUT_S = 10.0
POLL_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One message: the decoded record, or the reason why it could not be decoded, with its bytes."""

    at: TopicPosition
    log_ns: int
    key: str
    record: Record[Any] | InvalidInput
    value: bytes


def resolve_topic(settings: Settings, name: str) -> Topic:
    """The topic of this name; the installation's prefix and the version may be left out.

    Raises
    ------
    InvalidInput
        no such topic; the message lists them.
    """
    bare = name.removeprefix(settings.kafka.topic_prefix)
    found = TOPIC_BY_NAME.get(bare) or TOPIC_BY_NAME.get(f"{bare}.v1")
    if found is None:
        raise InvalidInput(f"topic is {name!r}; expected one of {', '.join(TOPIC_BY_NAME)}")
    return found


def start_offsets(settings: Settings, topic: Topic, start: str) -> tuple[dict[Partition, int], int | None]:
    """Where to begin in each partition, and how many records to keep at the end (None: all) for ``-N``.

    Raises
    ------
    InvalidInput
        ``start`` is none of beginning, end, -N, a time.
    """
    partitions = partitions_of(settings, [topic])
    client = consumer(settings, "skeet-cli")
    try:
        if start == "beginning":
            return {}, None
        if start == "end":
            return end_offsets(client, partitions), None
        if start.startswith("-") and start[1:].isdigit():
            last = int(start[1:])
            low_high = {
                p: client.get_watermark_offsets(TopicPartition(*p), timeout=QUERY_TIMEOUT_S) for p in partitions
            }
            return {p: max(low, high - last - 1) for p, (low, high) in low_high.items()}, last
        time_ms = parse_time(start, "--from", "beginning, end, -N, or a UTC time such as 2026-01-31T14:05") // NS_PER_MS
        asked = [TopicPartition(topic_name, number, time_ms) for topic_name, number in partitions]
        found = client.offsets_for_times(asked, timeout=QUERY_TIMEOUT_S)
        return {(at.topic, at.partition): at.offset for at in found}, None
    finally:
        client.close()


def parse_time(text: str, field: str, expected: str) -> int:
    """Nanoseconds since the epoch of ISO 8601 text (UTC unless it says otherwise).

    Raises
    ------
    InvalidInput
        it is none; the message names the field and what is expected.
    """
    try:
        moment = datetime.fromisoformat(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(aware.timestamp() * 1000) * NS_PER_MS
    except (ValueError, OverflowError):
        raise InvalidInput(f"{field} is {text!r}; expected {expected}") from None


def read_to_end(
    settings: Settings, codec: Codec, topic: Topic, offsets: Mapping[Partition, int], *, last: int | None = None
) -> Iterator[Line]:
    """Lines from the offsets up to the end captured now; with ``last``, only that many, in the log's order of time."""
    messages = messages_until_end(settings, partitions_of(settings, [topic]), offsets)
    lines = (line_of(codec, message, settings) for message in messages)
    if last is None:
        yield from lines
    else:
        yield from sorted(lines, key=lambda line: (line.log_ns, line.at))[-last:]


def follow(settings: Settings, codec: Codec, topic: Topic, offsets: Mapping[Partition, int]) -> Iterator[Line]:
    """Lines from the offsets (one for every partition) on, for ever."""
    client = consumer(settings, "skeet-cli")
    try:
        client.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        while True:
            message = client.poll(POLL_S)
            if message is not None and message.error() is None:
                yield line_of(codec, message, settings)
    finally:
        client.close()


def line_of(codec: Codec, message: Message, settings: Settings) -> Line:
    """The message as a line; bytes that are no record of ours become a line that says why."""
    prefix = settings.kafka.topic_prefix
    try:
        record: Record[Any] | InvalidInput = record_of(codec, message, prefix)
    except InvalidInput as error:
        record = error
    return Line(
        at=TopicPosition(str(message.topic()).removeprefix(prefix), message.partition() or 0, message.offset() or 0),
        log_ns=message.timestamp()[1] * NS_PER_MS,
        key=(message.key() or b"").decode(errors="replace"),
        record=record,
        value=message.value() or b"",
    )
