"""The exchange's memory as plain JSON values, and back: books in queue order, balances, ids, the flow's hidden state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from skeet.core.errors import InfrastructureError
from skeet.venues.sim.book import HalfBook
from skeet.venues.sim.engine import Engine, Market
from skeet.venues.sim.linefile import LineFile, read_lines
from skeet.venues.sim.orders import HOUSE, Order, Side

KEEP_SNAPSHOTS = 2
"""Older ones go, with their command logs."""


def dump_engine(engine: Engine) -> dict[str, Any]:
    """Everything of the engine that the accounts' journal does not tell."""
    return {
        "balances": engine.balances.dump(),
        "markets": {symbol: _dump_market(market) for symbol, market in engine.markets.items()},
    }


def load_engine(engine: Engine, dumped: dict[str, Any]) -> None:
    """Put a dump into a fresh engine."""
    engine.balances.load(dumped["balances"])
    for symbol, values in dumped["markets"].items():
        _load_market(engine, engine.markets[symbol], values)


def _dump_market(market: Market) -> dict[str, Any]:
    return {
        "next_order_id": market.next_order_id,
        "next_trade_id": market.next_trade_id,
        "next_aggregate_id": market.next_aggregate_id,
        "last_price": market.last_price,
        "update_id": market.book.update_id,
        "bids": _dump_half(market.book.bids),
        "asks": _dump_half(market.book.asks),
    }


def _dump_half(half: HalfBook) -> list[list[Any]]:
    return [
        [each.order_id, each.client_order_id, each.account, each.price, each.quantity, each.filled, each.locked]
        for level in half.from_best()
        for each in level.orders.values()
    ]


def _load_market(engine: Engine, market: Market, values: dict[str, Any]) -> None:
    book, symbol = market.book, market.instrument.symbol
    for side in (Side.BUY, Side.SELL):
        for order_id, client_order_id, account, price, quantity, filled, locked in values[
            "bids" if side is Side.BUY else "asks"
        ]:
            order = Order(
                order_id=order_id,
                client_order_id=client_order_id,
                account=account,
                side=side,
                price=price,
                quantity=quantity,
                filled=filled,
                locked=locked,
            )
            book.rest(order)
            if account != HOUSE:
                engine.open_orders.setdefault(account, {})[symbol, order_id] = order
    market.next_order_id = values["next_order_id"]
    market.next_trade_id = values["next_trade_id"]
    market.next_aggregate_id = values["next_aggregate_id"]
    market.last_price = values["last_price"]
    book.update_id = values["update_id"]
    book.take_changes()
    market.top = book.top()


class SnapshotStore:
    """Numbered snapshots, each with the log of the commands that came after it."""

    def __init__(self, directory: Path, *, fsync: bool = False) -> None:
        self._directory = directory
        self._fsync = fsync

    def newest(self) -> tuple[int, dict[str, Any]] | None:
        """Number and content of the newest whole snapshot; None on a fresh directory."""
        for number in sorted(self._numbers(), reverse=True):
            try:
                for record, _, _ in read_lines(self._path(number)):
                    return number, record
            except InfrastructureError:
                continue  # the one before it, with its longer command log, leads to the same state
        return None

    def write(self, number: int, content: dict[str, Any]) -> None:
        """Write a snapshot whole or not at all, and forget the oldest."""
        unfinished = self._path(number).with_suffix(".new")
        unfinished.unlink(missing_ok=True)
        file = LineFile(unfinished, fsync=self._fsync)
        file.append([content])
        file.close()
        unfinished.replace(self._path(number))
        for old in sorted(self._numbers())[:-KEEP_SNAPSHOTS]:
            self._path(old).unlink()
            self.commands_path(old).unlink(missing_ok=True)

    def commands_path(self, number: int) -> Path:
        """The log of the commands after snapshot `number`."""
        return self._directory / f"commands-{number:08d}.jsonl"

    def logs_from(self, number: int) -> list[int]:
        """Numbers of the command logs that continue snapshot `number`, in order."""
        names = self._directory.glob("commands-*.jsonl")
        return sorted(each for each in (int(path.stem.rpartition("-")[2]) for path in names) if each >= number)

    def _path(self, number: int) -> Path:
        return self._directory / f"snapshot-{number:08d}.json"

    def _numbers(self) -> list[int]:
        return [int(path.stem.rpartition("-")[2]) for path in self._directory.glob("snapshot-*.json")]
