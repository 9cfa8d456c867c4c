"""The loop of intake and egress: poll, make the records that follow, commit both as one transaction. No state of its own.

Exactly once from topic to topic: after a crash or an abort the inputs are read again and nothing of them is in the log yet.
"""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Message

from skeet.config import Settings
from skeet.health import HEALTH
from skeet.process import StopSignal, logger
from skeet.schemas.codec import Codec
from skeet.streams.crash_points import EGRESS_IN_TRANSACTION, INTAKE_IN_TRANSACTION
from skeet.streams.kafka import group_name
from skeet.streams.topics import Topic
from skeet.streams.transactional import Encoded, Inputs, TransactionAborted, Transactor

POLL_S = 0.2
POINTS = {point.role: point for point in (INTAKE_IN_TRANSACTION, EGRESS_IN_TRANSACTION)}

OutsOf = Callable[[list[Message]], list[Encoded]]
"""What follows from one poll; an exception leaves the inputs unread, and ends the process."""


class Forwarder:
    """One member of the role's group. ``start``, then ``step`` until told to stop, then ``close``."""

    def __init__(self, settings: Settings, codec: Codec, role: str, inputs: Topic, outs_of: OutsOf) -> None:
        self._settings = settings
        self._member = f"{role}-{settings.slot}"
        self._role = role
        self._topic = inputs
        self._outs_of = outs_of
        self._transactor = Transactor(settings, codec, self._member, POINTS.get(role))
        self._inputs: Inputs | None = None

    def start(self) -> None:
        """Fence a predecessor and join the group."""
        self._transactor.open()
        group = group_name(self._settings, self._role)
        self._inputs = Inputs(self._settings, [self._topic], group, self._member)

    def step(self, timeout_s: float = POLL_S) -> int:
        """One poll and, if it brought anything, one transaction. Returns how many inputs were done.

        Raises
        ------
        InfrastructureError
            the process must end: fenced, or the outcome of a commit is unknown.
        """
        assert self._inputs is not None, "not started"
        HEALTH.beat()
        messages = self._inputs.poll(timeout_s)
        if not messages:
            return 0
        try:
            self._transactor.commit(self._outs_of(messages), self._inputs, messages)
        except TransactionAborted as error:
            logger().warning("aborted: the inputs are read again", error=str(error))
            self._inputs.rewind()
            return 0
        return len(messages)

    def run(self, stop: StopSignal, between: Callable[[], object] = lambda: None) -> None:
        """Forward until asked to stop; ``between`` is called before each poll."""
        HEALTH.loop(self._role)
        while not stop.stopping:
            between()
            self.step()

    def close(self) -> None:
        """Leave; positions are committed."""
        if self._inputs is not None:
            self._inputs.close()
