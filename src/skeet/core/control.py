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

    ``code_version`` is the SHA-256 of sources and parameters at the time of starting. Of a pushed strategy, ``artefact`` is
    the SHA-256 of its sources and ``version`` the number they were pushed under (0: by ``skeet dev``, unnumbered).
    ``on_halt`` says what becomes of its open orders after a halt: ``cancel`` or ``leave``.
    """

    instance_id: str
    strategy: str
    instrument_id: str
    parameters: str
    code_version: str
    on_halt: str = "cancel"
    artefact: str = ""
    version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyStopped(Event):
    instance_id: str
    reason: str
    cancel_open: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyHalted(Event):
    """The instance was halted: where and what. A new StrategyStarted runs it again.

    ``reason`` is ``error`` (a handler raised), ``time``, ``memory``, ``cpu``, ``flood`` (a limit was exceeded) or ``ends`` (its
    process kept ending). ``file`` is empty and ``line`` 0 where no place in its code is known.
    """

    instance_id: str
    handler: str
    file: str
    line: int
    error: str
    reason: str = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class StrategyPushed(Event):
    """Sources were stored as ``version`` of ``strategy``; the first event of a version holds. ``artefact`` is their SHA-256,
    ``size`` their bytes (in ``strategies.artefacts.v1``), ``files`` how many they are."""

    strategy: str
    version: int
    artefact: str
    size: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtefactStored(Event):
    """One part of an artefact's bytes, compressed with zlib as a whole; ``part`` counts from 0 to ``parts`` - 1."""

    artefact: str
    part: int
    parts: int
    payload: bytes


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
