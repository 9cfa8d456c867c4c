"""Who owns what: free and locked units of every asset of every account.

A customer's balances never go below zero: `lock` refuses first, and everything after it moves what was locked. The
house is unbounded (its free balance may be negative), so that the sum over all accounts of an asset only ever changes
by transfers: that is the conservation the tests hold.
"""

from __future__ import annotations

from collections.abc import Iterator

from skeet.core.errors import BugError
from skeet.venues.sim.orders import HOUSE


class Balances:
    """Free and locked amounts in units of 10⁻⁸, by account and asset."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[str, dict[str, list[int]]] = {}

    def _entry(self, account: str, asset: str) -> list[int]:
        assets = self._held.setdefault(account, {})
        entry = assets.get(asset)
        if entry is None:
            entry = assets[asset] = [0, 0]
        return entry

    def free(self, account: str, asset: str) -> int:
        """What the account can spend or withdraw."""
        return self._entry(account, asset)[0]

    def locked(self, account: str, asset: str) -> int:
        """What open orders set aside."""
        return self._entry(account, asset)[1]

    def of(self, account: str) -> dict[str, tuple[int, int]]:
        """Asset → (free, locked) of one account, assets it ever held."""
        return {asset: (free, locked) for asset, (free, locked) in self._held.get(account, {}).items()}

    def lock(self, account: str, asset: str, units: int) -> bool:
        """Set `units` aside; False, and nothing changed, if there is not enough."""
        entry = self._entry(account, asset)
        if entry[0] < units:
            return False
        entry[0] -= units
        entry[1] += units
        return True

    def unlock(self, account: str, asset: str, units: int) -> None:
        """Give back what was set aside."""
        entry = self._entry(account, asset)
        entry[0] += units
        entry[1] -= units
        self._check(account, asset, entry)

    def add(self, account: str, asset: str, units: int) -> None:
        """Change the free balance by `units` (negative: take)."""
        entry = self._entry(account, asset)
        entry[0] += units
        self._check(account, asset, entry)

    def total(self, asset: str) -> int:
        """Free and locked of all accounts together."""
        return sum(sum(assets[asset]) for assets in self._held.values() if asset in assets)

    def accounts(self) -> Iterator[str]:
        """Every account that ever held anything."""
        return iter(self._held)

    def dump(self) -> dict[str, dict[str, list[int]]]:
        """Plain copy for a snapshot."""
        return {account: {asset: list(e) for asset, e in assets.items()} for account, assets in self._held.items()}

    def load(self, dumped: dict[str, dict[str, list[int]]]) -> None:
        """Replace everything by a dump."""
        self._held = {account: {a: list(e) for a, e in assets.items()} for account, assets in dumped.items()}

    @staticmethod
    def _check(account: str, asset: str, entry: list[int]) -> None:
        if account != HOUSE and (entry[0] < 0 or entry[1] < 0):
            raise BugError(f"balance of {account} in {asset} fell below zero: free {entry[0]}, locked {entry[1]}")
