"""The desk: the single writer of accounts.

One loop: poll commands and reports, look at control, clock and prices, decide, and commit the events together with the
positions of the inputs as one Kafka transaction. Nothing is open while it thinks. What it knows about accounts is the fold
of their events, so a crash at any point loses nothing: the successor folds to the end and goes on at the committed positions.

Failures: an aborted transaction throws the books away and folds them again. An input on which deciding fails is committed
up to, then retried alone; at its third failure it becomes a dead letter and halts its account, in one transaction.
"""

from __future__ import annotations

import time

from confluent_kafka import Message

from skeet.agents.desk_books import Books
from skeet.agents.desk_inputs import DeskInputs
from skeet.agents.desk_metrics import DeskMetrics
from skeet.agents.desk_outside import Outside
from skeet.agents.desk_snapshots import Snapshots
from skeet.config import Settings
from skeet.core.errors import BugError, InfrastructureError
from skeet.health import HEALTH
from skeet.process import StopSignal, announce_ready, configure_logging, logger
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import DESK_AFTER_COMMIT, DESK_BEFORE_COMMIT, DESK_IN_TRANSACTION, reach
from skeet.streams.kafka import group_name
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, DEAD_LETTERS, REPORTS
from skeet.streams.transactional import BATCH_LIMIT, Encoded, Inputs, TransactionAborted, Transactor, encode

GROUP = "desk"
POLL_S = 0.05
"""The longest a control event waits while no input comes; an input ends the wait at once."""
FAILURES_BEFORE_DEAD_LETTER = 3
ASSIGNMENT_DEADLINE_S = 60.0
"""A desk that got no partitions for this long stands by for another desk, and says that it is ready."""

Place = tuple[str, int, int]


class Desk:
    """One desk process. :meth:`start`, then :meth:`step` until told to stop, then :meth:`close`."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        name = f"desk-{settings.slot}"
        self._settings = settings
        self._name = name
        self._codec = codec
        self._transactor = Transactor(settings, codec, name, DESK_IN_TRANSACTION)
        self._outside = Outside(settings, codec)
        self._books = Books(settings, codec, Snapshots(settings, codec))
        self._metrics = DeskMetrics(self._outside)
        self._deciding = DeskInputs(settings, codec, self._books, self._outside, self._metrics)
        self._inputs: Inputs | None = None
        self._failures: dict[Place, int] = {}
        self._assigned = False

    @property
    def books(self) -> Books:
        """What this desk knows."""
        return self._books

    def start(self) -> None:
        """Fence a predecessor, read control to its end, join the group, and fold what was assigned."""
        self._transactor.open(warm=[ACCOUNT_EVENTS, DEAD_LETTERS])
        self._outside.start()
        self._inputs = Inputs(
            self._settings,
            [COMMANDS, REPORTS],
            group_name(self._settings, GROUP),
            self._name,
            on_assigned=self._take_over,
            on_revoked=self._hand_over,
        )
        deadline = time.monotonic() + ASSIGNMENT_DEADLINE_S
        while not self._assigned and time.monotonic() < deadline:
            self.step()

    def step(self, timeout_s: float = POLL_S) -> int:
        """One poll and, if it brought anything, one transaction. Returns how many inputs were done.

        Raises
        ------
        InfrastructureError
            the process must end: fenced, or the outcome of a commit is unknown.
        """
        if self._inputs is None:
            raise BugError("the desk was not started")
        HEALTH.beat()
        polled = self._inputs.poll(timeout_s, 1 if self._failures else BATCH_LIMIT)
        messages = [m for m in polled if m.partition() in self._books.partitions]  # a rebalance may end inside a poll
        self._outside.poll()
        letters = self._outside.take_letters()
        outs = [*self._deciding.apply_control(), *(encode(self._codec, letter) for letter in letters)]
        done = 0
        for message in messages:
            produced = self._outs_of(message)
            if produced is None:
                break
            outs += produced
            done += 1
        outs += self._deciding.marks()
        if not self._commit(self._inputs, outs, messages[:done]):
            self._outside.return_letters(letters)
        elif done < len(messages):
            self._inputs.rewind()
        self._books.snapshot_due(idle=not polled)
        return done

    def close(self) -> None:
        """Leave snapshots for a quick next start; the positions are already committed."""
        self._books.snapshot_all()
        if self._inputs is not None:
            self._inputs.close()
        self._outside.close()

    def _take_over(self, partitions: list[int]) -> None:
        self._books.fold(partitions)
        self._assigned = True

    def _hand_over(self, partitions: list[int]) -> None:
        self._books.drop(partitions)
        self._failures.clear()

    def _outs_of(self, message: Message) -> list[Encoded] | None:
        """The events of one input; None when it failed and is to be tried again alone."""
        place = (message.topic(), message.partition(), message.offset())
        try:
            outs = self._deciding.outs_of(message)
        except (BugError, InfrastructureError):
            raise
        except Exception as error:
            self._failures[place] = self._failures.get(place, 0) + 1
            logger().exception("input failed", at=place, failures=self._failures[place])
            if self._failures[place] < FAILURES_BEFORE_DEAD_LETTER:
                return None
            outs = self._deciding.dead_letter(message, error)
        self._failures.pop(place, None)
        return outs

    def _commit(self, inputs: Inputs, outs: list[Encoded], messages: list[Message]) -> bool:
        if not outs and not messages:
            return True
        reach(DESK_BEFORE_COMMIT)
        try:
            ends = self._transactor.commit(outs, inputs, messages)
        except TransactionAborted as error:
            logger().warning("aborted: the books are folded again", error=str(error))
            inputs.rewind()
            self._books.fold_again()
            self._metrics.forget()
            return False
        reach(DESK_AFTER_COMMIT)
        self._books.committed(ends)
        self._metrics.committed()
        return True


def main(settings: Settings) -> int:
    """The role ``desk``."""
    configure_logging("desk", settings.log_level)
    stop = StopSignal().install()
    HEALTH.loop("desk")
    desk = Desk(settings, registered_codec(settings))
    try:
        desk.start()
        announce_ready()
        while not stop.stopping:
            desk.step()
        desk.close()
    except InfrastructureError as error:
        logger().error("the desk ends", error=str(error))
        return 1
    return 0
