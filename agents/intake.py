"""Intake: commands of users' own processes, from ``t.<tenant>.commands.v1`` to ``orders.commands.v1``.

Who is asking is told by the topic alone: the broker lets only the tenant write there. Whatever envelope a command came
with, it goes on under one written here, with an id derived from tenant, principal and the client's key, so that a repeated
command is a duplicate at the desk. What is not passed on is answered with every reason; what cannot be read becomes a dead
letter as well. Nothing that a tenant writes ends this process.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message

from skeet.agents.account_owners import AccountOwners
from skeet.agents.forwarding import Forwarder
from skeet.config import Settings
from skeet.core.accounts import Breach
from skeet.core.errors import DecodeError, InfrastructureError, InvalidInput, UnknownEvent
from skeet.core.ids import derive_id
from skeet.core.outside import CommandForwarded, CommandRefused, answer_meta, forwarded_meta, refusals
from skeet.core.record import Event, Out, Record
from skeet.process import StopSignal, announce_ready, configure_logging, logger
from skeet.schemas.codec import Codec
from skeet.streams.door import dead_letter, raw_record
from skeet.streams.partitioner import partition_of
from skeet.streams.reading import record_of
from skeet.streams.registry import registered_codec
from skeet.streams.topics import COMMANDS, TENANT_COMMANDS, TENANT_EVENTS, of_tenant, tenant_in
from skeet.streams.transactional import Encoded, encode

ROLE = "intake"
MAX_CAUSE = 500
"""Characters of a decoder's complaint that the tenant is shown."""


class Intake:
    """Turns a tenant's record into the command that goes on, or into a refusal."""

    def __init__(self, settings: Settings, codec: Codec, owners: AccountOwners) -> None:
        self._settings = settings
        self._codec = codec
        self._owners = owners

    def outs_of(self, messages: list[Message]) -> list[Encoded]:
        """What follows from one poll, in order."""
        return [out for message in messages for out in self._outs_of(message)]

    def _outs_of(self, message: Message) -> list[Encoded]:
        prefix = self._settings.kafka.topic_prefix
        tenant_id = tenant_in(str(message.topic()).removeprefix(prefix))
        if tenant_id is None:
            raise InfrastructureError(f"intake was given a record of {message.topic()}, which is no tenant's")
        try:
            record = record_of(self._codec, message, prefix)
            key = (message.key() or b"").decode()
        except (DecodeError, UnknownEvent, UnicodeDecodeError) as error:
            return self._unreadable(tenant_id, message, error)
        return self._read(tenant_id, record, key)

    def _read(self, tenant_id: str, record: Record[Event], key: str) -> list[Encoded]:
        meta = record.meta
        owner = self._owners.owner_of(meta.account_id) if meta is not None else None
        breaches = refusals(tenant_id, record, key, owner) + self._misplaced(record, key)
        if breaches or meta is None:
            return [self._refused(tenant_id, record, breaches)]
        sent = forwarded_meta(tenant_id, record, meta)
        told = CommandForwarded(
            client_key=meta.event_id,
            command_id=sent.event_id,
            command=type(record.event).__name__,
            at=str(record.at),
        )
        forwarded: Out[Any] = Out(topic=COMMANDS.name, key=sent.account_id, event=record.event, meta=sent)
        try:
            return [encode(self._codec, forwarded), self._answer(tenant_id, meta.account_id, record, told)]
        except InvalidInput as error:  # it was read under another version of its schema, and does not fit ours
            return [self._refused(tenant_id, record, (_breach("format", str(error)[:MAX_CAUSE], "", "our schema"),))]

    def _misplaced(self, record: Record[Event], key: str) -> tuple[Breach, ...]:
        """One account's commands keep their order only in the one partition of their key."""
        belongs = partition_of(key.encode(), self._settings.kafka.account_partitions)
        if belongs == record.at.partition:
            return ()
        observed = f"partition {record.at.partition}"
        return (_breach("key", "the key belongs elsewhere; use the murmur2 partitioner", observed, str(belongs)),)

    def _refused(self, tenant_id: str, record: Record[Event], breaches: tuple[Breach, ...]) -> Encoded:
        meta = record.meta
        event = CommandRefused(
            client_key=meta.event_id if meta is not None else "",
            command=type(record.event).__name__,
            at=str(record.at),
            breaches=breaches,
        )
        logger().warning("refused", at=event.at, controls=[breach.control for breach in breaches])
        return self._answer(tenant_id, meta.account_id if meta is not None else "", record, event)

    def _unreadable(self, tenant_id: str, message: Message, error: Exception) -> list[Encoded]:
        raw = raw_record(message, self._settings.kafka.topic_prefix)
        letter = dead_letter(ROLE, raw, error)
        record: Record[Any] = Record(event=letter.event, meta=None, at=raw.at, log_ns=raw.log_ns)
        size = f"{len(raw.value)} bytes"
        event = CommandRefused(
            client_key="",
            command="",
            at=str(raw.at),
            breaches=(_breach("format", letter.event.cause[:MAX_CAUSE], size, "a framed Avro command"),),
        )
        logger().warning("dead letter", at=event.at, cause=letter.event.cause)
        return [encode(self._codec, letter), self._answer(tenant_id, "", record, event)]

    def _answer(self, tenant_id: str, account_id: str, record: Record[Any], event: Event) -> Encoded:
        meta = answer_meta(tenant_id, account_id, str(record.at), record.log_ns, derive_id(ROLE, str(record.at)))
        topic = of_tenant(TENANT_EVENTS, tenant_id)
        # To the partition of the command, whatever its key was: both topics have the same count.
        out: Out[Any] = Out(topic=topic.name, key=account_id, event=event, meta=meta, partition=record.at.partition)
        return encode(self._codec, out)


def _breach(control: str, detail: str, observed: str, allowed: str) -> Breach:
    return Breach(control=control, detail=detail, observed=observed, allowed=allowed)


def main(settings: Settings) -> int:
    """The role ``intake``."""
    configure_logging(ROLE, settings.log_level)
    stop = StopSignal().install()
    codec = registered_codec(settings)
    owners = AccountOwners(settings, codec, "intake-owners")
    forwarder = Forwarder(settings, codec, ROLE, TENANT_COMMANDS, Intake(settings, codec, owners).outs_of)
    try:
        owners.start()
        forwarder.start()
        announce_ready()
        forwarder.run(stop, between=owners.follow)
        forwarder.close()
        owners.close()
    except InfrastructureError as error:
        logger().error("intake ends", error=str(error))
        return 1
    return 0
