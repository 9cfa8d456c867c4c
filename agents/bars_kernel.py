"""The compiled fold of trades into bars, and the arrays that it folds in: what :mod:`skeet.agents.bars` does, on rows.

It takes what is usual: known instruments, one scale for each bar, whole numbers that fit. It stops before the first row that
is anything else; :class:`skeet.agents.bars.BarsAgent` takes that one, and says what a bar is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from skeet.agents.bars import INTERVALS, LIVE_LAG_NS

SERIES = np.dtype(
    [
        ("closed_until", np.int64),
        ("through", np.int64),
        ("partition", np.int64),
        ("last_offset", np.int64),
        ("last_partition", np.int64),
        ("late_trades", np.int64),
        ("ts_open", np.int64),
        ("price_scale", np.int64),
        ("size_scale", np.int64),
        ("open", np.int64),
        ("high", np.int64),
        ("low", np.int64),
        ("close", np.int64),
        ("volume", np.int64),
        ("buy_volume", np.int64),
        ("quote_high", np.int64),
        ("quote_low", np.uint64),
        ("trade_count", np.int64),
        ("known", np.bool_),
        ("whole", np.bool_),
        ("torn", np.bool_),
        ("live", np.bool_),
        ("is_open", np.bool_),
        ("outside", np.bool_),
        ("gapped", np.bool_),
    ]
)
"""One series: the fields of Series and OpenBar. The quote volume is ``quote_high`` x 2^64 + ``quote_low``, at the sum of the
bar's scales. ``last_offset`` and ``last_partition`` are ``last_at`` (-1: none). ``outside``: numbers that do not fit are
elsewhere. ``gapped``: the instrument's trades have an open gap. Not ``known``: never met."""

LENGTHS_NS = np.array([length for _, length in INTERVALS], np.int64)
LARGEST = 1 << 62
"""A sum of two numbers below this is an int64."""
LARGEST_HIGH = 1 << 60
LOW_HALF = np.uint64(0xFFFFFFFF)
HALF = np.uint64(32)


@njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator]
def _product(a: Any, b: Any) -> Any:
    """The 128 bits of a product of two unsigned numbers below 2^63, as two halves."""
    a_high, a_low = a >> HALF, a & LOW_HALF
    b_high, b_low = b >> HALF, b & LOW_HALF
    low, cross, other = a_low * b_low, a_low * b_high, a_high * b_low
    middle = (low >> HALF) + (cross & LOW_HALF) + (other & LOW_HALF)
    return (
        a_high * b_high + (cross >> HALF) + (other >> HALF) + (middle >> HALF),
        (low & LOW_HALF) | (middle << HALF),
    )


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _takes(state: Any, row: Any, ts: Any, price_scale: Any, size_scale: Any, offset: Any) -> bool:
    """Whether the trade can go into every series of its instrument here."""
    for interval in range(LENGTHS_NS.size):
        one = state[row, interval]
        if not one.known or one.outside:
            return False
        if offset <= one.through or not one.is_open or ts >= one.ts_open + LENGTHS_NS[interval]:
            continue
        if one.price_scale != price_scale or one.size_scale != size_scale:
            return False
        if one.volume >= LARGEST or one.quote_high >= LARGEST_HIGH:
            return False
    return True


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _account(one: Any, ts_open: Any, price: Any, size: Any, scales: Any, buys: Any) -> None:
    if not one.is_open and ts_open >= one.closed_until:
        one.is_open, one.ts_open = True, ts_open
        one.price_scale, one.size_scale = scales
        one.open, one.high, one.low, one.close = price, price, price, price
        one.volume, one.buy_volume, one.trade_count = 0, 0, 0
        one.quote_high, one.quote_low = np.int64(0), np.uint64(0)
    if not one.is_open or ts_open < one.ts_open:
        one.late_trades += 1
        return
    one.high, one.low, one.close = max(one.high, price), min(one.low, price), price
    one.volume += size
    if buys:
        one.buy_volume += size
    high, low = _product(np.uint64(price), np.uint64(size))
    total = one.quote_low + low
    carry = 1 if total < low else 0
    one.quote_low = total
    one.quote_high += np.int64(high) + carry
    one.trade_count += 1


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fold(state: Any, row_of: Any, records: Any, trades: Any, place: Any, span: Any, closed: Any) -> Any:
    """Fold records ``span[0]`` to ``span[1]`` (excluded) of a chunk.

    Parameters
    ----------
    state
        :data:`SERIES`, instruments x intervals; changed in place.
    row_of
        an instrument's row in ``state`` by its id.
    records
        a record's row among the columns (-1: not usual); a row's instrument id.
    trades
        by row: times, price and size mantissas, their scales, whether a buyer took, whether it was fetched later.
    place
        partition; by record: offsets, times of the log.
    closed
        room for a bar for each record and interval: its series as it was (:data:`SERIES`); its row and interval in ``state``,
        and the record that closed it.

    Returns
    -------
    tuple
        the record it stopped before (``span[1]``: none), and how many bars closed.
    """
    ts_event, prices, sizes, price_scales, size_scales, buys, backfilled = trades
    rows, numbers = records
    partition, offsets, log_ns = place
    closed_series, closed_at = closed
    found = 0
    for record in range(span[0], span[1]):
        row = rows[record]
        if row < 0:
            return record, found
        instrument = row_of[numbers[row]]
        ts, price, size, offset = ts_event[row], prices[row], sizes[row], offsets[record]
        if instrument < 0 or not 0 <= price < LARGEST or not 0 <= size < LARGEST:
            return record, found
        scales = (price_scales[row], size_scales[row])
        if not _takes(state, instrument, ts, scales[0], scales[1], offset):
            return record, found
        for interval in range(LENGTHS_NS.size):
            one = state[instrument, interval]
            if offset <= one.through:
                continue
            length = LENGTHS_NS[interval]
            ts_open = ts - ts % length
            if one.is_open and ts_open > one.ts_open:
                closed_series[found] = one
                closed_at[found, 0], closed_at[found, 1], closed_at[found, 2] = instrument, interval, record
                found += 1
                one.closed_until, one.whole, one.is_open = one.ts_open + length, True, False
                one.late_trades, one.torn = 0, False
            one.last_offset, one.last_partition = offset, partition
            _account(one, ts_open, price, size, scales, buys[row])
            one.live = not backfilled[row] and log_ns[record] - ts <= LIVE_LAG_NS
    return span[1], found
