"""Administration of the exchange under ``/sim/v1``: accounts, money, the flow, behaviours, and a dump for verification.

Every request carries ``Authorization: Bearer <admin token>``. Bodies and answers are JSON:

=======  ==========================  ======================================================================
POST     /sim/v1/accounts            {account} → {account, api_key, secret}; the same keys each time
POST     /sim/v1/transfers           {account, asset, amount, client_key} → {transfer_id}; once per client_key
POST     /sim/v1/flow                {paused?, speed?} → the flow's state
POST     /sim/v1/behaviour           {duplicate_client_ids?: all | open | none, drop_next?, drop_probability?, repeat_next?, seed?}
GET      /sim/v1/status              instruments, flow, behaviour, counts
GET      /sim/v1/state               every account: balances, open orders, orders, fills (for verification)
=======  ==========================  ======================================================================
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

import orjson
from aiohttp import web

from skeet.core.errors import InvalidInput
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.commands import OpenAccount, Transfer
from skeet.venues.sim.exchange import Exchange
from skeet.venues.sim.orders import EXCHANGE, HOUSE, Rejection, UniqueAmong
from skeet.venues.sim.private_api import order_row
from skeet.venues.sim.public_api import ticker
from skeet.venues.sim.signing import KeyRing
from skeet.venues.sim.units import format_units, parse_units

MAX_SPEED = 10_000.0
PREFIX = "/sim/v1"


@dataclass(slots=True)
class FlowControl:
    """Whether the background flow runs, and how fast."""

    speed: float = 1.0
    paused: bool = False


class Admin:
    """The administration routes."""

    def __init__(self, exchange: Exchange, keys: KeyRing, flow: FlowControl, behaviour: Behaviour, token: str) -> None:
        self._exchange = exchange
        self._keys = keys
        self._flow = flow
        self._behaviour = behaviour
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        """All routes, guarded by the token."""
        return [
            web.post(f"{PREFIX}/accounts", self._guarded(self._open_account)),
            web.post(f"{PREFIX}/transfers", self._guarded(self._transfer)),
            web.post(f"{PREFIX}/flow", self._guarded(self._set_flow)),
            web.post(f"{PREFIX}/behaviour", self._guarded(self._set_behaviour)),
            web.get(f"{PREFIX}/status", self._guarded(self._status)),
            web.get(f"{PREFIX}/state", self._guarded(self._state)),
        ]

    def _guarded(
        self, handler: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def handle(request: web.Request) -> web.Response:
            given = request.headers.get("Authorization", "")
            if not self._token or not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
                return _answer({"error": "the admin token is missing or wrong (SKEET_SIM__ADMIN_TOKEN)"}, 401)
            try:
                raw = await request.read()
                body = orjson.loads(raw) if raw else {}
                if not isinstance(body, dict):
                    raise InvalidInput("the body must be a JSON object")
                return _answer(handler(body))
            except orjson.JSONDecodeError as error:
                return _answer({"error": f"the body is no JSON: {error}"}, 400)
            except (InvalidInput, Rejection) as error:
                return _answer({"error": str(error)}, 400)

        return handle

    def _open_account(self, body: dict[str, Any]) -> dict[str, Any]:
        account = _text(body, "account")
        if account in (HOUSE, EXCHANGE):
            raise InvalidInput(f"account is {account!r}: that name is the exchange's own; choose another")
        self._exchange.execute(OpenAccount(account=account))
        pair = self._keys.pair(account)
        return {"account": account, "api_key": pair.api_key, "secret": pair.secret}

    def _transfer(self, body: dict[str, Any]) -> dict[str, Any]:
        account, asset, amount = (_text(body, name) for name in ("account", "asset", "amount"))
        if account not in self._exchange.engine.accounts:
            raise InvalidInput(f"account is {account!r}: there is none of this name; create it first")
        known = {
            each for instrument in self._exchange.instruments.values() for each in (instrument.base, instrument.quote)
        }
        if asset not in known:
            raise InvalidInput(f"asset is {asset!r}; expected one of {', '.join(sorted(known))}")
        try:
            units = -parse_units(amount[1:]) if amount.startswith("-") else parse_units(amount)
        except ValueError as error:
            raise InvalidInput(f"amount is {amount!r}: {error}") from error
        transfer_id = self._exchange.execute(
            Transfer(account=account, client_key=_text(body, "client_key"), asset=asset, units=units)
        )
        return {"transfer_id": transfer_id}

    def _set_flow(self, body: dict[str, Any]) -> dict[str, Any]:
        speed = body.get("speed", self._flow.speed)
        if isinstance(speed, bool) or not isinstance(speed, (int, float)) or not 0 < speed <= MAX_SPEED:
            raise InvalidInput(f"speed is {speed!r}; expected a number above 0, at most {MAX_SPEED}")
        self._flow.speed = float(speed)
        self._flow.paused = bool(body.get("paused", self._flow.paused))
        return asdict(self._flow)

    def _set_behaviour(self, body: dict[str, Any]) -> dict[str, Any]:
        behaviour = self._behaviour
        try:
            unique = UniqueAmong(body.get("duplicate_client_ids", behaviour.unique_among))
            drop_next = int(body.get("drop_next", behaviour.drop_next))
            probability = float(body.get("drop_probability", behaviour.drop_probability))
            repeat_next = int(body.get("repeat_next", behaviour.repeat_next))
            seed = int(body.get("seed", 0))
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"behaviour: {error}") from error
        if not 0.0 <= probability <= 1.0 or drop_next < 0 or repeat_next < 0:
            raise InvalidInput("drop_probability must be between 0 and 1, drop_next and repeat_next not negative")
        behaviour.unique_among, behaviour.drop_next, behaviour.drop_probability = unique, drop_next, probability
        behaviour.repeat_next = repeat_next
        if "seed" in body:
            behaviour.seed(seed)
        return self._behaviour_row()

    def _behaviour_row(self) -> dict[str, Any]:
        return {
            "duplicate_client_ids": self._behaviour.unique_among.value,
            "drop_next": self._behaviour.drop_next,
            "drop_probability": self._behaviour.drop_probability,
            "dropped": self._behaviour.dropped,
            "repeat_next": self._behaviour.repeat_next,
            "repeated": self._behaviour.repeated,
        }

    def _status(self, body: dict[str, Any]) -> dict[str, Any]:
        exchange = self._exchange
        return {
            "now_ns": exchange.now_ns,
            "seed": exchange.options.seed,
            "flow": asdict(self._flow),
            "behaviour": self._behaviour_row(),
            "accounts": len(exchange.engine.accounts),
            "instruments": [
                {
                    "symbol": symbol,
                    "last_price": format_units(market.last_price * market.instrument.tick),
                    "trades": market.next_trade_id - 1,
                    "open_orders": len(market.book.orders),
                    "volume_24h": ticker(exchange, market.instrument)["volume"],
                }
                for symbol, market in exchange.engine.markets.items()
            ],
        }

    def _state(self, body: dict[str, Any]) -> dict[str, Any]:
        exchange = self._exchange
        return {
            "now_ns": exchange.now_ns,
            "accounts": {account: self._account(account) for account in sorted(exchange.engine.accounts)},
        }

    def _account(self, account: str) -> dict[str, Any]:
        exchange = self._exchange
        views = [view for symbol in exchange.instruments for view in exchange.blotter.orders(account, symbol)]
        return {
            "balances": {
                asset: {"free": format_units(free), "locked": format_units(locked)}
                for asset, (free, locked) in exchange.engine.balances.of(account).items()
            },
            "open_orders": [order_row(view) for view in views if view.is_open],
            "orders": [order_row(view) for view in views],
            "fills": [
                asdict(fill) for symbol in exchange.instruments for fill in exchange.blotter.fills(account, symbol)
            ],
            "transfers": [
                asdict(transfer) for (owner, _), transfer in exchange.engine.transfers.items() if owner == account
            ],
        }


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= 128:
        raise InvalidInput(f"{name} is {value!r}; expected a text of 1 to 128 characters")
    return value


def _answer(body: dict[str, Any], status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/json")
