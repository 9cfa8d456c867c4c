"""The compiled fold of quotes and trades into references, and the arrays that it folds in.

It stops before the first row that is unusual; :class:`skeet.agents.reference.ReferenceAgent` takes that one, and says what a
reference is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from skeet.agents.reference import INTERVAL_NS
from skeet.core.market import ReferenceStatus

WATCHED = np.dtype(
    [
        ("bid", np.int64),
        ("ask", np.int64),
        ("last", np.int64),
        ("scale", np.int64),
        ("published_ns", np.int64),
        ("change_ts_event", np.int64),
        ("change_ts_init", np.int64),
        ("change_topic", np.int64),
        ("change_partition", np.int64),
        ("change_offset", np.int64),
        ("status", np.int64),
        ("published_status", np.int64),
        ("known", np.bool_),
        ("stale", np.bool_),
        ("gapped", np.bool_),
        ("changed", np.bool_),
        ("outside", np.bool_),
    ]
)
"""What is known of an instrument: the fields of Watched. ``change_topic`` counts in the machine's list of topics. ``outside``:
its numbers do not fit and are elsewhere."""

STATUSES = tuple(ReferenceStatus)
_UNKNOWN, _LIVE = STATUSES.index(ReferenceStatus.UNKNOWN), STATUSES.index(ReferenceStatus.LIVE)
_STALE, _CROSSED = STATUSES.index(ReferenceStatus.STALE), STATUSES.index(ReferenceStatus.CROSSED)
_GAP = STATUSES.index(ReferenceStatus.GAP)
POWERS = np.array([10**power for power in range(19)], np.int64)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _status(one: Any) -> int:
    if one.stale:
        return _STALE
    if one.gapped:
        return _GAP
    if one.bid != 0 and one.ask != 0:
        return _CROSSED if one.bid >= one.ask else _LIVE
    return _UNKNOWN


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _fits(price: Any, factor: Any) -> Any:
    bound = np.iinfo(np.int64).max // factor
    return -bound <= price <= bound


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fold(known: Any, records: Any, events: Any, prices: Any, place: Any, span: Any, published: Any) -> Any:
    """Fold records ``span[0]`` to ``span[1]`` (excluded) of a chunk.

    Parameters
    ----------
    known
        :data:`WATCHED`, changed in place; an instrument's row in it by its id.
    records
        a record's row among the columns (-1: not usual); a row's instrument id.
    events
        by row: times, scale of its prices, whether it sets prices at all (a trade fetched later does not).
    prices
        by row: bids and asks, or twice the last price; whether they are quotes.
    place
        number of the topic, partition; by record: offsets, times of the log.
    published
        room for each record: what was known as it was published, its row, the record.

    Returns
    -------
    tuple
        the record it stopped before (``span[1]``: none), and how many were published.
    """
    state, row_of = known
    ts_event, ts_init, scales, sets = events
    firsts, seconds, quotes = prices
    topic, partition, offsets, log_ns = place
    published_as, published_at = published
    found = 0
    for record in range(span[0], span[1]):
        row = records[0][record]
        instrument = row_of[records[1][row]] if row >= 0 else -1
        if instrument < 0:
            return record, found
        one = state[instrument]
        if not one.known or one.outside:
            return record, found
        if sets[row]:
            if scales[row] > one.scale:
                return record, found
            factor = POWERS[one.scale - scales[row]]
            if not _fits(firsts[row], factor) or not _fits(seconds[row], factor):
                return record, found
            if quotes:
                one.bid, one.ask = firsts[row] * factor, seconds[row] * factor
            else:
                one.last = firsts[row] * factor
        one.change_ts_event, one.change_ts_init = ts_event[row], ts_init[row]
        one.change_topic, one.change_partition, one.change_offset = topic, partition, offsets[record]
        one.changed = True
        one.status = _status(one)
        if log_ns[record] - one.published_ns >= INTERVAL_NS or one.status != one.published_status:
            published_as[found] = one
            published_at[found, 0], published_at[found, 1] = instrument, record
            found += 1
            one.published_ns, one.published_status, one.changed = log_ns[record], one.status, False
    return span[1], found
