"""What a running agent writes about itself: its merge order before its outputs, its checkpoints after them.

:class:`JournalWriter` makes the records and decides when; the host sends them (see :mod:`skeet.streams.outbox`): an entry
first, the outputs that it covers once it is acknowledged, a checkpoint once all outputs before it are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from skeet.core.errors import InvalidInput
from skeet.core.ids import derive_id
from skeet.core.journal import AgentCheckpointed, JournalBegun, JournalOpened, MergeOrder, MergeRecorded
from skeet.core.record import Event, Meta, Out
from skeet.core.values import AccountId, PrincipalId, TenantId
from skeet.process import logger
from skeet.streams.topics import CHECKPOINTS, JOURNAL

CHECKPOINT_EVERY_S = 5.0
"""What a restart steps again is at most this much and what came while it was away."""
CHECKPOINT_MAX_BYTES = 900_000
"""Under Kafka's megabyte for a record. A larger state is not checkpointed: its restart follows an older one, or begins
afresh."""
ENTRY_MAX_RUNS = 5_000
"""An agent that has nothing to say still writes its order down in time: 5,000 runs are about 200 kB."""

EncodeState = Callable[[Any], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentIdentity:
    """Whose journal: the agent, on whose behalf, which start (``epoch``), which code."""

    agent_id: str
    tenant_id: TenantId
    account_id: AccountId
    epoch: int
    code_version: str

    def out(self, topic: str, event: Event, *parts: str | int) -> Out[Any]:
        """The event as a record of this agent; ``parts`` make its id."""
        event_id = derive_id(type(event).__name__, self.agent_id, *parts)
        meta = Meta(
            event_id=event_id,
            tenant_id=self.tenant_id,
            account_id=self.account_id,
            principal_id=PrincipalId(f"strategy:{self.agent_id}"),
            correlation_id=event_id,
            causation_id=event_id,
            cause_at="",
            ts_event=0,
            ts_init=0,
        )
        return Out(topic=topic, key=self.agent_id, event=event, meta=meta)

    def opened(self, process: str) -> Out[Any]:
        """The record whose offset becomes the owner's token; ``process`` tells one start from another."""
        event = JournalOpened(agent_id=self.agent_id, epoch=self.epoch, code_version=self.code_version)
        return self.out(JOURNAL.name, event, process)

    def begun(self, owner: int, **fields: Any) -> Out[Any]:
        """The record that a life begins with; ``fields`` are those of JournalBegun."""
        event = JournalBegun(
            agent_id=self.agent_id, epoch=self.epoch, owner=owner, code_version=self.code_version, **fields
        )
        return self.out(JOURNAL.name, event, owner)


class JournalWriter:
    """One owner's writing. ``next_sequence`` goes on where the owner before ended; ``journal_offset`` is where that was."""

    def __init__(
        self, identity: AgentIdentity, owner: int, next_sequence: int, journal_offset: int, encode_state: EncodeState
    ) -> None:
        self._identity = identity
        self._owner = owner
        self._next_sequence = next_sequence
        self._journal_offset = journal_offset
        self._encode_state = encode_state
        self._order = MergeOrder()
        self._on_their_way: deque[int] = deque()
        self._awaited: dict[int, int] = {}
        """Where the newest entry before a checkpoint stands, until that is sent; by its number."""
        self._checkpointed = next_sequence - 1
        self._warned = False

    @property
    def full(self) -> bool:
        """Whether the order must be written down although nothing came of it."""
        return len(self._order) >= ENTRY_MAX_RUNS

    def merged(self, topic: str, partition: int, offset: int) -> None:
        """The agent was given this record next."""
        self._order.add(topic, partition, offset)

    def entry(self) -> Out[Any] | None:
        """What was merged since the last entry, to be acknowledged before anything that came of it; None: nothing."""
        runs = self._order.take()
        if not runs:
            return None
        sequence, self._next_sequence = self._next_sequence, self._next_sequence + 1
        own = self._identity
        event = MergeRecorded(agent_id=own.agent_id, epoch=own.epoch, owner=self._owner, sequence=sequence, runs=runs)
        self._on_their_way.append(sequence)
        return own.out(JOURNAL.name, event, self._owner, sequence)

    def acknowledged(self, offset: int) -> None:
        """The oldest entry on its way stands at this offset of the journal."""
        self._journal_offset = offset
        sequence = self._on_their_way.popleft()
        if sequence in self._awaited:
            self._awaited[sequence] = offset

    def checkpoint(self, state: Any, positions: Mapping[str, int]) -> Callable[[], Out[Any]] | None:
        """The checkpoint after the newest entry, made when it is sent; None when nothing was merged since the last one,
        or the state cannot be written down."""
        sequence = self._next_sequence - 1
        content = self._state_bytes(state) if sequence != self._checkpointed else b""
        if not content:
            return None
        self._checkpointed = sequence
        # Its own entry's place: by the time it is sent, later entries may stand in the log that it does not cover.
        self._awaited[sequence] = self._journal_offset
        own = self._identity

        def made() -> Out[Any]:
            event = AgentCheckpointed(
                agent_id=own.agent_id,
                epoch=own.epoch,
                owner=self._owner,
                sequence=sequence,
                journal_offset=self._awaited.pop(sequence),
                code_version=own.code_version,
                positions=dict(positions),
                state=content,
            )
            return own.out(CHECKPOINTS.name, event, self._owner, sequence)

        return made

    def _state_bytes(self, state: Any) -> bytes:
        try:
            content = self._encode_state(state)
        except InvalidInput as error:
            return self._not_checkpointed(str(error))
        if len(content) > CHECKPOINT_MAX_BYTES:
            return self._not_checkpointed(f"its state is {len(content):,} bytes, the limit {CHECKPOINT_MAX_BYTES:,}")
        return content

    def _not_checkpointed(self, reason: str) -> bytes:
        if not self._warned:
            logger().warning("no checkpoint", agent=self._identity.agent_id, reason=reason)
            self._warned = True
        return b""
