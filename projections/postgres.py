"""The role ``projection-postgres``: account state into PostgreSQL, from the account and control topics alone."""

from __future__ import annotations

from collections.abc import Callable

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH
from skeet.process import StopSignal, configure_logging, logger
from skeet.projections.account_poison import apply_records, let_in
from skeet.projections.messages import note_ends, without_passing_errors
from skeet.projections.postgres_store import AccountStore, Positions
from skeet.projections.sessions import ProjectionAge, ReadyOnce, run_sessions
from skeet.schemas.codec import Codec
from skeet.streams.catching_up import ClientEnds, Progress
from skeet.streams.crash_points import POSTGRES_AFTER_COMMIT, reach
from skeet.streams.door import Door
from skeet.streams.kafka import REBALANCE_MS, close_member, consumer, group_name
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, CONTROL, topic_name

GROUP = "projection-postgres"
INPUTS = (ACCOUNT_EVENTS, CONTROL)
BATCH_RECORDS = 5_000
"""One transaction folds at most this many records: rows are locked briefly, memory is bounded."""
POLL_S = 0.25
FETCH_WAIT_MS = 100
FETCH_BYTES = 64 * 1024
"""The events of one order come within this time: one transaction instead of five, and still fresh to an eye."""

log = logger()


class AccountSession:
    """One membership in the consumer group; begins where the store says, not where the group says."""

    def __init__(
        self, settings: Settings, codec: Codec, store: AccountStore, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        self._settings = settings
        self._store = store
        self._prefix = settings.kafka.topic_prefix
        self._door = Door(settings.kafka, codec)
        self._positions: Positions = {}
        self._on_ready = on_ready
        self._client: Consumer = consumer(
            settings,
            f"{GROUP}-{settings.slot}",
            group_id=group_name(settings, GROUP),
            max_poll_interval_ms=REBALANCE_MS,
            fetch_min_bytes=FETCH_BYTES,
            fetch_wait_max_ms=FETCH_WAIT_MS,
            enable_partition_eof=True,
        )
        self._progress = Progress(group_name(settings, GROUP), ClientEnds(self._client))
        self._age = ProjectionAge(GROUP, self._progress)

    def run(self, stop: StopSignal) -> None:
        """Fold records until asked to stop.

        Raises
        ------
        InfrastructureError
            Kafka or PostgreSQL is away, or another instance moved the position: start another session.
        UnknownEvent
            a newer version wrote an account event: accounts must not be folded past it.
        """
        self._store.migrate()
        names = [topic_name(topic, self._settings.kafka) for topic in INPUTS]
        try:
            self._client.subscribe(names, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            while not stop.stopping:
                HEALTH.beat()
                self._progress.look()
                # One record wakes us, and whatever stands behind it goes along: latency of one, throughput of many.
                first = self._client.poll(POLL_S)
                if first is not None:
                    self._fold([first, *self._client.consume(BATCH_RECORDS - 1, 0)])
        except KafkaException as error:
            raise InfrastructureError(f"Kafka: {error}") from error
        finally:
            self._age.close()
            self._progress.close()
            close_member(self._client)

    def _fold(self, messages: list[Message]) -> None:
        note_ends(messages, self._progress)
        records = [let_in(self._door, message, self._prefix) for message in without_passing_errors(messages)]
        if not records:
            return
        apply_records(self._store, records, self._positions)
        reach(POSTGRES_AFTER_COMMIT)
        self._age.stored(records[-1].log_ns)
        # For whoever watches the group from outside; the store's own position is what counts.
        ends = {(record.at.topic, record.at.partition): record.at.offset + 1 for record in records}
        offsets = [TopicPartition(self._prefix + topic, partition, end) for (topic, partition), end in ends.items()]
        self._client.commit(offsets=offsets, asynchronous=True)

    def _assigned(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        stored = self._store.positions()
        for partition in partitions:
            at = (partition.topic.removeprefix(self._prefix), partition.partition)
            self._positions[at] = partition.offset = stored.get(at, 0)
        self._progress.assigned((partition.topic, partition.partition) for partition in partitions)
        client.assign(partitions)
        log.info("partitions assigned", count=len(partitions))
        self._on_ready()

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._progress.revoked((partition.topic, partition.partition) for partition in partitions)


def main(settings: Settings) -> int:
    """Fold until SIGTERM. Away stores are waited for; returns 0 after draining."""
    configure_logging("projection-postgres", settings.log_level)
    stop, ready = StopSignal().install(), ReadyOnce()

    def session() -> None:
        store = AccountStore(settings)
        try:
            AccountSession(settings, registered_codec(settings), store, ready).run(stop)
        finally:
            store.close()

    return run_sessions(stop, session)
