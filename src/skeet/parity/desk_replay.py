"""One partition of ``accounts.events.v1`` folded and decided again. Reads what its lookups give it and nothing else.

The state is always the fold of the *recorded* events, so that one altered record is one difference and not a cascade: each
event is held against what deciding its cause again gives in the state before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from hashlib import sha256
from typing import Any, Protocol

from skeet.core.account import decide, decide_kill, stamp
from skeet.core.account_snapshot import account_digest, folding_code_version, memory_hash
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import (
    AccountEvent,
    AccountHalted,
    ControlApplied,
    OrderAuthorized,
    OrderDenied,
    RulesApplied,
    StateMarked,
)
from skeet.core.control import KillSwitchSet
from skeet.core.controls import NEWER, Control, Limits, apply_control, apply_unreadable
from skeet.core.errors import InvalidInput
from skeet.core.ids import derive_id
from skeet.core.market import InstrumentDefined, Reference, ReferenceStatus
from skeet.core.record import Meta, Record
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import exact_arithmetic
from skeet.parity.cursor import parse_position
from skeet.schemas.codec import HEADER, Codec
from skeet.streams.door import letter_id
from skeet.streams.topics import CONTROL
from skeet.verify.findings import Check

Decided = tuple[AccountEvent, Meta]
REFERENCE_SCALE = 18


class Lookups(Protocol):
    """Where the causes and contexts of decisions stand."""

    def at(self, position: str) -> Record[Any] | None:
        """The record at ``topic/partition/offset``."""
        ...

    def instrument(self, instrument_id: str, version: int) -> InstrumentDefined | None:
        """That version of the instrument."""
        ...


@dataclass(slots=True)
class Memory:
    """Accounts folded from events, and the digest of each."""

    states: dict[str, AccountState] = field(default_factory=dict)
    _digests: dict[str, tuple[int, str]] = field(default_factory=dict)

    def state(self, account_id: str) -> AccountState:
        """The account's state, empty before its first event."""
        found = self.states.get(account_id)
        if found is None:
            found = self.states[account_id] = AccountState(account_id=account_id)
        return found

    def digests(self) -> dict[str, str]:
        """Digest of each account that has events; only what changed since the last call is serialised."""
        for account_id, state in self.states.items():
            if state.version != self._digests.get(account_id, (0, ""))[0]:
                self._digests[account_id] = (state.version, account_digest(state))
        return {account_id: digest for account_id, (_, digest) in self._digests.items()}


class DeskReplay:
    """Takes a partition's events in order, then :meth:`finish`.

    Parameters
    ----------
    rules
        the settings to decide under where the log does not say (events older than RulesApplied).
    snapshot
        states of the newest snapshot, if one of this code exists: the tail is folded onto them too.
    """

    def __init__(
        self,
        codec: Codec,
        lookups: Lookups,
        rules: RiskRules,
        *,
        snapshot: Mapping[str, AccountState],
        fold: Check,
        decisions: Check,
    ) -> None:
        self._codec = codec
        self._lookups = lookups
        self._rules = rules
        self._memory = Memory()
        self._tail = Memory(states=dict(snapshot)) if snapshot else None
        self._fold = fold
        self._decisions = decisions
        self._control = Control()
        self._pending: dict[str, deque[Decided]] = {}
        self._chains: dict[str, bytes] = {}
        self._code_version = folding_code_version()
        self._decided_by = ""  # until a RulesApplied says: a log older than that event was decided by other code
        self._event_count = 0
        self._last_good = "the beginning"

    @property
    def memory(self) -> Memory:
        """What the events taken so far make."""
        return self._memory

    @property
    def chains(self) -> dict[str, str]:
        """A hash chain per account over the bytes that deciding again gave."""
        return {account_id: chain.hex() for account_id, chain in self._chains.items()}

    def take(self, record: Record[Any], raw: bytes) -> None:
        """The partition's next event, with its bytes."""
        event, meta = record.event, record.meta
        if meta is None or not isinstance(event, AccountEvent):
            self._fold.differs(f"{record.at} is {type(event).__name__}, no event of an account")
            return
        with exact_arithmetic():
            state = self._memory.state(meta.account_id)
            if meta.stream_version != state.version + 1:
                expected = state.version + 1
                self._fold.differs(
                    f"{record.at}: {meta.account_id} has event {meta.stream_version}, expected {expected}"
                )
            remade = raw
            match event:
                case StateMarked():
                    self._check_mark(record, event)
                case RulesApplied():
                    self._apply_rules(event)
                case _:
                    remade = self._decide_again(record, meta, state, raw)
            self._chain(meta.account_id, remade)
            evolve(state, event, meta)
            self._fold_tail(event, meta)
        self._event_count += 1
        self._fold.count("events")

    def unreadable(self, at: str, error: Exception) -> None:
        """A record of the partition that cannot be read at all."""
        self._fold.differs(f"{at} cannot be read: {error}")

    def finish(self, partition: str) -> None:
        """After the last event: nothing that a cause asks for may be missing, and snapshot + tail must be the fold."""
        for account_id, left in self._pending.items():
            if left:
                self._missing(f"{partition}, at its end", account_id, left)
        if self._tail is None:
            return
        fresh, tailed = self._memory.digests(), self._tail.digests()
        for account_id in sorted(fresh):
            self._fold.count("snapshots")
            if tailed.get(account_id) != fresh[account_id]:
                self._fold.differs(f"{partition}: {account_id} is not the same from its snapshot and from zero")

    def _check_mark(self, record: Record[Any], mark: StateMarked) -> None:
        if self._decided_by != self._code_version:
            self._fold.count("marks of other code, not compared")
            return
        self._fold.count("marks")
        digests = self._memory.digests()
        folded = (self._event_count, len(digests), memory_hash(digests))
        marked = (mark.marked_events, mark.account_count, mark.state_hash)
        if folded != marked:
            named = "events {}, accounts {}, hash {}"
            self._fold.differs(
                f"{record.at}: StateMarked says {named.format(*marked)}; "
                f"the fold since {self._last_good} gives {named.format(*folded)}"
            )
        self._last_good = str(record.at)

    def _apply_rules(self, event: RulesApplied) -> None:
        self._decided_by = event.code_version
        self._rules = RiskRules(
            limits=Limits(max_quantity=event.max_quantity, max_notional=event.max_notional, version=0),
            reference_max_age_ns=event.reference_max_age_ns,
            collar_bps=event.collar_bps,
        )

    def _decide_again(self, record: Record[Any], meta: Meta, state: AccountState, raw: bytes) -> bytes:
        """Hold the event against its cause; returns the bytes that deciding again gives."""
        if _is_dead_letter(record.event, meta):
            self._decisions.count("halts and echoes of dead letters, not decided again")
            if isinstance(record.event, ControlApplied):
                offset, newer = record.event.control_offset, record.event.control_event == NEWER
                self._control = apply_unreadable(self._control, meta.cause_at, offset, newer=newer)
            return raw
        left = self._pending.get(meta.account_id)
        if not left or left[0][1].cause_at != meta.cause_at:
            if left:
                self._missing(str(record.at), meta.account_id, left)
            left = self._pending[meta.account_id] = deque(self._decided(record, meta, state))
        if isinstance(record.event, ControlApplied):
            self._apply_control(meta)
        if not left:
            self._differs(f"{record.at}: recorded is {type(record.event).__name__}; {meta.cause_at} does not cause it")
            return raw
        return self._compared(record, meta, left.popleft(), raw)

    def _compared(self, record: Record[Any], meta: Meta, decided: Decided, raw: bytes) -> bytes:
        self._decisions.count("decided events")
        event, remade_meta = decided
        try:
            remade = self._codec.encode(event, remade_meta)
        except InvalidInput as error:
            self._differs(f"{record.at}: what {meta.cause_at} causes now cannot be written: {error}")
            return raw
        same_schema = remade[: HEADER.size] == raw[: HEADER.size]
        if remade != raw and (same_schema or (event, remade_meta) != (record.event, meta)):
            self._differs(f"{record.at}: {_first_difference(record, meta, event, remade_meta)}")
        return remade

    def _decided(self, record: Record[Any], meta: Meta, state: AccountState) -> Sequence[Decided]:
        """What the recorded event's cause causes in this state."""
        cause = self._lookups.at(meta.cause_at)
        if cause is None:
            self._differs(f"{record.at}: its cause {meta.cause_at or '(none named)'} is not in the log")
            return ()
        try:
            events = self._caused(record, cause, meta, state)
            return list(zip(events, stamp(state, cause, meta.ts_event, events), strict=True))
        except InvalidInput as error:
            self._differs(f"{record.at}: {meta.cause_at} cannot be decided again: {error}")
            return ()

    def _caused(
        self, record: Record[Any], cause: Record[Any], meta: Meta, state: AccountState
    ) -> tuple[AccountEvent, ...]:
        if cause.at.topic != CONTROL.name:
            return decide(state, cause, self._context(record.event, cause, meta))
        if isinstance(record.event, ControlApplied):
            return (ControlApplied(control_offset=cause.at.offset, control_event=type(cause.event).__name__),)
        if isinstance(cause.event, KillSwitchSet) and cause.meta is not None:
            return decide_kill(state, cause.event, cause.meta.event_id)
        return ()

    def _apply_control(self, meta: Meta) -> None:
        cause = self._lookups.at(meta.cause_at)
        if cause is not None:
            self._control = apply_control(self._control, cause.event, cause.at.offset)

    def _context(self, event: AccountEvent, cause: Record[Any], meta: Meta) -> Context:
        """What the desk looked at: time and versions from the event, the rest by the positions that it names."""
        instrument = reference = None
        if isinstance(event, (OrderAuthorized, OrderDenied)):
            instrument = self._lookups.instrument(event.instrument_id, event.instrument_version)
            reference = self._reference(event)
        return Context(
            now_ns=meta.ts_event,
            control=self._control,
            rules=self._rules,
            instrument=instrument,
            reference=reference,
        )

    def _reference(self, event: OrderAuthorized | OrderDenied) -> SeenReference | None:
        """The reference at the position the decision names; where that expired, what the decision copied from it."""
        if not event.reference_at:
            return None
        found = self._lookups.at(event.reference_at)
        if found is not None and isinstance(found.event, Reference):
            return SeenReference(reference=found.event, at=event.reference_at, log_ns=found.log_ns)
        self._decisions.count("references taken from the decision itself")
        copied = Reference(
            instrument_id=event.instrument_id,
            ts_event=event.reference_ts,
            ts_init=event.reference_ts,
            bid_mantissa=_mantissa(event.reference_bid),
            ask_mantissa=_mantissa(event.reference_ask),
            last_mantissa=0,
            price_scale=REFERENCE_SCALE,
            status=ReferenceStatus.LIVE,
            source_at="",
        )
        return SeenReference(reference=copied, at=event.reference_at, log_ns=event.reference_ts)

    def _fold_tail(self, event: AccountEvent, meta: Meta) -> None:
        if self._tail is not None:
            tailed = self._tail.state(meta.account_id)
            if meta.stream_version > tailed.version:
                evolve(tailed, event, meta)

    def _chain(self, account_id: str, remade: bytes) -> None:
        self._chains[account_id] = sha256(self._chains.get(account_id, b"") + remade).digest()

    def _missing(self, where: str, account_id: str, left: deque[Decided]) -> None:
        event, meta = left[0]
        self._differs(
            f"{where}: {meta.cause_at} causes {type(event).__name__} of {account_id} too, which is not in the log"
        )
        left.clear()

    def _differs(self, text: str) -> None:
        """Code of another version may have decided otherwise: that is counted, and is no difference."""
        if self._decided_by == self._code_version:
            self._decisions.differs(text)
        else:
            self._decisions.count("differences of other code, not judged")


def _is_dead_letter(event: AccountEvent, meta: Meta) -> bool:
    """Halted because an input could not be processed, or a control record echoed that nobody can act on: there is nothing
    to decide again."""
    at = parse_position(meta.cause_at)
    if at is None or not isinstance(event, AccountHalted | ControlApplied):
        return False
    earlier = derive_id("event", derive_id("dead-letter", "desk", meta.cause_at))  # how the first desks named it
    return meta.causation_id in (letter_id("desk", at), earlier)


def _mantissa(price: Decimal | None) -> int:
    return int((price or Decimal(0)).scaleb(REFERENCE_SCALE))


def _first_difference(record: Record[Any], meta: Meta, event: AccountEvent, remade: Meta) -> str:
    if type(event) is not type(record.event):
        return f"recorded is {type(record.event).__name__}, {meta.cause_at} decided again gives {type(event).__name__}"
    for stored, again in ((record.event, event), (meta, remade)):
        for name in type(stored).__dataclass_fields__:
            if getattr(stored, name) != getattr(again, name):
                return (
                    f"{type(record.event).__name__}.{name} is {getattr(stored, name)!s}, "
                    f"{meta.cause_at} decided again gives {getattr(again, name)!s}"
                )
    return f"{type(record.event).__name__}: the bytes differ from those that {meta.cause_at} decided again gives"
