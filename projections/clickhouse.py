"""The role ``projection-clickhouse``: the history of all history topics into ClickHouse."""

from __future__ import annotations

from skeet.config import Settings
from skeet.process import StopSignal, configure_logging
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.history_rebuild import finish_interrupted_replacement
from skeet.projections.history_writer import HistorySession
from skeet.projections.sessions import ReadyOnce, run_sessions
from skeet.streams.registry import registered_codec


def main(settings: Settings) -> int:
    """Copy until SIGTERM. Away stores are waited for; returns 0 after draining."""
    configure_logging("projection-clickhouse", settings.log_level)
    stop, ready = StopSignal().install(), ReadyOnce()

    def session() -> None:
        finish_interrupted_replacement(settings)
        store = HistoryStore(settings)
        try:
            HistorySession(settings, registered_codec(settings), store, ready).run(stop)
        finally:
            store.close()

    return run_sessions(stop, session)
