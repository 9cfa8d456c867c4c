"""Asking the desk: a command into the log, and the events that answer it out of the log."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from confluent_kafka import TopicPartition

from skeet.cli.log import POLL_S
from skeet.config import Settings
from skeet.core.accounts import AccountHalted, DuplicateIgnored
from skeet.core.commands import Command
from skeet.core.errors import InfrastructureError, InvalidInput
from skeet.core.ids import outside_command_id
from skeet.core.record import Meta, Out, Record
from skeet.core.values import NS_PER_MS, NS_PER_S, AccountId, EventId, PrincipalId, TenantId
from skeet.schemas.codec import Codec
from skeet.streams import topics
from skeet.streams.kafka import consumer, producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import end_offsets, partitions_of, record_of, records_until_end
from skeet.streams.registry import registered_codec

VALIDITY_NS = 60 * NS_PER_S
"""A person's command that the desk did not see within a minute is expired, not executed late."""

DECISION_DEADLINE_S = 15.0
"""A running desk decides in milliseconds; after this long it is not running."""


def fresh_key() -> str:
    """A client key of its own for each invocation; repeating a command with its key repeats nothing."""
    return uuid4().hex[:12]


def command_meta(settings: Settings, account_id: str, client_key: str, now_ns: int) -> Meta:
    """The envelope of a command from a person: its id follows from tenant, principal and client key."""
    command_id = outside_command_id(settings.tenant, settings.principal, client_key)
    return Meta(
        event_id=command_id,
        tenant_id=TenantId(settings.tenant),
        account_id=AccountId(account_id),
        principal_id=PrincipalId(settings.principal),
        correlation_id=command_id,
        causation_id=command_id,
        cause_at="",
        ts_event=now_ns,
        ts_init=now_ns,
    )


def validity(now_ns: int) -> dict[str, int]:
    """``ts_cause`` and ``valid_until`` of a command made now.

    The log's time has milliseconds only: a cause between two of them would lie in the future of its own record.
    """
    ts_cause = now_ns // NS_PER_MS * NS_PER_MS
    return {"ts_cause": ts_cause, "valid_until": ts_cause + VALIDITY_NS}


class Desk:
    """The desk as seen from outside: one command, then the account's events in order. Close after use."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._codec: Codec = registered_codec(settings)
        self._consumer = consumer(settings, "skeet-cli")

    def __enter__(self) -> Desk:
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()

    def ask(self, command: Command, meta: Meta) -> Record[Any]:
        """Post the command and return the first event that it caused.

        A command that was posted before under the same key is answered with the event it caused then.

        Raises
        ------
        InfrastructureError
            the desk did not answer in :data:`DECISION_DEADLINE_S`; the command may still be decided until it expires.
        """
        partitions = partitions_of(self._settings, [topics.ACCOUNT_EVENTS])
        ends = end_offsets(self._consumer, partitions)
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in ends.items()])
        publisher = Publisher(self._settings, self._codec, producer(self._settings, "skeet-cli"))
        publisher.send([Out(topic=topics.COMMANDS.name, key=meta.account_id, event=command, meta=meta)])
        publisher.flush()
        for record in self.events(meta.account_id, DECISION_DEADLINE_S):
            match record.event:
                case DuplicateIgnored(duplicate_of=command_id) if command_id == meta.event_id:
                    return self._earlier(meta.event_id) or record
                case AccountHalted(reason=reason):
                    raise InfrastructureError(f"account {meta.account_id} is halted: {reason}")
                case _ if is_answer(record, meta.event_id):
                    return record
        raise InfrastructureError(
            f"the desk did not answer within {DECISION_DEADLINE_S:.0f} s (`skeet status` shows whether it runs); "
            f"the command expires in {VALIDITY_NS // NS_PER_S} s and may be repeated safely with its key"
        )

    def events(self, account_id: str, deadline_s: float) -> Iterator[Record[Any]]:
        """The account's events from where :meth:`ask` stands, until the deadline passes."""
        until = time.monotonic() + deadline_s
        while time.monotonic() < until:
            message = self._consumer.poll(POLL_S)
            if message is None or message.error() is not None:
                continue
            if message.key() == account_id.encode():
                try:
                    record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
                except InvalidInput:  # no event of the desk
                    continue
                yield record

    def _earlier(self, command_id: EventId) -> Record[Any] | None:
        records = records_until_end(self._settings, self._codec, [topics.ACCOUNT_EVENTS])
        return next((record for record in records if is_answer(record, command_id)), None)


def is_answer(record: Record[Any], command_id: EventId) -> bool:
    """Whether the event is what the desk made of this command (not: that it saw the command again)."""
    if record.meta is None or isinstance(record.event, DuplicateIgnored):
        return False
    return record.meta.causation_id == command_id
