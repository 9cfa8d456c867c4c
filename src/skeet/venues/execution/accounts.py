"""Which venue an account trades at, and the client for it."""

from __future__ import annotations

from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.streams.ports import SendGuard
from skeet.venues.execution.binance import BINANCE, SIMULATED, BinanceOptions, BinanceVenue
from skeet.venues.execution.keys import FOLDER, VenueKey, read_key
from skeet.venues.sim.ccxt_settings import ccxt_settings

LIVE_CONFIG = {
    "options": {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}, "fetchMargins": False},
    "has": {"fetchCurrencies": False},
}


def accounts_with_keys(settings: Settings) -> list[str]:
    """Every account of this installation that has a venue key."""
    return sorted(path.stem for path in (settings.secrets_dir / FOLDER).glob("*.json"))


def venue_of(settings: Settings, account_id: str, guard: SendGuard) -> BinanceVenue:
    """A client for the account; connects nothing yet.

    Raises
    ------
    InvalidInput
        no key, an unknown venue, or a live one without ``SKEET_ALLOW_LIVE=1``.
    """
    key = read_key(settings, account_id)
    return BinanceVenue(venue_options(settings, key, guard))


def venue_options(settings: Settings, key: VenueKey, guard: SendGuard) -> BinanceOptions:
    """How the venue of this key is reached."""
    match key.venue.lower():
        case "sim":
            if not settings.sim.url:
                raise InvalidInput("SKEET_SIM__URL is empty: start the exchange with `skeet up`")
            address = settings.sim.url.rstrip("/")
            return BinanceOptions(
                prefix="SIM",
                key=key,
                capabilities=SIMULATED,
                ccxt_config=ccxt_settings(address, "ws" + address.removeprefix("http")),
                guard=guard,
            )
        case "binance":
            return BinanceOptions(
                prefix="BINANCE",
                key=key,
                capabilities=BINANCE,
                ccxt_config=LIVE_CONFIG,
                allow_live=settings.allow_live,
                guard=guard,
            )
        case other:
            raise InvalidInput(f"venue is {other!r}; expected sim or binance")
