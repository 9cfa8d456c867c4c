"""User data over the WebSocket API: a signed subscription, then every change of the account as it happens."""

from __future__ import annotations

from typing import Any

import orjson

from skeet.venues.sim.account_events import OrderAccepted, OrderClosed, OrderFilled, Transferred
from skeet.venues.sim.behaviour import Behaviour
from skeet.venues.sim.blotter import OrderView
from skeet.venues.sim.exchange import Exchange, Report
from skeet.venues.sim.orders import OrderStatus
from skeet.venues.sim.sockets import Client
from skeet.venues.sim.units import format_units


class UserStreams:
    """Which clients hear of which account."""

    def __init__(self, exchange: Exchange, behaviour: Behaviour) -> None:
        self._exchange = exchange
        self._behaviour = behaviour
        self._clients: dict[str, dict[Client, int]] = {}
        exchange.listeners.append(self.publish)

    def subscribe(self, client: Client, account: str) -> int:
        """Send a client an account's events; returns the subscription id (per connection, from 0)."""
        mine = sum(client in clients for clients in self._clients.values())
        return self._clients.setdefault(account, {}).setdefault(client, mine)

    def leave(self, client: Client) -> None:
        """Forget a client's subscriptions."""
        for clients in self._clients.values():
            clients.pop(client, None)

    def publish(self, report: Report) -> None:
        """Send the account events of an outcome, and each account's balances after it."""
        touched: dict[str, set[str]] = {}
        for event, view in report.account_events:
            if not self._clients.get(event.account):
                continue
            if isinstance(event, Transferred):
                self._send(event.account, _balance_update(event))
                touched.setdefault(event.account, set()).add(event.asset)
            elif view is not None:
                execution = _execution_report(event, view)
                if execution is not None:
                    for _ in range(self._behaviour.report_copies()):
                        self._send(event.account, execution)
                instrument = self._exchange.instruments[view.accepted.symbol]
                touched.setdefault(event.account, set()).update((instrument.base, instrument.quote))
        for account, assets in touched.items():
            self._send(account, self._position(account, sorted(assets)))

    def _position(self, account: str, assets: list[str]) -> dict[str, Any]:
        now_ms = self._exchange.now_ns // 1_000_000
        balances = self._exchange.engine.balances
        return {
            "e": "outboundAccountPosition",
            "E": now_ms,
            "u": now_ms,
            "B": [
                {
                    "a": asset,
                    "f": format_units(balances.free(account, asset)),
                    "l": format_units(balances.locked(account, asset)),
                }
                for asset in assets
            ],
        }

    def _send(self, account: str, event: dict[str, Any]) -> None:
        raw = orjson.dumps(event).decode()
        for client, subscription_id in self._clients[account].items():
            if not self._behaviour.silences():
                client.send(f'{{"subscriptionId":{subscription_id},"event":{raw}}}')


def _balance_update(event: Transferred) -> dict[str, Any]:
    time_ms = event.ts_ns // 1_000_000
    return {"e": "balanceUpdate", "E": time_ms, "a": event.asset, "d": event.amount, "T": time_ms}


def _execution_report(event: object, view: OrderView) -> dict[str, Any] | None:
    """Binance's executionReport; None for a closing that the last fill has already told."""
    if isinstance(event, OrderAccepted):
        return _report(view, "NEW", OrderStatus.NEW, event.ts_ns)
    if isinstance(event, OrderFilled):
        last = {
            "l": event.quantity,
            "L": event.price,
            "Y": event.quote_quantity,
            "n": event.commission,
            "N": event.commission_asset,
            "t": event.trade_id,
            "m": event.is_maker,
        }
        return _report(view, "TRADE", view.status, event.ts_ns) | last
    if isinstance(event, OrderClosed) and event.status != OrderStatus.FILLED:
        closed = _report(view, event.status, view.status, event.ts_ns)
        return closed | {"c": event.cancel_id, "C": event.client_order_id} if event.cancel_id else closed
    return None


def _report(view: OrderView, execution: str, status: OrderStatus, ts_ns: int) -> dict[str, Any]:
    order = view.accepted
    return {
        "e": "executionReport",
        "E": ts_ns // 1_000_000,
        "s": order.symbol,
        "c": order.client_order_id,
        "S": order.side,
        "o": order.kind,
        "f": order.time_in_force,
        "q": format_units(view.quantity),
        "p": order.price,
        "P": "0.00000000",
        "F": "0.00000000",
        "g": -1,
        "C": "",
        "x": execution,
        "X": status.value,
        "r": "NONE",
        "i": order.order_id,
        "l": "0.00000000",
        "z": format_units(view.executed),
        "L": "0.00000000",
        "n": "0",
        "N": None,
        "T": ts_ns // 1_000_000,
        "t": -1,
        "I": order.order_id,
        "w": view.is_open,
        "m": False,
        "M": False,
        "O": order.ts_ns // 1_000_000,
        "Z": format_units(view.cost),
        "Y": "0.00000000",
        "Q": order.quote_budget,
        "W": order.ts_ns // 1_000_000,
        "V": "NONE",
    }
