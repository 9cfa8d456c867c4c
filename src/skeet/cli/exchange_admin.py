"""The simulated exchange's administration, as the command line needs it: key pairs and money."""

from __future__ import annotations

import json
import os
from decimal import Decimal
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from skeet.cli.output import decimal_text
from skeet.config import Settings
from skeet.core.errors import InfrastructureError, InvalidInput

TIMEOUT_S = 10.0
VENUE = "sim"


class ExchangeAdmin:
    """Calls to ``/sim/v1``; each is idempotent at the exchange."""

    def __init__(self, settings: Settings) -> None:
        if not settings.sim.url:
            raise InvalidInput("SKEET_SIM__URL is empty: start the platform with `skeet up`")
        self._url = settings.sim.url.rstrip("/") + "/sim/v1"
        self._token = settings.sim.admin_token.get_secret_value()

    def key_pair(self, account: str) -> tuple[str, str]:
        """API key and secret of the account at the exchange; made if there is none, the same ones afterwards."""
        answer = self._post("accounts", {"account": account})
        return answer["api_key"], answer["secret"]

    def transfer(self, account: str, asset: str, amount: Decimal, client_key: str) -> str:
        """Pay in; the exchange's transfer id. The same client key pays once."""
        body = {"account": account, "asset": asset, "amount": decimal_text(amount), "client_key": client_key}
        return str(self._post("transfers", body)["transfer_id"])

    def pause(self) -> None:
        """Stop the flow of background orders; customers' orders are still taken."""
        self._post("flow", {"paused": True})

    def resume(self) -> None:
        """Let the flow go on."""
        self._post("flow", {"paused": False})

    def set_speed(self, speed: float) -> None:
        """Seconds of background flow per second."""
        self._post("flow", {"speed": speed})

    def behave(self, changes: dict[str, Any]) -> dict[str, Any]:
        """Set behaviours; all of them as they are then."""
        return self._post("behaviour", changes)

    def status(self) -> dict[str, Any]:
        """Instruments, flow, behaviours, counts."""
        return self._call("status", None)

    def _post(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        return self._call(route, json.dumps(body).encode())

    def _call(self, route: str, body: bytes | None) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        request = Request(f"{self._url}/{route}", body, headers)
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return dict(json.load(answer))
        except HTTPError as error:
            raise InvalidInput(f"the exchange refused: {_reason(error)}") from error
        except (OSError, HTTPException) as error:  # refused, reset, cut off in the middle, too late
            raise InfrastructureError(f"the exchange at {self._url} does not answer: {error}") from error


def _reason(error: HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return f"HTTP {error.code}: {text[:200]}"


def save_venue_keys(settings: Settings, account: str, api_key: str, secret: str) -> Path:
    """Store the account's venue keys where only the gateway looks: readable by this user alone, replaced in one step."""
    folder = settings.secrets_dir / "venue-keys"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / f"{account}.json"
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        json.dump({"venue": VENUE, "api_key": api_key, "secret": secret}, file)
    draft.replace(path)
    return path
