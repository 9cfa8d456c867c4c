"""What operators decide: genesis, kill switch, limits, the life of strategies (``control.events.v1``, one partition)."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from skeet.core.record import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Genesis(Event):
    """Offset 0 of the control topic: what can never change afterwards. A start with other values is refused."""

    account_partitions: int
    market_partitions: int
    partitioner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillSwitchSet(Event):
    """``scope`` is ``platform``, ``tenant:ID`` or ``account:ID``. Active: no new orders leave; open ones are canceled
    when ``cancel_open``."""

    scope: str
    active: bool
    cancel_open: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsSet(Event):
    """Limits of a scope (``platform``, ``tenant:ID``, ``account:ID``); the tightest wins. None leaves one unlimited."""

    scope: str
    version: int
    max_quantity: Decimal | None
    max_notional: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyStarted(Event):
    """Run an instance: ``strategy`` is ``module:Class`` or an entry point's name, ``parameters`` its JSON object.

    ``code_version`` is the SHA-256 of sources and parameters at the time of starting.
    """

    instance_id: str
    strategy: str
    instrument_id: str
    parameters: str
    code_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyStopped(Event):
    instance_id: str
    reason: str
    cancel_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyHalted(Event):
    """An error in a handler halted the instance: where and what. A new StrategyStarted runs it again."""

    instance_id: str
    handler: str
    file: str
    line: int
    error: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionMark(Event):
    """An operator's mark in the log (the end of a demo, the start of a session)."""

    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter(Event):
    """A record nobody could read: where it stood, its bytes, and why (``dead-letters.v1``).

    ``value`` is cut off where it is long; ``size`` is the length of the whole (0: as long as ``value``).
    """

    role: str
    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    cause: str
    size: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterRedriven(Event):
    """The original bytes of a dead letter were sent again, to their topic and key, in the transaction that wrote this.

    ``topic``, ``partition`` and ``offset`` are those of the original: every letter about it is answered by this.
    """

    topic: str
    partition: int
    offset: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountSnapshot(Event):
    """The state of one account after its event ``version`` and of its partition up to ``next_offset`` (excluded).

    ``state`` is opaque bytes of the desk, valid only for the same ``code_version``; ``state_hash`` is its SHA-256.
    """

    partition: int
    next_offset: int
    code_version: str
    state_hash: str
    state: bytes
