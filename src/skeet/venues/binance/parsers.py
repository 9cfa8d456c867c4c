"""Binance's spot market frames to normalised events: one pure function per kind of frame.

A frame is the text of one WebSocket message, with or without the combined-stream envelope
(``{"stream": …, "data": {…}}``), or the body of a REST order book. Parsers see no clock: the time of receipt is an
argument, and is also the ``ts_event`` of what Binance sends without a time (book tickers and REST books). Binance prints
every price and quantity with eight decimals, so mantissas are whole 10⁻⁸ whatever the tick is; a text with fewer is
scaled up, one with more is malformed. Sources: Binance's "WebSocket Streams" and "Market Data endpoints", spot.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from skeet.core.admission import LAST_TIME_NS
from skeet.core.errors import DecodeError, UnknownEvent
from skeet.core.market import Bar, BookDelta, BookSnapshot, Quote, Trade
from skeet.core.values import NS_PER_MS, NS_PER_S, Side, from_mantissa, rescale, to_mantissa

SCALE = 8
"""Decimal places of prices and sizes on the wire of Binance spot, and of every mantissa we make from them."""
_DIGITS_MARK = -SCALE - 1
MINUTE_NS = 60 * NS_PER_S
UNPARSED_EXCERPT = 120
"""How much of a bad frame an error message quotes; the whole frame goes to the dead letters."""

MAX_DIGITS = 40
MAX_MANTISSA = 2**63 - 1
"""What the wire's 64-bit mantissa holds; beyond it no frame is right."""
MAX_ID = 2**53
"""Ids and counts of a JSON venue stay below what every JSON reader keeps exact."""

MarketData = Trade | Quote | BookDelta | BookSnapshot
Levels = tuple[tuple[int, ...], tuple[int, ...]]
"""Prices and sizes of one side of a book, parallel."""


class MalformedFrame(DecodeError):
    """A frame that claims to be of a known kind and cannot be read as one."""


class UnknownFrame(UnknownEvent):
    """A well-formed frame of a kind, or of a symbol, that this feed does not know."""


class Parser:
    """Frames of a set of symbols to events.

    Parameters
    ----------
    instrument_ids
        instrument id of each venue symbol (``BTCUSDT`` → ``BINANCE:BTC/USDT``).
    """

    def __init__(self, instrument_ids: Mapping[str, str]) -> None:
        self._instrument_ids = dict(instrument_ids)
        self._by_event: dict[str, Callable[[dict[str, Any], str, int], MarketData]] = {
            "trade": parse_trade,
            "depthUpdate": parse_depth,
            "bookTicker": parse_book_ticker,
        }

    def parse(self, payload: bytes | str, received_ns: int, symbol: str = "") -> MarketData | None:
        """The event of a frame; None for an answer to a subscription, which is no market data.

        ``symbol`` names the instrument of a frame that does not (a REST book).

        Raises
        ------
        MalformedFrame, UnknownFrame
            whatever the bytes; nothing else leaves here.
        """
        try:
            frame = orjson.loads(payload)
        except orjson.JSONDecodeError as error:
            raise MalformedFrame(f"no JSON ({error}): {_excerpt(payload)}") from error
        if not isinstance(frame, dict):
            raise MalformedFrame(f"expected a JSON object: {_excerpt(payload)}")
        body = frame.get("data", frame)
        try:
            return self._event(body, received_ns, symbol)
        except UnknownFrame as error:
            raise UnknownFrame(f"{error}: {_excerpt(payload)}") from None
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise MalformedFrame(f"{type(error).__name__} {error}: {_excerpt(payload)}") from error

    def _event(self, body: dict[str, Any], received_ns: int, symbol: str) -> MarketData | None:
        kind = body.get("e")
        if kind is not None:
            parse = self._by_event.get(kind)
            if parse is None:
                raise UnknownFrame(f"event {kind!r} is not one this feed subscribes to")
        elif "lastUpdateId" in body:
            return parse_snapshot(body, self._instrument(symbol), received_ns)
        elif "u" in body and "A" in body:  # spot book tickers carry no event name
            parse = parse_book_ticker
        elif "result" in body and "id" in body:
            return None
        else:
            raise UnknownFrame("a frame without event name")
        return parse(body, self._instrument(body["s"]), received_ns)

    def _instrument(self, symbol: str) -> str:
        try:
            return self._instrument_ids[symbol]
        except KeyError:
            raise UnknownFrame(f"symbol {symbol!r} is not one of {', '.join(self._instrument_ids)}") from None


def parse_trade(body: dict[str, Any], instrument_id: str, received_ns: int) -> Trade:
    """A ``trade`` frame. Binance's ``m`` says that the buyer was the maker: then the taker sold."""
    return Trade(
        instrument_id=instrument_id,
        ts_event=_time_ns(body["T"]),
        ts_init=received_ns,
        trade_id=str(_integer(body["t"])),
        price_mantissa=mantissa(body["p"]),
        size_mantissa=mantissa(body["q"]),
        price_scale=SCALE,
        size_scale=SCALE,
        aggressor_side=_aggressor(body["m"]),
    )


def parse_book_ticker(body: dict[str, Any], instrument_id: str, received_ns: int) -> Quote:
    """A ``bookTicker`` frame. It has no time of its own: ``ts_event`` is the time of receipt."""
    return Quote(
        instrument_id=instrument_id,
        ts_event=received_ns,
        ts_init=received_ns,
        update_id=_integer(body["u"]),
        bid_price_mantissa=mantissa(body["b"]),
        bid_size_mantissa=mantissa(body["B"]),
        ask_price_mantissa=mantissa(body["a"]),
        ask_size_mantissa=mantissa(body["A"]),
        price_scale=SCALE,
        size_scale=SCALE,
    )


def parse_depth(body: dict[str, Any], instrument_id: str, received_ns: int) -> BookDelta:
    """A ``depthUpdate`` frame: updates ``U`` to ``u``, both included."""
    bid_prices, bid_sizes = levels(body["b"])
    ask_prices, ask_sizes = levels(body["a"])
    first, last = _integer(body["U"]), _integer(body["u"])
    if first > last:
        raise ValueError(f"U {first} is after u {last}")
    return BookDelta(
        instrument_id=instrument_id,
        ts_event=_time_ns(body["E"]),
        ts_init=received_ns,
        first_update_id=first,
        last_update_id=last,
        bid_prices=bid_prices,
        bid_sizes=bid_sizes,
        ask_prices=ask_prices,
        ask_sizes=ask_sizes,
        price_scale=SCALE,
        size_scale=SCALE,
    )


def parse_snapshot(body: dict[str, Any], instrument_id: str, received_ns: int) -> BookSnapshot:
    """The body of ``GET /api/v3/depth``. It has no time: ``ts_event`` is the time of receipt."""
    bid_prices, bid_sizes = levels(body["bids"])
    ask_prices, ask_sizes = levels(body["asks"])
    return BookSnapshot(
        instrument_id=instrument_id,
        ts_event=received_ns,
        ts_init=received_ns,
        last_update_id=_integer(body["lastUpdateId"]),
        bid_prices=bid_prices,
        bid_sizes=bid_sizes,
        ask_prices=ask_prices,
        ask_sizes=ask_sizes,
        price_scale=SCALE,
        size_scale=SCALE,
    )


def parse_rest_trade(body: dict[str, Any], instrument_id: str, received_ns: int) -> Trade:
    """One element of ``GET /api/v3/historicalTrades``, marked as backfilled."""
    return Trade(
        instrument_id=instrument_id,
        ts_event=_time_ns(body["time"]),
        ts_init=received_ns,
        trade_id=str(_integer(body["id"])),
        price_mantissa=mantissa(body["price"]),
        size_mantissa=mantissa(body["qty"]),
        price_scale=SCALE,
        size_scale=SCALE,
        aggressor_side=_aggressor(body["isBuyerMaker"]),
        backfilled=True,
    )


def parse_minute_bar(row: Sequence[Any], instrument_id: str, received_ns: int) -> Bar:
    """One row of ``GET /api/v3/klines`` of interval 1m: a closed bar that no record of ours made."""
    ts_open = _time_ns(row[0])
    return Bar(
        instrument_id=instrument_id,
        ts_event=ts_open + MINUTE_NS,
        ts_init=received_ns,
        interval="1m",
        ts_open=ts_open,
        ts_close=ts_open + MINUTE_NS,
        revision=0,
        open_mantissa=mantissa(row[1]),
        high_mantissa=mantissa(row[2]),
        low_mantissa=mantissa(row[3]),
        close_mantissa=mantissa(row[4]),
        volume_mantissa=mantissa(row[5]),
        buy_volume_mantissa=mantissa(row[9]),
        quote_volume=from_mantissa(mantissa(row[7]), SCALE),
        trade_count=_integer(row[8]),
        late_trades=0,
        complete=True,
        cause_at="",
        price_scale=SCALE,
        size_scale=SCALE,
    )


def mantissa(text: str) -> int:
    """``"61737.63000000"`` is 6173763000000.

    Raises
    ------
    ValueError
        not a plain unsigned decimal number, or finer than :data:`SCALE` places.
    """
    whole, fraction = text[:_DIGITS_MARK], text[-SCALE:]
    digits = whole + fraction
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:MAX_DIGITS]!r}… is too long a number")
    if len(digits) == len(text) - 1 and text[_DIGITS_MARK] == "." and digits.isdecimal() and digits.isascii():
        return _fitting(int(digits), text)
    value, scale = to_mantissa(text)
    if value < 0 or not text.isascii():
        raise ValueError(f"{text!r} is not a plain unsigned decimal number")
    return _fitting(rescale(value, scale, SCALE), text)


def _fitting(value: int, text: str) -> int:
    if value > MAX_MANTISSA:
        raise ValueError(f"{text!r} is more than 64 bits of 10^-{SCALE} hold")
    return value


def levels(rows: Sequence[Sequence[str]]) -> Levels:
    """``[["price", "size"], …]`` to parallel mantissas."""
    if type(rows) is not list:
        raise ValueError(f"levels are {type(rows).__name__}; expected a list")
    return tuple([mantissa(row[0]) for row in rows]), tuple([mantissa(row[1]) for row in rows])


def _aggressor(buyer_is_maker: object) -> Side:
    if buyer_is_maker is True:
        return Side.SELL
    if buyer_is_maker is False:
        return Side.BUY
    raise ValueError(f"buyer-is-maker flag is {buyer_is_maker!r}; expected true or false")


def _integer(value: object) -> int:
    if type(value) is not int or not 0 <= value <= MAX_ID:
        raise ValueError(f"{value!r} is not an integer of 0 to 2^53")
    return value


def _time_ns(value: object) -> int:
    """Milliseconds as nanoseconds; a time that no record may have is a damaged frame, not a time."""
    if type(value) is not int or not 0 <= value <= LAST_TIME_NS // NS_PER_MS:
        raise ValueError(f"{value!r} is not a time in ms since 1970, before 2100")
    return value * NS_PER_MS


def _excerpt(payload: bytes | str) -> str:
    text = payload if isinstance(payload, str) else payload.decode(errors="replace")
    return text if len(text) <= UNPARSED_EXCERPT else text[:UNPARSED_EXCERPT] + "…"
