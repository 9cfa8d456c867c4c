"""The role ``archive``: watches the disks, stops and resumes market ingest, seals market records and lets them leave the log.

Looking at the disks needs Kafka only, and goes on while ClickHouse is away; then nothing is proven, so nothing leaves the log.
"""

from __future__ import annotations

import fcntl
import platform
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.core.ids import derive_id
from skeet.core.platform import IngestResumed, IngestStopped, SegmentSealed
from skeet.core.record import Event, Meta, Out
from skeet.core.retention import DiskUse, excess, sealing_is_due, stop_reason
from skeet.core.values import AccountId, EventId, PrincipalId, TenantId
from skeet.health import HEALTH
from skeet.process import StopSignal, configure_logging, logger
from skeet.projections.archive_files import Manifest, segment_path
from skeet.projections.archive_sealing import Archive, is_proven
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.disk_use import look, partition_bytes
from skeet.projections.sessions import ReadyOnce, run_sessions
from skeet.schemas.codec import Codec
from skeet.streams.ingest_gate import IngestGate
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.registry import registered_codec
from skeet.streams.topics import PLATFORM_EVENTS

ROLE = "archive"
LOCK_NAME = "lock"
KEY_NAME = "disk-key"

log = logger()


class Keeper:
    """One machine's keeper of disks. Not thread-safe; a failure of Kafka or the disk ends it, another is made."""

    def __init__(self, settings: Settings, codec: Codec, archive: Archive) -> None:
        self._settings = settings
        self._codec = codec
        self._archive = archive
        self._publisher = Publisher(settings, codec, producer(settings, ROLE))
        self.key = disk_key(archive.root)
        self.stopped = self._last_word()

    def step(self) -> DiskUse:
        """Look once and do what is due. Returns what was seen."""
        use = look(self._settings, {}, {})
        self._gate(use)
        # Below half of the budget this is all: the broker is not even asked.
        ranges = self._archive.ranges() if sealing_is_due(use) else {}
        self._archive.seal(ranges)
        self._prove()
        self._archive.announce(self.announce)
        if excess(use):
            starts, ends = ({place: span[side] for place, span in ranges.items()} for side in (0, 1))
            use = look(self._settings, starts, ends)
            self._archive.expire(excess(use), ranges, partition_bytes(self._settings))
        return use

    def announce(self, manifest: Manifest) -> None:
        """Write SegmentSealed; acknowledged when it returns."""
        event = SegmentSealed(
            topic=manifest.topic,
            partition=manifest.partition,
            first_offset=manifest.first_offset,
            next_offset=manifest.next_offset,
            records=manifest.records,
            checksum=str(manifest.record_crc),
            path=str(segment_path(self._archive.root, manifest)),
        )
        self._write(event, derive_id("segment-sealed", manifest.stem))

    def _gate(self, use: DiskUse) -> None:
        reason = stop_reason(use, stopped=self.stopped)
        if bool(reason) == self.stopped:
            return
        now_ns = time.time_ns()
        event = (
            IngestStopped(used=use.used, budget=use.budget, reason=reason)
            if reason
            else IngestResumed(used=use.used, budget=use.budget)
        )
        self._write(event, derive_id("ingest", self.key, str(now_ns)))
        self.stopped = bool(reason)
        log.warning("market ingest", stopped=self.stopped, reason=reason, used=use.used, budget=use.budget)

    def _prove(self) -> None:
        if all(is_proven(manifest) for manifest in self._archive.segments):
            return
        try:
            store = HistoryStore(self._settings)
            try:
                self._archive.prove(lambda: store)
            finally:
                store.close()
        except InfrastructureError as error:
            # Without ClickHouse nothing is proven and nothing leaves; the disks are watched all the same.
            log.warning("sealed segments wait for ClickHouse", error=str(error))

    def _write(self, event: Event, identity: EventId) -> None:
        meta = _meta(identity, time.time_ns())
        self._publisher.send([Out(topic=PLATFORM_EVENTS.name, key=self.key, event=event, meta=meta)])
        self._publisher.flush()

    def _last_word(self) -> bool:
        """Whether the last that the log heard of these disks was that ingest stopped."""
        gate = IngestGate(self._settings, self._codec)
        try:
            gate.catch_up()
            return gate.stopped(self.key)
        finally:
            gate.close()


def disk_key(root: Path) -> str:
    """Names these disks in ``platform.events.v1``: several machines stop and resume each for itself.

    Kept in the archive's directory, because a container has another host name after every start.
    """
    path = root / KEY_NAME
    if not path.exists():
        root.mkdir(parents=True, exist_ok=True)
        path.write_text(f"disk:{platform.node()}:{uuid.uuid4().hex[:8]}")
    return path.read_text().strip()


@contextmanager
def locked(root: Path) -> Iterator[None]:
    """Hold the archive for this process.

    Raises
    ------
    InfrastructureError
        another process works on it, or the directory cannot be written.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = (root / LOCK_NAME).open("w")
    except OSError as error:
        raise InfrastructureError(f"archive {root} cannot be written: {error.strerror}") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise InfrastructureError(f"another process works on the archive {root} (the role `archive`?)") from None
        yield


def keep(settings: Settings, stop: StopSignal, on_ready: Callable[[], None] = lambda: None) -> None:
    """Look at the disks until asked to stop; raises InfrastructureError when Kafka or a disk is away."""
    with locked(settings.archive_dir):
        codec = registered_codec(settings)
        keeper = Keeper(settings, codec, Archive(settings))
        while not stop.stopping:
            keeper.step()
            HEALTH.beat()
            on_ready()
            stop.wait(settings.archive.interval_s)


def main(settings: Settings) -> int:
    """Keep this machine's disks until SIGTERM."""
    configure_logging(ROLE, settings.log_level)
    stop, ready = StopSignal().install(), ReadyOnce()
    return run_sessions(stop, lambda: keep(settings, stop, ready))


def _meta(identity: EventId, now_ns: int) -> Meta:
    return Meta(
        event_id=identity,
        tenant_id=TenantId(""),
        account_id=AccountId(""),
        principal_id=PrincipalId(ROLE),
        correlation_id=identity,
        causation_id=identity,
        cause_at="",
        ts_event=now_ns,
        ts_init=now_ns,
    )
