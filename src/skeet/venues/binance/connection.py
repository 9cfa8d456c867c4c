"""The wire to Binance, or to the simulated exchange that speaks its dialect, through ccxt.pro: frames in, REST answers.

Frames are taken at ccxt's lowest point, before it parses or keeps anything (its own caches drop trades and coalesce
books in a burst): text and time of receipt go to ``on_frame``, and only what is no market data goes on to ccxt. Nothing is
interpreted here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput, VenueError
from skeet.venues.sim.ccxt_settings import ccxt_settings

CHANNELS = ("trade", "depth@100ms", "bookTicker")
MARKET_FRAME = ('{"e":"', '{"u":', '{"stream":')
"""How market data begins; anything else (answers to requests, errors) is ccxt's to handle."""
REQUEST_WEIGHT = {"depth": 50, "historicalTrades": 25, "klines": 2}
"""Binance's request weights (spot, July 2025); ccxt's limiter spends them."""
WEIGHT_TO_COST = 0.2
"""ccxt counts five of Binance's weights as one of its own."""
PAGE = 1_000
"""Rows that Binance gives at most for one request of trades, bars or book levels."""
REQUEST_TIMEOUT_MS = 10_000

OnFrame = Callable[[str, int], None]
"""Text and time of receipt (ns since the epoch)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Venue:
    """Where to connect. ``name`` is what instrument ids begin with; ``options`` are ccxt's constructor argument."""

    name: str
    options: Mapping[str, Any] = field(repr=False)
    limited: bool = True
    """Whether requests are rationed by the venue's weights; the simulated exchange has none."""


def venue_of(settings: Settings) -> Venue:
    """The venue that the settings name.

    Raises
    ------
    InvalidInput
        an unknown venue, or the simulated exchange without its address.
    """
    match settings.feed.venue:
        case "sim":
            if not settings.sim.url:
                raise InvalidInput("SKEET_SIM__URL is empty: start the simulated exchange with `skeet up`")
            rest = settings.sim.url
            return Venue(name="SIM", options=ccxt_settings(rest, rest.replace("http", "ws", 1)), limited=False)
        case "binance":
            options = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchMargins": False}
            api_key = settings.feed.api_key.get_secret_value()
            return Venue(
                name="BINANCE", options={"apiKey": api_key, "options": options, "has": {"fetchCurrencies": False}}
            )
        case other:
            raise InvalidInput(f"SKEET_FEED__VENUE is {other!r}; expected sim or binance")


class Connection:
    """One client of the venue: :meth:`stream` for frames, the rest for REST. Always :meth:`close` it."""

    def __init__(self, venue: Venue) -> None:
        from ccxt.pro.binance import binance  # 4 s and 120 MB: only the feed's own process pays for it

        self.venue = venue
        self._exchange: Any = binance({"timeout": REQUEST_TIMEOUT_MS, **venue.options})

    async def load_markets(self, symbols: Sequence[str]) -> list[dict[str, Any]]:
        """ccxt's market structures of the symbols.

        Raises
        ------
        InvalidInput
            the venue has no such symbol.
        VenueError, InfrastructureError
            it refused, or did not answer.
        """
        markets = await self._ask(self._exchange.load_markets())
        unknown = [symbol for symbol in symbols if symbol not in markets]
        if unknown:
            raise InvalidInput(f"SKEET_FEED__SYMBOLS has {unknown[0]}, which {self.venue.name} does not list")
        return [markets[symbol] for symbol in symbols]

    async def stream(self, venue_symbols: Sequence[str], on_frame: OnFrame, on_connected: Callable[[], None]) -> None:
        """Connect, subscribe and deliver frames; returns never, raises when the connection is lost.

        Raises
        ------
        InfrastructureError
            the connection could not be made, or ended.
        """
        exchange = self._exchange
        url = f"{exchange.urls['api']['ws']['spot']}/0"
        client = exchange.client(url)
        _hook(client, on_frame)
        parameters = [f"{symbol.lower()}@{channel}" for symbol in venue_symbols for channel in CHANNELS]
        request = {"method": "SUBSCRIBE", "params": parameters, "id": 1}
        try:
            # Nothing ever resolves this future; ccxt rejects it when the connection ends.
            ended = exchange.watch(url, "frames", request, "frames", {"id": "frames"})
            # A failed dial rejects only this one; the other would be awaited for ever.
            await asyncio.wait({client.connected, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                on_connected()
            await ended
        except asyncio.CancelledError:
            raise
        except Exception as error:  # ccxt's NetworkError, and whatever aiohttp raised beneath it
            raise InfrastructureError(f"{self.venue.name}: connection lost: {error}") from error
        finally:
            await self._drop(url)

    async def book(self, venue_symbol: str) -> tuple[str, int]:
        """The REST book as text, and when it was received."""
        return await self._get("depth", symbol=venue_symbol, limit=PAGE)

    async def trades_from(self, venue_symbol: str, first_id: int | None) -> tuple[list[dict[str, Any]], int]:
        """Up to :data:`PAGE` trades from an id on (None: the newest), ascending, and when they were received."""
        parameters: dict[str, Any] = {"symbol": venue_symbol, "limit": PAGE}
        if first_id is not None:
            parameters["fromId"] = first_id
        return await self._rows("historicalTrades", parameters)

    async def minute_bars(self, venue_symbol: str, start_ms: int) -> tuple[list[list[Any]], int]:
        """Up to :data:`PAGE` one-minute klines from a time on, and when they were received."""
        return await self._rows(
            "klines", {"symbol": venue_symbol, "interval": "1m", "startTime": start_ms, "limit": PAGE}
        )

    async def close(self) -> None:
        """Close every socket; idempotent."""
        await self._exchange.close()

    async def _drop(self, url: str) -> None:
        client = self._exchange.clients.pop(url, None)
        if client is not None and not client.closed():
            await client.close()

    async def _rows(self, path: str, parameters: dict[str, Any]) -> tuple[list[Any], int]:
        import orjson

        text, received_ns = await self._get(path, **parameters)
        rows = orjson.loads(text)
        if not isinstance(rows, list):
            raise VenueError(f"{self.venue.name} {path}: expected a list, got {text[:120]}")
        return rows, received_ns

    async def _get(self, path: str, **parameters: Any) -> tuple[str, int]:
        """One public request, signed with nothing but the key where there is one; ccxt would demand a key for trades."""
        exchange = self._exchange
        headers = {"X-MBX-APIKEY": exchange.apiKey} if exchange.apiKey else None
        url = f"{exchange.urls['api']['public']}/{path}?{urlencode(parameters)}"
        if self.venue.limited:
            await exchange.throttle(REQUEST_WEIGHT[path] * WEIGHT_TO_COST)
        await self._ask(exchange.fetch(url, "GET", headers))
        # fetch keeps the body before it returns, and nothing else runs in between.
        return exchange.last_http_response, time.time_ns()

    async def _ask(self, request: Any) -> Any:
        from ccxt.base.errors import BaseError, NetworkError

        try:
            return await request
        except NetworkError as error:
            raise InfrastructureError(f"{self.venue.name}: {error}") from error
        except BaseError as error:
            raise VenueError(f"{self.venue.name}: {error}") from error


def _hook(client: Any, on_frame: OnFrame) -> None:
    """Stand before ccxt's own handling of what the socket received."""
    original = client.handle_text_or_binary_message

    def take(frame: str) -> None:
        received_ns = time.time_ns()
        if frame.startswith(MARKET_FRAME):
            on_frame(frame, received_ns)
        else:
            original(frame)

    client.handle_text_or_binary_message = take
