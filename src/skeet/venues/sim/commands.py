"""Everything that can change the exchange, as one closed union; and `perform`, which does it.

The exchange is a pure function of its seed and of these commands with their times: this is what the command log stores
and what recovery replays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, assert_never

from skeet.core.errors import DecodeError
from skeet.venues.sim.engine import Engine
from skeet.venues.sim.flow import Flow
from skeet.venues.sim.orders import OrderKind, OrderRequest, Side, TimeInForce, UniqueAmong

NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class StepFlow:
    """Play `flow_ns` of background flow into the wall clock interval that ends at the command's time."""

    from_ns: int
    flow_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount:
    """Open an account (idempotent)."""

    account: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """Pay in or out; idempotent by (account, client_key)."""

    account: str
    client_key: str
    asset: str
    units: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder:
    """Cancel one open order."""

    account: str
    symbol: str
    order_id: int
    cancel_id: str


Command = StepFlow | OpenAccount | Transfer | OrderRequest | CancelOrder
_TYPES: dict[str, type[Command]] = {
    each.__name__: each for each in (StepFlow, OpenAccount, Transfer, OrderRequest, CancelOrder)
}
_ENUMS: dict[str, Callable[[Any], Any]] = {
    "side": Side,
    "kind": OrderKind,
    "time_in_force": TimeInForce,
    "unique_among": UniqueAmong,
}


def perform(engine: Engine, flow: Flow, command: Command, ts_ns: int) -> int:
    """Carry out a command at `ts_ns`; returns the order id or transfer id it made, else 0.

    Raises
    ------
    Rejection
        the engine refuses; nothing changed.
    """
    match command:
        case StepFlow():
            flow.advance(command.flow_ns / NS_PER_S, command.from_ns, ts_ns)
        case OrderRequest():
            return engine.place(command, ts_ns)
        case CancelOrder():
            engine.cancel(command.account, command.symbol, command.order_id, command.cancel_id, ts_ns)
        case Transfer():
            return engine.transfer(command.account, command.client_key, command.asset, command.units, ts_ns).transfer_id
        case OpenAccount():
            engine.open_account(command.account, ts_ns)
        case _:
            assert_never(command)
    return 0


def to_record(command: Command, ts_ns: int) -> dict[str, Any]:
    """The command as the log stores it."""
    return {"do": type(command).__name__, "ts_ns": ts_ns, **asdict(command)}


def from_record(record: dict[str, Any]) -> tuple[Command, int]:
    """The command and its time from a line of the log.

    Raises
    ------
    DecodeError
        the record is none of ours.
    """
    try:
        values = {name: value for name, value in record.items() if name not in ("do", "ts_ns")}
        make: Callable[..., Command] = _TYPES[record["do"]]
        return make(**{name: _ENUMS.get(name, _same)(value) for name, value in values.items()}), record["ts_ns"]
    except (KeyError, TypeError, ValueError) as error:
        raise DecodeError(f"command log record {record!r} is not a command of this version: {error}") from error


def _same(value: Any) -> Any:
    return value
