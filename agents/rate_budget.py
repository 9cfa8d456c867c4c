"""The budget of orders that a venue grants, spent before an attempt is written. Cancels always find a part kept for them.

A bucket that refills evenly, in tokens; the clock is an argument.
"""

from __future__ import annotations

from skeet.core.values import NS_PER_S

PERIOD_NS = 10 * NS_PER_S
"""Venues grant so many orders in ten seconds."""
CANCEL_SHARE = 0.2
"""A fifth of the budget is for cancels only: whoever may not cancel any more cannot limit a loss."""
HOLD_OFF_NS = 10 * NS_PER_S
"""How long no new order leaves after the venue said "too many requests"; going on would end in a ban of the address."""


class RateBudget:
    """Tokens of one account: at most ``orders`` in ten seconds."""

    def __init__(self, orders: int, now_ns: int) -> None:
        self._capacity = float(orders)
        self._tokens = float(orders)
        self._at_ns = now_ns
        self._held_until_ns = 0

    def take_order(self, now_ns: int) -> int:
        """Take a token for an order: 0 when it was taken, else how many ns to wait before asking again."""
        if now_ns < self._held_until_ns:
            return self._held_until_ns - now_ns
        return self._take(now_ns, self._capacity * CANCEL_SHARE)

    def take_cancel(self, now_ns: int) -> int:
        """Take a token for a cancel; all of the budget is for it."""
        return self._take(now_ns, 0.0)

    def hold_off(self, now_ns: int) -> None:
        """The venue said that it is too much: no new orders for a while."""
        self._held_until_ns = now_ns + HOLD_OFF_NS

    def _take(self, now_ns: int, kept: float) -> int:
        elapsed = max(0, now_ns - self._at_ns)
        self._tokens = min(self._capacity, self._tokens + elapsed * self._capacity / PERIOD_NS)
        self._at_ns = now_ns
        missing = kept + 1.0 - self._tokens
        if missing > 0.0:
            return int(missing * PERIOD_NS / self._capacity) + 1
        self._tokens -= 1.0
        return 0
