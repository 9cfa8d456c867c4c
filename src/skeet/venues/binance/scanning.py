"""The compiled reader of whole bursts of Binance's market frames: bytes to numbers, without an object per frame.

It knows one spelling of each frame, the one that Binance uses: these fields in this order without blanks, prices and sizes
with eight decimals. Whatever is spelt otherwise in any way, and whatever is not the next of its sequence (the first of an
instrument, a gap, a repeat, a book that waits), ends the reading before it: the parser of single frames
(:mod:`skeet.venues.binance.parsers`) has the last word. So a frame that is read here is read there with the same result.

Nothing is read beyond a frame's end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from skeet.core.admission import LAST_TIME_NS
from skeet.core.values import NS_PER_MS
from skeet.venues.binance.parsers import MAX_ID
from skeet.venues.binance.sequences import MAX_JUMP

TRADE, QUOTE, DEPTH = 0, 1, 2
"""Rows of a state: the last trade id, the last update ids of quotes and book; negative where none is known or the book
waits. Also the kinds of frames."""
LEVEL_BYTES = 27
"""The shortest level, ``["0.00000000","0.00000000"]``: so many levels a frame holds at most."""
WHOLE_DIGITS, DECIMALS = 10, 8
"""Eighteen digits together always fit into 64 bits; longer numbers are for the parser."""
ID_DIGITS, HASH_FACTOR = 16, 31

_MAX_ID, _MAX_JUMP, _NS_PER_MS, _LAST_MS = MAX_ID, MAX_JUMP, NS_PER_MS, LAST_TIME_NS // NS_PER_MS
_ZERO, _QUOTE_MARK, _POINT, _COMMA, _BRACKET, _CLOSE = (np.uint8(ord(sign)) for sign in '0".,[]')


def _text(text: str) -> Any:
    return np.frombuffer(text.encode(), np.uint8)


_TRADE = _text('{"e":"trade","E":')
_DEPTH = _text('{"e":"depthUpdate","E":')
_UPDATE = _text('{"u":')
_SYMBOL, _TRADE_ID, _PRICE, _SIZE, _TIME = map(_text, (',"s":"', '","t":', ',"p":"', '","q":"', '","T":'))
_MAKER, _IGNORED, _TRUE, _FALSE, _END = map(_text, (',"m":', ',"M":', "true", "false", "}"))
_BID, _BID_SIZE, _ASK, _ASK_SIZE, _QUOTE_END = map(_text, ('","b":"', '","B":"', '","a":"', '","A":"', '"}'))
_FIRST, _LAST, _BIDS, _ASKS, _DEPTH_END = map(_text, ('","U":', ',"u":', ',"b":[', '],"a":[', "]}"))
_LEVEL, _LEVEL_SIZE, _LEVEL_END = map(_text, ('["', '","', '"]'))


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _past(buffer: Any, at: int, end: int, literal: Any) -> Any:
    """Behind these very bytes, or -1; a position of -1 stays one."""
    if at < 0 or end - at < literal.size:
        return -1
    for index in range(literal.size):
        if buffer[at + index] != literal[index]:
            return -1
    return at + literal.size


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _integer(buffer: Any, at: int, end: int) -> Any:
    """A plain integer of JSON up to 2^53, and where it ends (-1: there is none)."""
    value, begin = np.int64(0), at
    while 0 <= at < end and at - begin < ID_DIGITS:
        digit = np.int64(buffer[at]) - 48
        if not 0 <= digit <= 9:
            break
        value = value * 10 + digit
        at += 1
    if at <= begin or at < 0 or (at - begin > 1 and buffer[begin] == _ZERO) or value > _MAX_ID:
        return np.int64(0), -1
    return value, at


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _decimal(buffer: Any, at: int, end: int) -> Any:
    """A number of eight decimals as a whole of 10^-8, and where it ends (-1: there is none)."""
    value, begin = np.int64(0), at
    while 0 <= at < end and at - begin < WHOLE_DIGITS:
        digit = np.int64(buffer[at]) - 48
        if not 0 <= digit <= 9:
            break
        value = value * 10 + digit
        at += 1
    if at <= begin or at < 0 or end - at <= DECIMALS or buffer[at] != _POINT:
        return np.int64(0), -1
    for _ in range(DECIMALS):
        at += 1
        digit = np.int64(buffer[at]) - 48
        if not 0 <= digit <= 9:
            return np.int64(0), -1
        value = value * 10 + digit
    return value, at + 1


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _flag(buffer: Any, at: int, end: int) -> Any:
    """True or false, and where it ends."""
    past = _past(buffer, at, end, _TRUE)
    if past >= 0:
        return True, past
    return False, _past(buffer, at, end, _FALSE)


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _symbol(buffer: Any, at: int, end: int, symbols: Any) -> Any:
    """Number of the instrument whose symbol stands here, and where it ends; -1 where none does."""
    pool, ends, table = symbols
    past, hashed = at, np.int64(0)
    while 0 <= past < end and buffer[past] != _QUOTE_MARK:
        hashed = (hashed * HASH_FACTOR + np.int64(buffer[past])) & 0x7FFF_FFFF
        past += 1
    place = hashed & (table.size - 1)
    while table[place] >= 0:
        number = table[place]
        begin = ends[number - 1] if number else 0
        if ends[number] - begin == past - at:
            same = True
            for index in range(past - at):
                same = same and pool[begin + index] == buffer[at + index]
            if same:
                return number, past
        place = (place + 1) & (table.size - 1)
    return -1, -1


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _levels(buffer: Any, at: int, end: int, prices: Any, sizes: Any, filled: int) -> Any:
    """The levels of one side: how many are filled then, and where the list ends (-1: it is spelt otherwise)."""
    if at < 0 or at >= end:
        return filled, -1
    if buffer[at] == _CLOSE:
        return filled, at
    while True:
        at = _past(buffer, at, end, _LEVEL)
        prices[filled], at = _decimal(buffer, at, end)
        at = _past(buffer, at, end, _LEVEL_SIZE)
        sizes[filled], at = _decimal(buffer, at, end)
        at = _past(buffer, at, end, _LEVEL_END)
        filled += 1
        if at < 0 or at >= end:
            return filled, -1
        if buffer[at] != _COMMA:
            return filled, at
        at += 1


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _trade(buffer: Any, at: int, end: int, symbols: Any, state: Any, out: Any) -> Any:
    """The instrument of the trade whose place of ``out`` was filled; -1: not one for here."""
    _, at = _integer(buffer, at, end)
    instrument, at = _symbol(buffer, _past(buffer, at, end, _SYMBOL), end, symbols)
    begin = _past(buffer, at, end, _TRADE_ID)
    trade_id, past_id = _integer(buffer, begin, end)
    price, at = _decimal(buffer, _past(buffer, past_id, end, _PRICE), end)
    size, at = _decimal(buffer, _past(buffer, at, end, _SIZE), end)
    at_ms, at = _integer(buffer, _past(buffer, at, end, _TIME), end)
    maker, at = _flag(buffer, _past(buffer, at, end, _MAKER), end)
    _, at = _flag(buffer, _past(buffer, at, end, _IGNORED), end)
    if _past(buffer, at, end, _END) != end or at_ms > _LAST_MS:
        return -1
    last = state[TRADE, instrument]
    if last < 0 or trade_id != last + 1:
        return -1
    state[TRADE, instrument] = trade_id
    out[1], out[2], out[3] = at_ms * _NS_PER_MS, begin, past_id - begin
    out[4], out[5], out[6] = price, size, maker
    return instrument


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _quote(buffer: Any, at: int, end: int, symbols: Any, state: Any, out: Any) -> Any:
    """The instrument of the quote whose place of ``out`` was filled; -1: not one for here."""
    update_id, at = _integer(buffer, at, end)
    instrument, at = _symbol(buffer, _past(buffer, at, end, _SYMBOL), end, symbols)
    out[2], at = _decimal(buffer, _past(buffer, at, end, _BID), end)
    out[3], at = _decimal(buffer, _past(buffer, at, end, _BID_SIZE), end)
    out[4], at = _decimal(buffer, _past(buffer, at, end, _ASK), end)
    out[5], at = _decimal(buffer, _past(buffer, at, end, _ASK_SIZE), end)
    if _past(buffer, at, end, _QUOTE_END) != end:
        return -1
    last = state[QUOTE, instrument]
    if last < 0 or not last < update_id <= last + _MAX_JUMP:
        return -1
    state[QUOTE, instrument] = update_id
    out[1] = update_id
    return instrument


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _depth(buffer: Any, at: int, end: int, symbols: Any, state: Any, out: Any, levels: Any) -> Any:
    """The instrument of the diff whose place of ``out`` and levels were filled; -1: not one for here."""
    at_ms, at = _integer(buffer, at, end)
    instrument, at = _symbol(buffer, _past(buffer, at, end, _SYMBOL), end, symbols)
    first, at = _integer(buffer, _past(buffer, at, end, _FIRST), end)
    last, at = _integer(buffer, _past(buffer, at, end, _LAST), end)
    at = _past(buffer, at, end, _BIDS)
    bids, at = _levels(buffer, at, end, levels[0], levels[1], out[4])
    at = _past(buffer, at, end, _ASKS)
    asks, at = _levels(buffer, at, end, levels[2], levels[3], out[5])
    if _past(buffer, at, end, _DEPTH_END) != end or at_ms > _LAST_MS or first > last:
        return -1
    before = state[DEPTH, instrument]
    if before < 0 or not (first <= before + 1 and before < last <= before + _MAX_JUMP):
        return -1
    state[DEPTH, instrument] = last
    out[1], out[2], out[3], out[4], out[5] = at_ms * _NS_PER_MS, first, last, bids, asks
    return instrument


@njit(cache=True, nogil=True, error_model="numpy")  # type: ignore[untyped-decorator]
def scan(buffer: Any, starts: Any, symbols: Any, state: Any, out: Any, counts: Any) -> Any:
    """Read frames until one is not for here; how many were read.

    Parameters
    ----------
    buffer, starts
        the frames one after the other; ``starts`` has one more than there are frames: the end of the last.
    symbols
        pool of the symbols, where each ends in it, and a table of their numbers by hash, with free places.
    state
        int64, a row for each of :data:`TRADE`, :data:`QUOTE`, :data:`DEPTH` and a column for each instrument; moves on.
    out
        instrument of each frame; places of trades, quotes, depth frames (a row each, its number first); levels.
    counts
        of each kind that were read.
    """
    instruments, trades, quotes, depths, levels = out
    counts[:] = 0
    bids = asks = np.int64(0)
    for row in range(starts.size - 1):
        at, end = starts[row], starts[row + 1]
        past_trade = _past(buffer, at, end, _TRADE)
        past_update = _past(buffer, at, end, _UPDATE)
        if past_trade >= 0:
            kind, place = TRADE, trades[counts[TRADE]]
            found = _trade(buffer, past_trade, end, symbols, state, place)
        elif past_update >= 0:
            kind, place = QUOTE, quotes[counts[QUOTE]]
            found = _quote(buffer, past_update, end, symbols, state, place)
        else:
            kind, place = DEPTH, depths[counts[DEPTH]]
            place[4], place[5] = bids, asks
            found = _depth(buffer, _past(buffer, at, end, _DEPTH), end, symbols, state, place, levels)
        if found < 0:
            return row
        if kind == DEPTH:
            bids, asks = place[4], place[5]
        place[0] = row
        instruments[row] = found
        counts[kind] += 1
    return starts.size - 1
