"""Sums and keys of ``accounts.events.v1``: what every store and the venue are held against. Amounts are units of 10^-18."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from skeet.verify.amounts import from_avro
from skeet.verify.log import Entry

TERMINAL = frozenset({"FILLED", "CANCELED", "EXPIRED", "REJECTED", "DENIED", "ABSENT"})
ENDS = frozenset({"OrderCanceled", "OrderExpired", "OrderRejected", "OrderAbsent", "OrderDenied"})

PARTITION_EVENTS = frozenset({"RulesApplied", "StateMarked"})
"""About the desk's own memory: no store shows them but the history. ``verify --deep`` checks what they say."""

Values = dict[str, Any]


@dataclass(slots=True)
class AccountFacts:
    """Keys of one account's stream, and the sums of its FREE and RESERVED lines by asset."""

    account_id: str
    version: int = 0
    last: Values = field(default_factory=dict)
    opened: Values | None = None
    halted: Values | None = None
    free: dict[str, int] = field(default_factory=dict)
    reserved: dict[str, int] = field(default_factory=dict)
    moved_at: dict[str, int] = field(default_factory=dict)
    """Version of the event that last moved the asset's FREE or RESERVED."""


@dataclass(slots=True)
class OrderFacts:
    """Keys of one order: its decision, the last event of each type, sums of its fills, what it still reserves."""

    decision: Values
    denied: bool
    last_of: dict[str, Values] = field(default_factory=dict)
    first_of: dict[str, Values] = field(default_factory=dict)
    last: Values = field(default_factory=dict)
    status: str = ""
    fills: int = 0
    filled: int = 0
    notional: int = 0
    """Sum of price times quantity, in units of 10^-36."""
    reserved: int = 0
    closed_at: int | None = None

    @property
    def open(self) -> bool:
        """Whether the order has not ended."""
        return self.status not in TERMINAL


@dataclass(frozen=True, slots=True)
class Line:
    """One posting."""

    event: Values
    event_type: str
    ledger: str
    asset: str
    units: int
    book_id: str


@dataclass(slots=True)
class Books:
    """The account topic up to a point, by key."""

    accounts: dict[str, AccountFacts] = field(default_factory=dict)
    orders: dict[str, OrderFacts] = field(default_factory=dict)
    fills: dict[tuple[str, int], Values] = field(default_factory=dict)
    lines: dict[tuple[str, int, int], Line] = field(default_factory=dict)
    denials: dict[tuple[str, int], tuple[str, Values]] = field(default_factory=dict)
    balance_differences: dict[tuple[str, int], Values] = field(default_factory=dict)
    controls: dict[int, Values] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take one readable record of the account topic."""
        assert entry.schema is not None
        name, values = entry.schema.name, entry.values
        account_id, version = values["account_id"], values["stream_version"]
        if name == "ControlApplied":
            self.controls[entry.partition] = values
            return
        if name in PARTITION_EVENTS:
            return
        account = self.accounts.setdefault(account_id, AccountFacts(account_id))
        account.version, account.last = version, values
        match name:
            case "AccountOpened":
                account.opened = values
            case "AccountHalted":
                account.halted = values
            case "BalanceDiffered":
                self.balance_differences[account_id, version] = values
            case "CommandDenied" | "OrderDenied":
                self.denials[account_id, version] = (name, values)
        self._post(account, name, values)
        if "status" in values:
            self._order(name, values)

    def _post(self, account: AccountFacts, name: str, values: Values) -> None:
        for number, posting in enumerate(values.get("postings") or (), start=1):
            units = from_avro(posting["amount"]) or 0
            ledger, asset = posting["ledger"], posting["asset"]
            line = Line(values, name, ledger, asset, units, posting["book_id"])
            self.lines[account.account_id, values["stream_version"], number] = line
            if ledger in ("FREE", "RESERVED"):
                sums = account.free if ledger == "FREE" else account.reserved
                sums[asset] = sums.get(asset, 0) + units
                account.moved_at[asset] = values["stream_version"]

    def _order(self, name: str, values: Values) -> None:
        order = self.orders.get(values["order_id"])
        if order is not None and name == "OrderDenied":
            return  # a command that came again, long after it was decided: a denial more, and the same order
        if order is None:
            order = self.orders[values["order_id"]] = OrderFacts(values, denied=name == "OrderDenied")
        order.first_of.setdefault(name, values)
        order.last_of[name] = order.last = values
        order.status = values["status"]
        for posting in values.get("postings") or ():
            if posting["ledger"] == "RESERVED":
                order.reserved += from_avro(posting["amount"]) or 0
        if name == "OrderFilled":
            quantity, price = from_avro(values["quantity"]) or 0, from_avro(values["price"]) or 0
            order.fills += 1
            order.filled += quantity
            order.notional += quantity * price
            self.fills[values["account_id"], values["stream_version"]] = values
        if order.status in TERMINAL and order.closed_at is None:
            order.closed_at = values["ts_event"]
