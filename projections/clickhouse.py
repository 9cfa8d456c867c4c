"""The role ``projection-clickhouse``: the history of all history topics into ClickHouse."""

from __future__ import annotations

from collections.abc import Callable

from skeet.config import Settings
from skeet.core.errors import Damaged
from skeet.health import HEALTH
from skeet.process import StopSignal, configure_logging
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_rebuild import finish_interrupted_replacement
from skeet.projections.history_repair import Repair, put_damaged_aside
from skeet.projections.history_writer import HistorySession
from skeet.projections.sessions import ReadyOnce, run_sessions
from skeet.schemas.codec import Codec
from skeet.streams.registry import registered_codec


def main(settings: Settings) -> int:
    """Copy until SIGTERM. Away stores are waited for, damaged ones repaired; returns 0 after draining."""
    configure_logging("projection-clickhouse", settings.log_level)
    stop, ready = StopSignal().install(), ReadyOnce()
    codec = registered_codec(settings)
    repair = Repair(settings, codec, stop)
    return run_sessions(stop, lambda: session(settings, codec, repair, stop, ready))


def session(
    settings: Settings, codec: Codec, repair: Repair, stop: StopSignal, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Copy until asked to stop, or to the first error.

    Raises
    ------
    InfrastructureError
        begin another session; what the engine could not read any more is put aside by then.
    """

    def assigned() -> None:
        on_ready()
        repair.begin_if_due()

    finish_interrupted_replacement(settings)
    store = HistoryStore(settings)
    try:
        HistorySession(settings, codec, store, assigned).run(stop)
    except Damaged:
        put_damaged_aside(store, HEALTH.beat)
        raise
    finally:
        store.close()
