"""Work done in a process of its own that dies at a crash point, as ``SIGKILL`` would have it."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.synchronize import Event

from skeet.config import ChaosSettings, Settings
from skeet.streams.crash_points import CrashPoint, chaos_directory, install

DEADLINE_S = 60.0


def exit_code_of(settings: Settings, work: Callable[[Settings], None]) -> int | None:
    """How a new process ended that did this work; None when it did not end in time."""
    process = multiprocessing.get_context("spawn").Process(target=work, args=(settings,))
    process.start()
    process.join(DEADLINE_S)
    ended = process.exitcode
    process.kill()
    return ended


def die_at(point: CrashPoint, settings: Settings, work: Callable[[Settings], None]) -> None:
    """Run ``work`` in a new process with the point armed, and require that it died there.

    ``work`` is a function of a module that the new process can import.
    """
    armed = settings.model_copy(update={"chaos": ChaosSettings(enabled=True, crash_at=point.name)})
    process = multiprocessing.get_context("spawn").Process(target=_armed, args=(armed, work))
    process.start()
    process.join(DEADLINE_S)
    assert process.exitcode == -signal.SIGKILL, f"{point.name} was not reached: exit code {process.exitcode}"
    assert chaos_directory(settings).spent_by(point.name) == process.pid


@contextmanager
def a_member_that_stops_polling(settings: Settings) -> Iterator[None]:
    """One of the account projection's group that was assigned its partitions, and from then on only sends heartbeats.

    In a process of its own, which is killed: to close such a client may wait for ever inside librdkafka.
    """
    context = multiprocessing.get_context("spawn")
    assigned = context.Event()
    process = context.Process(target=_stop_polling, args=(settings, assigned))
    process.start()
    try:
        assert assigned.wait(DEADLINE_S), "the member was assigned nothing"
        yield
    finally:
        process.kill()
        process.join(DEADLINE_S)


def _stop_polling(settings: Settings, assigned: Event) -> None:
    from skeet.projections import postgres
    from skeet.projections.postgres_store import AccountStore
    from skeet.streams.registry import registered_codec
    from skeet.streams.topics import ACCOUNT_EVENTS, topic_name

    vars(postgres).update(REBALANCE_MS=10_000)
    client = postgres.AccountSession(settings, registered_codec(settings), AccountStore(settings))._client
    client.subscribe([topic_name(ACCOUNT_EVENTS, settings.kafka)])
    while not client.assignment():
        client.poll(0.1)
    assigned.set()
    threading.Event().wait()


def _armed(settings: Settings, work: Callable[[Settings], None]) -> None:
    install(settings)
    work(settings)


def store_history_with_a_commit_that_hangs(settings: Settings) -> None:
    """The ClickHouse projection on a client whose commits never return."""
    from skeet.process import StopSignal
    from skeet.projections import history_writer
    from skeet.projections.clickhouse_store import HistoryStore
    from skeet.streams.batches.client import ChunkClient
    from skeet.streams.registry import registered_codec

    class Hanging(ChunkClient):
        def commit(self, _: object) -> None:
            threading.Event().wait()

    vars(history_writer).update(ChunkClient=Hanging, COMMIT_HANGS_S=0.5)
    history_writer.HistorySession(settings, registered_codec(settings), HistoryStore(settings)).run(StopSignal())


def seal_everything(settings: Settings) -> None:
    """What ``skeet archive seal`` does."""
    from skeet.projections.archive import Keeper
    from skeet.projections.archive_sealing import Archive
    from skeet.projections.clickhouse_store import HistoryStore
    from skeet.streams.registry import registered_codec

    archive = Archive(settings)
    archive.seal(archive.ranges(), all_of_it=True)
    store = HistoryStore(settings)
    archive.prove(lambda: store)
    archive.announce(Keeper(settings, registered_codec(settings), archive).announce)
