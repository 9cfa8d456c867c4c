"""From a message to account events: the impure edge of ``decide``, for the desk's loop and for nothing else.

Every event is encoded before any state changes, so that an input that fails, whichever way, has changed nothing.
"""

from __future__ import annotations

from typing import Any

from confluent_kafka import Message

from skeet.agents.desk_books import Books
from skeet.agents.desk_metrics import DeskMetrics
from skeet.agents.desk_outside import Outside
from skeet.agents.desk_snapshots import partition_account
from skeet.config import Settings
from skeet.core.account import decide, decide_kill, stamp
from skeet.core.account_snapshot import folding_code_version
from skeet.core.account_state import AccountState, rules_text
from skeet.core.accounts import AccountEvent, AccountHalted, ControlApplied, RulesApplied
from skeet.core.admission import recordable_text
from skeet.core.control import DeadLetter, KillSwitchSet, SessionMark
from skeet.core.controls import NEWER, TURNED_AWAY
from skeet.core.errors import InvalidInput, MisplacedRecord
from skeet.core.record import Event, Meta, Out, Record
from skeet.core.risk import RiskRules
from skeet.core.values import exact_arithmetic
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.door import Door, account_of, dead_letter, raw_record
from skeet.streams.topics import ACCOUNT_EVENTS, DEAD_LETTERS
from skeet.streams.transactional import Encoded, encode

ROLE = "desk"
LETTERS_OF_CONTROL = 0
"""The partition whose owner writes the dead letters of the control topic, beside the echo that moves it past them: every
desk reads that topic, and reads it anew at each start."""


class DeskInputs:
    """Turns inputs and control into encoded account events, and keeps the books in step."""

    def __init__(self, settings: Settings, codec: Codec, books: Books, outside: Outside, metrics: DeskMetrics) -> None:
        self._metrics = metrics
        self._settings = settings
        self._codec = codec
        self._books = books
        self._outside = outside
        self._rules = rules_applied(outside.rules)
        self._last_input: dict[int, Record[Any]] = {}
        self._door = Door(settings.kafka, codec)

    def outs_of(self, message: Message) -> list[Encoded]:
        """The events that the message causes; a record that is not let in becomes a dead letter and the partition goes on.

        Raises
        ------
        InfrastructureError
            the registry is away, and nobody can say what the record is.
        Exception
            deciding or encoding failed; nothing has changed.
        """
        try:
            record = self._door.message(message)
        except InvalidInput as error:
            return self.dead_letter(message, error)
        return self._decided(message.partition(), record)

    def dead_letter(self, message: Message, cause: Exception) -> list[Encoded]:
        """The message as a dead letter; the open account it was for, if that can be known, is halted."""
        raw = raw_record(message, self._settings.kafka.topic_prefix)
        out = dead_letter(ROLE, raw, cause)
        logger().error("dead letter", at=str(raw.at), cause=out.event.cause)
        self._metrics.dead_letter()
        outs = [encode(self._codec, out)]
        account_id = account_of(raw, cause, self._settings.kafka.account_partitions)
        state = self._books.known(raw.at.partition, account_id)
        if state is not None and state.opened and not state.halted:
            reason = recordable_text(f"{raw.at} could not be processed: {out.event.cause}")
            record: Record[Any] = Record(event=out.event, meta=out.meta, at=raw.at, log_ns=raw.log_ns)
            now_ns = self._outside.context(raw.log_ns).now_ns
            outs += self._recorded(raw.at.partition, state, record, now_ns, (AccountHalted(reason=reason),))
        return outs

    def apply_control(self) -> list[Encoded]:
        """ControlApplied for every owned partition that has not echoed the newest control events, and kill cancels."""
        outs: list[Encoded] = []
        newest = self._outside.control.offset
        for partition in self._books.partitions:
            pseudo = self._books.state(partition, partition_account(partition))
            outs += self._rules_said(partition, pseudo)
            if pseudo.control_offset < newest:
                for record in self._outside.control_records:
                    if record.at.offset > pseudo.control_offset:
                        outs += self._control_applied(partition, pseudo, record)
        return outs

    def _control_applied(self, partition: int, pseudo: AccountState, record: Record[Any]) -> list[Encoded]:
        now_ns = self._outside.context(record.log_ns).now_ns
        applied = ControlApplied(control_offset=record.at.offset, control_event=_named(record.event))
        outs = self._recorded(partition, pseudo, record, now_ns, (applied,))
        if isinstance(record.event, DeadLetter) and partition == LETTERS_OF_CONTROL:
            out: Out[Any] = Out(topic=DEAD_LETTERS.name, key=record.at.topic, event=record.event, meta=record.meta)
            outs.append(encode(self._codec, out))
        if isinstance(record.event, KillSwitchSet) and record.meta is not None:
            for state in self._books.states(partition):
                cancels = decide_kill(state, record.event, record.meta.event_id)
                outs += self._recorded(partition, state, record, now_ns, cancels)
        if isinstance(record.event, SessionMark):
            outs += self._marked(partition, record, f"session mark {record.event.label}".rstrip())
        return outs

    def marks(self) -> list[Encoded]:
        """StateMarked of every partition that is due, to go into the transaction of the events it covers."""
        outs: list[Encoded] = []
        for partition, record in self._last_input.items():
            if partition in self._books.partitions and self._books.mark_due(partition):
                outs += self._marked(partition, record, "events")
        self._last_input.clear()
        return outs

    def _marked(self, partition: int, record: Record[Any], reason: str) -> list[Encoded]:
        pseudo = self._books.state(partition, partition_account(partition))
        now_ns = self._outside.context(record.log_ns).now_ns
        return self._recorded(partition, pseudo, record, now_ns, (self._books.mark(partition, reason),))

    def _rules_said(self, partition: int, pseudo: AccountState) -> list[Encoded]:
        """RulesApplied where the partition was decided under other settings, or by other code, until now."""
        if pseudo.rules == rules_text(self._rules) or not self._outside.control_records:
            return []
        genesis = self._outside.control_records[0]
        now_ns = self._outside.context(genesis.log_ns).now_ns
        return self._recorded(partition, pseudo, genesis, now_ns, (self._rules,))

    def _decided(self, partition: int, record: Record[Any]) -> list[Encoded]:
        if record.meta is None:
            raise MisplacedRecord(f"{record.at} has no envelope; account inputs carry one")
        state = self._books.state(partition, record.meta.account_id)
        context = self._outside.context(record.log_ns, getattr(record.event, "instrument_id", ""))
        self._metrics.deciding(record)
        with exact_arithmetic():
            return self._recorded(partition, state, record, context.now_ns, decide(state, record, context))

    def _recorded(
        self, partition: int, state: AccountState, record: Record[Any], now_ns: int, events: tuple[AccountEvent, ...]
    ) -> list[Encoded]:
        """Encode all, then take all into the books."""
        metas = stamp(state, record, now_ns, events)
        self._last_input[partition] = record
        outs = [self._encoded(partition, event, meta) for event, meta in zip(events, metas, strict=True)]
        with exact_arithmetic():
            for event, meta in zip(events, metas, strict=True):
                self._books.apply(partition, event, meta)
        self._metrics.decided(events)
        return outs

    def _encoded(self, partition: int, event: AccountEvent, meta: Meta) -> Encoded:
        out: Out[Any] = Out(topic=ACCOUNT_EVENTS.name, key=meta.account_id, event=event, meta=meta, partition=partition)
        return encode(self._codec, out)


def rules_applied(rules: RiskRules) -> RulesApplied:
    """What a partition is told about the settings and the code that decide for it."""
    return RulesApplied(
        max_quantity=rules.limits.max_quantity,
        max_notional=rules.limits.max_notional,
        reference_max_age_ns=rules.reference_max_age_ns,
        collar_bps=rules.collar_bps,
        code_version=folding_code_version(),
    )


def _named(event: Event) -> str:
    """The type of a control event; of one that cannot be acted on, why."""
    if isinstance(event, DeadLetter):
        return NEWER if event.cause.startswith(NEWER) else TURNED_AWAY
    return type(event).__name__
