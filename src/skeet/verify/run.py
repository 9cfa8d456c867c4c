"""All checks over one reading of the log."""

from __future__ import annotations

import time
from collections.abc import Callable

from skeet.config import Settings
from skeet.verify.books import Books
from skeet.verify.columns import TABLE_OF_TOPIC
from skeet.verify.findings import Report
from skeet.verify.history import History
from skeet.verify.invariants import Ledger, Streams
from skeet.verify.log import Entry, Log
from skeet.verify.read_tables import ACCOUNT_EVENTS, CONTROL_EVENTS, ReadTables
from skeet.verify.venue import check_venue

PROGRESS_EVERY = 5_000


def verify(settings: Settings, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Run every check. The stores' positions are taken first, so that the log is then read at least that far.

    Raises
    ------
    CannotVerify
        the log or a store cannot be read at all.
    """
    begun = time.perf_counter()
    log = Log(settings)
    tables, history = ReadTables(settings), History(settings, log)
    streams, ledger, books = Streams(), Ledger(), Books()
    records = 0

    def accounts(entry: Entry) -> None:
        streams.add(entry)
        if entry.schema is not None:
            ledger.add(entry)
            books.add(entry)

    for entry in log.read(log.places(TABLE_OF_TOPIC)):
        records += 1
        if records % PROGRESS_EVERY == 0:
            progress(records)
        history.add(entry)
        if entry.topic == ACCOUNT_EVENTS:
            accounts(entry)
        if entry.topic in (ACCOUNT_EVENTS, CONTROL_EVENTS):
            tables.add(entry)
    progress(records)
    reading_s = time.perf_counter() - begun
    checks = [streams.finish(), ledger.finish(books)]
    for check, finish in ((tables.check, tables.finish), (history.check, history.finish)):
        with check.timed():
            finish()
    executed, state = check_venue(settings, log)
    for check in checks:
        check.covers, check.duration_s = "the whole log", reading_s
    ordered = (checks[0], executed, checks[1], tables.check, history.check, state)
    return Report(checks=ordered, records=records, duration_s=time.perf_counter() - begun)
