"""How unpatched ccxt is pointed at this exchange, and how to be sure that it points nowhere else. Imports no ccxt."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


def ccxt_settings(rest_url: str, ws_url: str) -> dict[str, Any]:
    """The constructor argument for ``ccxt.binance``, ``ccxt.async_support.binance`` and ``ccxt.pro.binance``.

    Parameters
    ----------
    rest_url, ws_url : ``http://127.0.0.1:PORT`` and ``ws://127.0.0.1:PORT``, without a path.

    Add ``apiKey`` and ``secret`` for private calls. ``/stream`` must stay in the stream address: ccxt takes a connection
    for spot because of it.
    """
    rest, ws = rest_url.rstrip("/"), ws_url.rstrip("/")
    return {
        "urls": {
            "api": {
                "public": f"{rest}/api/v3",
                "private": f"{rest}/api/v3",
                "ws": {"spot": f"{ws}/stream/ws", "ws-api": {"spot": f"{ws}/ws-api/v3"}},
            }
        },
        "options": {
            "defaultType": "spot",
            "fetchMarkets": {"types": ["spot"]},
            "fetchMargins": False,
            "ws": {"compress": 0},
        },
        "has": {"fetchCurrencies": False},
    }


def refuse_live_hosts(urls: Mapping[str, Any]) -> list[str]:
    """The addresses in `urls` (nested as ccxt nests them) that are not on this machine. Empty: nothing can leave it."""
    return [url for url in _addresses(urls) if urlsplit(url).hostname not in LOOPBACK]


def _addresses(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _addresses(each)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _addresses(each)
    elif isinstance(value, str) and "://" in value:
        yield value
