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
from skeet.core.control import DeadLetter, KillSwitchSet, SessionMark
from skeet.core.errors import DecodeError, InvalidInput, UnknownEvent
from skeet.core.ids import derive_id
from skeet.core.record import Meta, Out, Record, TopicPosition
from skeet.core.risk import RiskRules
from skeet.core.values import NS_PER_MS, AccountId, PrincipalId, TenantId, exact_arithmetic
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.partitioner import partition_of
from skeet.streams.reading import record_of
from skeet.streams.topics import ACCOUNT_EVENTS, DEAD_LETTERS
from skeet.streams.transactional import Encoded, encode

MAX_DEAD_LETTER_BYTES = 500_000
"""More of an unreadable record is cut off: its position says where the rest is."""


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

    def outs_of(self, message: Message) -> list[Encoded]:
        """The events that the message causes; a record nobody can read becomes a dead letter and the partition goes on.

        Raises
        ------
        Exception
            deciding or encoding failed; nothing has changed.
        """
        try:
            record = record_of(self._codec, message, self._settings.kafka.topic_prefix)
            account_id = self._account_of(message, record)
        except (DecodeError, UnknownEvent, InvalidInput) as error:
            return self.dead_letter(message, error)
        return self._decided(message.partition(), account_id, record)

    def dead_letter(self, message: Message, cause: Exception) -> list[Encoded]:
        """The message as a dead letter; the open account it was for, if that can be known, is halted."""
        prefix = self._settings.kafka.topic_prefix
        at = TopicPosition(message.topic().removeprefix(prefix), message.partition(), message.offset())
        meta = _platform_meta(derive_id("dead-letter", "desk", str(at)), str(at), message.timestamp()[1] * NS_PER_MS)
        letter = DeadLetter(
            role="desk",
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            key=message.key() or b"",
            value=(message.value() or b"")[:MAX_DEAD_LETTER_BYTES],
            cause=f"{type(cause).__name__}: {cause}",
        )
        logger().error("dead letter", at=str(at), cause=letter.cause)
        self._metrics.dead_letter()
        out: Out[Any] = Out(topic=DEAD_LETTERS.name, key=at.topic, event=letter, meta=meta)
        outs = [encode(self._codec, out)]
        account_id = _text(message.key())
        state = self._books.state(at.partition, account_id) if account_id else None
        if state is not None and state.opened and not state.halted:
            halt = AccountHalted(reason=f"{at} could not be processed: {letter.cause}")
            record: Record[Any] = Record(event=letter, meta=meta, at=at, log_ns=meta.ts_event)
            outs += self._recorded(at.partition, state, record, self._outside.context(record.log_ns).now_ns, (halt,))
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
        applied = ControlApplied(control_offset=record.at.offset, control_event=type(record.event).__name__)
        outs = self._recorded(partition, pseudo, record, now_ns, (applied,))
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

    def _decided(self, partition: int, account_id: str, record: Record[Any]) -> list[Encoded]:
        state = self._books.state(partition, account_id)
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

    def _account_of(self, message: Message, record: Record[Any]) -> str:
        """The account the record is about, which must be its key and belong into its partition.

        Raises
        ------
        InvalidInput
            a writer with another partitioner, or a wrong key, would give one account two writers.
        """
        account_id = record.meta.account_id if record.meta is not None else ""
        if not account_id or account_id.startswith("~"):
            raise InvalidInput(f"account_id is {account_id!r}; expected the id of an account")
        if _text(message.key()) != account_id:
            raise InvalidInput(f"the key is {message.key()!r}; expected account_id {account_id!r}")
        belongs = partition_of(account_id.encode(), self._settings.kafka.account_partitions)
        if belongs != message.partition():
            raise InvalidInput(f"{account_id} belongs to partition {belongs}; use the murmur2 partitioner")
        return account_id


def rules_applied(rules: RiskRules) -> RulesApplied:
    """What a partition is told about the settings and the code that decide for it."""
    return RulesApplied(
        max_quantity=rules.limits.max_quantity,
        max_notional=rules.limits.max_notional,
        reference_max_age_ns=rules.reference_max_age_ns,
        collar_bps=rules.collar_bps,
        code_version=folding_code_version(),
    )


def _platform_meta(identity: str, cause_at: str, at_ns: int) -> Meta:
    event_id = derive_id("event", identity)
    return Meta(
        event_id=event_id,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId("desk"),
        correlation_id=event_id,
        causation_id=event_id,
        cause_at=cause_at,
        ts_event=at_ns,
        ts_init=at_ns,
    )


def _text(key: bytes | None) -> str:
    try:
        return (key or b"").decode()
    except UnicodeDecodeError:
        return ""
