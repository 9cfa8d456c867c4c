"""The accounts of the partitions this desk owns: folded from the log, and nothing else is known about them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confluent_kafka import Message

from skeet.agents.desk_snapshots import Snapshots, partition_account
from skeet.config import Settings
from skeet.core.account_snapshot import account_digest, memory_hash
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import AccountEvent, StateMarked
from skeet.core.errors import BugError, DecodeError, InfrastructureError, MisplacedRecord, UnknownEvent
from skeet.core.record import Meta
from skeet.core.values import exact_arithmetic
from skeet.process import logger
from skeet.schemas.codec import Codec
from skeet.streams.door import Door
from skeet.streams.reading import Partition, messages_until_end, written_offsets
from skeet.streams.topics import ACCOUNT_EVENTS, topic_name

MARK_EVERY = 500
"""Events of a partition between two StateMarked: what a replay finds wrong, it finds within this many events."""
BUSY_FACTOR = 2
"""A desk that never rests takes its snapshots this many times later."""


@dataclass(slots=True, kw_only=True)
class PartitionBooks:
    """Accounts of one partition up to ``next_offset`` (excluded) of ``accounts.events.v1``.

    ``event_count`` is how many events the partition holds, of all its accounts. ``digests`` are of the accounts' memory,
    each with the version it was taken at.
    """

    next_offset: int = 0
    event_count: int = 0
    digests: dict[str, tuple[int, str]] = field(default_factory=dict)
    states: dict[str, AccountState] = field(default_factory=dict)
    events_since_snapshot: int = 0
    written: dict[str, int] = field(default_factory=dict)


class Books:
    """All owned partitions. States are changed in place by :meth:`apply`, before the commit; an abort folds again."""

    def __init__(self, settings: Settings, codec: Codec, snapshots: Snapshots) -> None:
        self._settings = settings
        self._codec = codec
        self._snapshots = snapshots
        self._topic = topic_name(ACCOUNT_EVENTS, settings.kafka)
        self._door = Door(settings.kafka, codec)
        self._owned: dict[int, PartitionBooks] = {}

    @property
    def partitions(self) -> tuple[int, ...]:
        """The partitions owned now."""
        return tuple(self._owned)

    def fold(self, partitions: Iterable[int]) -> None:
        """Read these partitions from their snapshots, or the beginning, to their end.

        The end is that of everything written: a transaction that an earlier owner committed and that the broker is still
        finishing is waited for.
        """
        fresh = {partition: self._restored(partition) for partition in partitions}
        ends = written_offsets(self._settings, [(self._topic, partition) for partition in fresh])
        start: dict[Partition, int] = {(self._topic, number): books.next_offset for number, books in fresh.items()}
        with exact_arithmetic():
            for message in messages_until_end(self._settings, list(start), start, ends):
                books = fresh[message.partition()]
                books.next_offset = message.offset() + 1
                try:
                    record = self._door.message(message)
                except (DecodeError, MisplacedRecord) as error:
                    # Not ours: a desk writes whole records or none. One of ours that is gone shows as a hole below.
                    logger().error("no event of an account: left out", at=_place(message), cause=str(error))
                    continue
                except UnknownEvent as error:
                    raise InfrastructureError(f"{_place(message)}: {error}; run the version that wrote it") from error
                if record.meta is not None and isinstance(record.event, AccountEvent):
                    _fold_one(books, record.event, record.meta)
        for number, books in fresh.items():
            logger().info("folded", partition=number, accounts=len(books.states), next_offset=books.next_offset)
        self._owned.update(fresh)

    def drop(self, partitions: Iterable[int]) -> None:
        """Forget partitions that another desk owns now."""
        for partition in partitions:
            self._owned.pop(partition, None)

    def fold_again(self) -> None:
        """After an abort: throw away what was derived, and read the log."""
        self.fold(self.partitions)

    def state(self, partition: int, account_id: str) -> AccountState:
        """The account's state; that of one nobody has opened is empty."""
        states = self._owned[partition].states
        found = states.get(account_id)
        if found is None:
            found = states[account_id] = AccountState(account_id=account_id)
        return found

    def known(self, partition: int, account_id: str) -> AccountState | None:
        """The account's state, if anything ever happened to it; asking makes none."""
        return self._owned[partition].states.get(account_id)

    def states(self, partition: int) -> tuple[AccountState, ...]:
        """Every account of the partition, without its pseudo-account."""
        return tuple(s for s in self._owned[partition].states.values() if s.account_id != partition_account(partition))

    def apply(self, partition: int, event: AccountEvent, meta: Meta) -> None:
        """Take one decided event in."""
        books = self._owned[partition]
        evolve(self.state(partition, meta.account_id), event, meta)
        books.events_since_snapshot += 1
        books.event_count += 1

    def mark(self, partition: int, reason: str) -> StateMarked:
        """What this desk remembers of the partition now; only accounts that changed since the last mark are serialised."""
        books = self._owned[partition]
        for state in books.states.values():
            taken_at, _ = books.digests.get(state.account_id, (0, ""))
            if state.version != taken_at:
                books.digests[state.account_id] = (state.version, account_digest(state))
        digests = {account_id: digest for account_id, (_, digest) in books.digests.items()}
        return StateMarked(
            marked_events=books.event_count,
            account_count=len(digests),
            state_hash=memory_hash(digests),
            reason=reason,
        )

    def mark_due(self, partition: int) -> bool:
        """Whether :data:`MARK_EVERY` events came since the partition's last mark."""
        last = self.state(partition, partition_account(partition)).marked_events
        return self._owned[partition].event_count - last >= MARK_EVERY

    def committed(self, ends: Mapping[Partition, int]) -> None:
        """A transaction is in the log: note the new ends."""
        for number, books in self._owned.items():
            books.next_offset = max(books.next_offset, ends.get((self._topic, number), 0))

    def snapshot_due(self, *, idle: bool) -> None:
        """Write the snapshots that are due: in an idle moment, or without one when twice as much has happened.

        Serialising an account of a thousand remembered orders takes 20 ms, which an order should not wait for.
        """
        due = self._settings.desk.snapshot_every * (1 if idle else BUSY_FACTOR)
        for number, books in self._owned.items():
            if books.events_since_snapshot >= due:
                self._snapshot(number, books)

    def snapshot_all(self) -> None:
        """Write what changed, so that the next start has little to fold."""
        for number, books in self._owned.items():
            if books.events_since_snapshot:
                self._snapshot(number, books)
        self._snapshots.flush()

    def _snapshot(self, number: int, books: PartitionBooks) -> None:
        books.events_since_snapshot = 0
        live = [state for state in books.states.values() if state.version]
        self._snapshots.write(number, books.next_offset, live, books.written)

    def _restored(self, partition: int) -> PartitionBooks:
        restored = self._snapshots.read(partition)
        written = {account_id: state.version for account_id, state in restored.states.items()}
        return PartitionBooks(
            next_offset=restored.next_offset,
            event_count=sum(written.values()),
            states=restored.states,
            written=written,
        )


def _place(message: Message) -> str:
    return f"{message.topic()}/{message.partition()}/{message.offset()}"


def _fold_one(books: PartitionBooks, event: AccountEvent, meta: Meta) -> None:
    """One event of the log; those that a snapshot already holds are passed over.

    Raises
    ------
    BugError
        the account's stream has a hole: somebody else than the desk wrote, or the log lost a record.
    """
    state = books.states.get(meta.account_id)
    if state is None:
        state = books.states[meta.account_id] = AccountState(account_id=meta.account_id)
    if meta.stream_version <= books.written.get(meta.account_id, 0):
        return
    if meta.stream_version != state.version + 1:
        raise BugError(f"{meta.account_id}: event {meta.stream_version} follows {state.version}; expected no hole")
    evolve(state, event, meta)
    books.events_since_snapshot += 1
    books.event_count += 1
