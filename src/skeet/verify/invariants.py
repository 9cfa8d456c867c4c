"""What must hold within the log itself: streams without holes (I1), a ledger that balances (I3)."""

from __future__ import annotations

from collections import defaultdict

from skeet.verify.amounts import from_avro, shown
from skeet.verify.books import Books, OrderFacts
from skeet.verify.findings import Check
from skeet.verify.log import Entry


class Streams:
    """I1: each account's ``stream_version`` counts from 1 without hole or repeat, in one partition; ids are unique."""

    def __init__(self) -> None:
        self.check = Check(name="I1", title="account streams without hole or repeat", must_not_be_empty=("events",))
        self._versions: dict[str, int] = {}
        self._partitions: dict[str, int] = {}
        self._ids: set[str] = set()

    def add(self, entry: Entry) -> None:
        """Take the next record of the account topic."""
        if entry.schema is None:
            # Not the desk's, which writes whole events or none. One of the desk's that is gone shows as a hole.
            self.check.count("records of no account")
            return
        self.check.count("events")
        account, version = entry.values["account_id"], entry.values["stream_version"]
        expected = self._versions.get(account, 0) + 1
        if version != expected:
            word = "a hole" if version > expected else "a repeat"
            self.check.differs(f"{entry.at}: account {account} has version {version} where {expected} is due ({word})")
        self._versions[account] = version
        if self._partitions.setdefault(account, entry.partition) != entry.partition:
            self.check.differs(f"{entry.at}: account {account} was in partition {self._partitions[account]} before")
        if entry.values["event_id"] in self._ids:
            self.check.differs(f"{entry.at}: event id {entry.values['event_id']} was there before")
        self._ids.add(entry.values["event_id"])

    def finish(self) -> Check:
        """The result."""
        self.check.compared["accounts"] = len(self._versions)
        return self.check


class Ledger:
    """I3: postings sum to zero, free and reserved never below zero, reservations equal what open orders need."""

    def __init__(self) -> None:
        self.check = Check(
            name="I3", title="ledger: zero sums, no negative balance, reservations", must_not_be_empty=("postings",)
        )
        self._sums: dict[tuple[str, str, str], int] = defaultdict(int)

    def add(self, entry: Entry) -> None:
        """Take the next readable record of the account topic."""
        postings = entry.values.get("postings") or ()
        if not postings:
            return
        per_asset: dict[str, int] = defaultdict(int)
        touched = set()
        for posting in postings:
            units = from_avro(posting["amount"]) or 0
            per_asset[posting["asset"]] += units
            if posting["ledger"] in ("FREE", "RESERVED"):
                key = (entry.values["account_id"], posting["asset"], posting["ledger"])
                self._sums[key] += units
                touched.add(key)
        self.check.count("postings", len(postings))
        self.check.count("entries")
        for asset, total in per_asset.items():
            if total:
                self.check.differs(f"{entry.at}: postings of {asset} sum to {shown(total)}")
        for key in touched:
            if self._sums[key] < 0:
                account, asset, ledger = key
                self.check.differs(f"{entry.at}: {ledger} {asset} of {account} falls to {shown(self._sums[key])}")

    def finish(self, books: Books) -> Check:
        """The result, with the reservations compared to the orders at the end of the log."""
        needed: dict[tuple[str, str], int] = defaultdict(int)
        for order_id, order in books.orders.items():
            if not order.denied:
                self._order(order_id, order)
                needed[order.decision["account_id"], order.decision.get("reserved_asset", "")] += order.reserved
        for account in books.accounts.values():
            for asset, units in account.reserved.items():
                if units != needed[account.account_id, asset]:
                    self.check.differs(
                        f"account {account.account_id}: {shown(units)} {asset} reserved, "
                        f"its orders hold {shown(needed[account.account_id, asset])}"
                    )
        return self.check

    def _order(self, order_id: str, order: OrderFacts) -> None:
        if "reserved_amount" not in order.decision:
            self.check.differs(f"order {order_id}: its first event is no decision")
            return
        self.check.count("orders")
        due = reservation_due(order)
        if order.reserved != due:
            state = order.status.lower()
            self.check.differs(f"order {order_id} ({state}) holds {shown(order.reserved)}, needs {shown(due)}")


def reservation_due(order: OrderFacts) -> int:
    """Units an order must hold: the unfilled part's share of what was set aside at first, rounded up; ended ones none."""
    if not order.open:
        return 0
    first = from_avro(order.decision["reserved_amount"]) or 0
    quantity = from_avro(order.decision["quantity"]) or 0
    leaves = max(0, quantity - order.filled)
    return -(-first * leaves // quantity) if quantity else 0
