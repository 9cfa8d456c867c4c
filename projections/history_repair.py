"""What the engine lost: parts of tables that nobody can read any more, and the history made again from log and archive.

A disk that is full while the engine merges can leave a merged part whose files are empty, its sources gone (seen with
engine 26.9). Whatever reads the table fails from then on. So such parts are put aside, and reading and writing go on without
their rows; and while a part lies aside, which the store itself remembers, the history is rebuilt beside it and takes its place.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.process import StopSignal, logger
from skeet.projections.clickhouse_store import HistoryStore, quoted
from skeet.projections.history_rebuild import carry_over_expired, mark_complete, rebuild_beside
from skeet.projections.history_writer import GROUP
from skeet.schemas.codec import Codec

RETRY_S = 30.0
"""A rebuild that broke off (a store was away) begins again after this."""

log = logger()


def put_damaged_aside(store: HistoryStore, beat: Callable[[], None] = lambda: None) -> None:
    """Read every part of every table, and detach those that are not what was written; ``beat`` is called between parts.

    Raises
    ------
    InfrastructureError
        the engine is away.
    """
    active = "SELECT table, name FROM system.parts WHERE active AND database = {name:String} ORDER BY 1, 2"
    for table, part in store.rows(active, {"name": store.database}):
        beat()
        check = f"CHECK TABLE {quoted(table)} PART '{part}' SETTINGS check_query_single_value_result = 0"
        wrong = [message for _, passed, message in store.rows(check) if not int(passed)]
        if wrong:
            log.error("a part cannot be read and is put aside", table=table, part=part, cause=wrong[0])
            store.command(f"ALTER TABLE {quoted(table)} DETACH PART '{part}'")


def parts_aside(store: HistoryStore) -> list[str]:
    """Parts whose rows are missing: put aside by us or by hand, or found broken by the engine when it started."""
    found = store.rows(
        "SELECT table, name FROM system.detached_parts WHERE database = {name:String} "
        "AND (reason = '' OR startsWith(reason, 'broken')) ORDER BY 1, 2",
        {"name": store.database},
    )
    return [f"{table}/{part}" for table, part in found]


class Repair:
    """Rebuilds the history beside the one in use, in a thread, while parts of it lie aside; the session swaps them."""

    def __init__(self, settings: Settings, codec: Codec, stop: StopSignal) -> None:
        self._settings = settings
        self._codec = codec
        self._stop = stop
        self._thread: threading.Thread | None = None

    def begin_if_due(self) -> None:
        """Look in the background, and rebuild if something is missing. To be called by a member of the projection's group."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="repair", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while not self._stop.stopping:
            try:
                self._repair()
                return
            except InfrastructureError as error:
                log.warning("the repair of the history broke off", error=str(error), again_in_s=RETRY_S)
                self._stop.wait(RETRY_S)

    def _repair(self) -> None:
        store = HistoryStore(self._settings)
        try:
            aside = parts_aside(store)
        finally:
            store.close()
        if not aside:
            return
        # Here: they load half of the package, and next to no process ever comes here.
        from skeet.projections.rebuilding import covered, members

        if members(self._settings, GROUP) > 1:
            log.error("rows are missing; stop all but one projection of ClickHouse, which then rebuilds", parts=aside)
            return
        log.warning("rows are missing: the history is rebuilt beside", parts=aside)
        rebuilt = rebuild_beside(self._settings, self._codec)
        carried = carry_over_expired(self._settings, rebuilt)
        mark_complete(rebuilt)
        rebuilt.close()
        log.info(f"the history is rebuilt{covered(self._settings)}", carried_over=carried)
