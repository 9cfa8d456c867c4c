"""An account's state as canonical bytes: equal states give equal bytes, however they were reached.

JSON in the order in which things happened; amounts without trailing zeros, so that a state folded from the wire equals the
one that the deciding process holds.
"""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from hashlib import sha256
from importlib.resources import files
from typing import Any

from skeet.core.account_state import AccountState, OrderEnd, OrderState
from skeet.core.ledger import Balance
from skeet.core.values import OrderStatus, Side


def state_bytes(state: AccountState) -> bytes:
    """The canonical bytes of the state."""
    return json.dumps(_plain(state), separators=(",", ":"), ensure_ascii=False).encode()


def state_hash(state: AccountState) -> str:
    """SHA-256 of the canonical bytes."""
    return sha256(state_bytes(state)).hexdigest()


def state_from_bytes(content: bytes) -> AccountState:
    """The state that these bytes are of; only bytes of the same :func:`folding_code_version` may be given."""
    fields: dict[str, Any] = json.loads(content)
    fields["balances"] = {
        asset: Balance(free=Decimal(entry["free"]), reserved=Decimal(entry["reserved"]))
        for asset, entry in fields["balances"].items()
    }
    for name in ("orders", "closed"):
        fields[name] = {order_id: _order(entry) for order_id, entry in fields[name].items()}
    return AccountState(**fields)


def folding_code_version() -> str:
    """SHA-256 of the core's sources: a snapshot made by other code is not used, the log is folded instead."""
    digest = sha256()
    for source in sorted(files("skeet.core").iterdir(), key=lambda path: path.name):
        if source.name.endswith(".py"):
            digest.update(source.name.encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


def _order(entry: dict[str, Any]) -> OrderState:
    for name in ("quantity", "reserved_at_first", "reserved", "filled_quantity"):
        entry[name] = Decimal(entry[name])
    entry["side"], entry["status"] = Side(entry["side"]), OrderStatus(entry["status"])
    entry["end"] = None if entry["end"] is None else _end(entry["end"])
    return OrderState(**entry)


def _end(entry: dict[str, Any]) -> OrderEnd:
    return OrderEnd(
        outcome=OrderStatus(entry["outcome"]),
        filled_quantity=Decimal(entry["filled_quantity"]),
        reason=entry["reason"],
    )


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value.normalize():f}" if value else "0"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return value
