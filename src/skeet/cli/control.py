"""Control events from the command line: posted, then confirmed only when every partition of the desk acts on them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from confluent_kafka import TopicPartition

from skeet.cli.desk import DECISION_DEADLINE_S, command_meta, fresh_key
from skeet.cli.log import POLL_S
from skeet.config import Settings
from skeet.core.accounts import ControlApplied
from skeet.core.controls import NEWER, TURNED_AWAY
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.record import Event, Out, Record
from skeet.schemas.codec import Codec
from skeet.streams import topics
from skeet.streams.kafka import consumer, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import end_offsets, partitions_of, record_of, records_until_end
from skeet.streams.registry import registered_codec

PLATFORM = "platform"
_SCOPE = re.compile(r"platform|(tenant|account):[a-z0-9][a-z0-9-]{0,31}")


def scope(text: str) -> str:
    """``platform``, ``tenant:ID`` or ``account:ID``."""
    if not _SCOPE.fullmatch(text):
        raise InvalidInput(f"--scope is {text!r}; expected platform, tenant:ID or account:ID")
    return text


def control_records(settings: Settings, codec: Codec | None = None) -> Iterator[Record[Any]]:
    """Every control event, oldest first."""
    return records_until_end(settings, codec or registered_codec(settings), [topics.CONTROL])


def post(settings: Settings, event: Event, scope_name: str) -> Record[Any]:
    """Write the event, wait until all partitions of the desk echoed it, and return it as it stands in the log.

    Raises
    ------
    InfrastructureError
        not all partitions echoed it in time; the event is in the log and will be acted on when the desk runs.
    """
    codec = registered_codec(settings)
    meta = command_meta(settings, "", fresh_key(), time.time_ns())
    client = consumer(settings, "skeet-cli")
    try:
        ends = end_offsets(client, partitions_of(settings, [topics.ACCOUNT_EVENTS]))
        client.assign([TopicPartition(*place, offset) for place, offset in ends.items()])
        publisher = Publisher(settings, codec, producer(settings, "skeet-cli"))
        publisher.send([Out(topic=topics.CONTROL.name, key=scope_name, event=event, meta=meta)])
        publisher.flush()
        written = next(record for record in control_records(settings, codec) if record.event_id == meta.event_id)
        _await_echo(client, codec, settings, written.at.offset)
        return written
    finally:
        client.close()


def _await_echo(client: Any, codec: Codec, settings: Settings, control_offset: int) -> None:
    """Return once each account partition appended a ControlApplied at or past the offset."""
    missing = {number for _, number in partitions_of(settings, [topics.ACCOUNT_EVENTS])}
    until = time.monotonic() + DECISION_DEADLINE_S
    while missing and time.monotonic() < until:
        message = client.poll(POLL_S)
        if message is None or message.error() is not None:
            continue
        try:
            record = record_of(codec, message, settings.kafka.topic_prefix)
        except InvalidInput:
            continue
        if isinstance(record.event, ControlApplied) and record.event.control_offset >= control_offset:
            if record.event.control_offset == control_offset and record.event.control_event in (TURNED_AWAY, NEWER):
                raise InvalidInput("the desk did not accept the event: `skeet dead-letters list` says why")
            missing.discard(record.at.partition)
    if missing:
        raise InfrastructureError(
            f"written, but partitions {sorted(missing)} of the desk did not confirm within {DECISION_DEADLINE_S:.0f} s: "
            "the desk is not running (`skeet status`); it will act on the event before anything else when it starts"
        )
