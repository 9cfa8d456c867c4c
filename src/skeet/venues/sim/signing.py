"""API keys and request signatures, as Binance does them (HMAC-SHA256).

Keys are derived from the exchange's own secret and the account's name, so the same account always gets the same pair
and only the one secret file needs keeping.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from skeet.venues.sim.orders import Rejection

DEFAULT_RECV_WINDOW_MS = 5_000
MAX_RECV_WINDOW_MS = 60_000
MAX_AHEAD_MS = 1_000


@dataclass(frozen=True, slots=True)
class KeyPair:
    """What a customer signs with."""

    api_key: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(api_key={self.api_key[:6]}…)"


class KeyRing:
    """Derives key pairs and finds the account of an API key."""

    def __init__(self, directory: Path) -> None:
        path = directory / "exchange.key"
        if not path.exists():
            unfinished = path.with_suffix(".new")
            unfinished.touch(mode=0o600)
            unfinished.write_bytes(secrets.token_bytes(32))
            unfinished.replace(path)  # whole or not at all: a killed process leaves no empty secret
        self._secret = path.read_bytes()
        self._accounts: dict[str, str] = {}

    def pair(self, account: str) -> KeyPair:
        """The account's keys; they are valid from here on."""
        pair = KeyPair(self._derive("key", account), self._derive("secret", account))
        self._accounts[pair.api_key] = account
        return pair

    def account_of(self, api_key: str | None) -> str:
        """Whose key this is.

        Raises
        ------
        Rejection
            no key (-2014), or nobody's (-2015).
        """
        if not api_key:
            raise Rejection(-2014, "API-key format invalid.")
        account = self._accounts.get(api_key)
        if account is None:
            raise Rejection(-2015, "Invalid API-key, IP, or permissions for action.")
        return account

    def check(self, account: str, payload: str, signature: str | None) -> None:
        """Whether `signature` is the account's HMAC of `payload` (-1022, -1102)."""
        if not signature:
            raise missing("signature")
        expected = sign(self.pair(account).secret, payload)
        if not hmac.compare_digest(expected, signature.lower()):
            raise Rejection(-1022, "Signature for this request is not valid.")

    def _derive(self, purpose: str, account: str) -> str:
        return hmac.new(self._secret, f"{purpose}:{account}".encode(), hashlib.sha256).hexdigest()


def sign(secret: str, payload: str) -> str:
    """Binance's signature of a request's parameters."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def check_time(parameters: Mapping[str, str], now_ms: int) -> None:
    """Whether a signed request is fresh: within its recvWindow, and not from the future (-1021)."""
    try:
        sent = int(parameters["timestamp"])
        window = int(float(parameters.get("recvWindow", DEFAULT_RECV_WINDOW_MS)))
    except (KeyError, ValueError) as error:
        raise missing("timestamp") from error
    if window > MAX_RECV_WINDOW_MS:
        raise Rejection(-1131, f"recvWindow must be less than {MAX_RECV_WINDOW_MS}.")
    if sent >= now_ms + MAX_AHEAD_MS:
        raise Rejection(-1021, f"Timestamp for this request was {MAX_AHEAD_MS}ms ahead of the server's time.")
    if now_ms - sent > window:
        raise Rejection(-1021, "Timestamp for this request is outside of the recvWindow.")


def missing(name: str) -> Rejection:
    """A mandatory parameter is not there or makes no sense."""
    return Rejection(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
