"""Money side of an order's life: lock what it may spend, pay trade by trade, give back what is left.

The invariants: a limit order's lock always covers its unexecuted rest at its own limit, worst fee included; every trade
moves the same base and quote between its two sides, and commissions go to the exchange's account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from skeet.venues.sim.balances import Balances
from skeet.venues.sim.instruments import CommissionAsset, Instrument
from skeet.venues.sim.orders import EXCHANGE, HOUSE, Order, OrderKind, Side, Trade
from skeet.venues.sim.units import fee_of, fee_reserve


@dataclass(frozen=True, slots=True)
class Commission:
    """What a side of a trade paid, in units of an asset."""

    asset: str
    units: int


def reserve(
    balances: Balances, instrument: Instrument, kind: OrderKind, order: Order, meets: Sequence[tuple[Order, int]]
) -> bool:
    """Lock what a limit order may spend; for a market order only see that what it will spend is there.

    False, and nothing changed, if the account has not enough.
    """
    asset = _spends(instrument, order.side)
    if kind is not OrderKind.MARKET:
        needed = _required(instrument, order)
        if not balances.lock(order.account, asset, needed):
            return False
        order.locked = needed
        return True
    if order.side is Side.SELL:
        needed = order.quantity * instrument.step
    else:
        value = sum(instrument.value(maker.price, lots) for maker, lots in meets)
        needed = value + _fee_reserve(instrument, value)
    return balances.free(order.account, asset) >= needed


def settle(balances: Balances, instrument: Instrument, order: Order, trade: Trade, *, is_maker: bool) -> Commission:
    """Book one side of a trade: release the lock's share, pay, receive, take the commission. The house pays none."""
    value, base = instrument.value(trade.price, trade.quantity), trade.quantity * instrument.step
    buys = order.side is Side.BUY
    fee = Commission(instrument.quote, 0)
    if order.account != HOUSE:
        rate = instrument.maker_ppm if is_maker else instrument.taker_ppm
        if buys and instrument.commission is CommissionAsset.RECEIVED:
            fee = Commission(instrument.base, fee_of(base, rate))
        else:
            fee = Commission(instrument.quote, fee_of(value, rate))
    if order.locked:
        still_needed = _required(instrument, order)
        balances.unlock(order.account, _spends(instrument, order.side), order.locked - still_needed)
        order.locked = still_needed
    change = {instrument.base: base if buys else -base, instrument.quote: -value if buys else value}
    change[fee.asset] -= fee.units
    for asset, units in change.items():
        balances.add(order.account, asset, units)
    if fee.units:
        balances.add(EXCHANGE, fee.asset, fee.units)
    return fee


def release(balances: Balances, instrument: Instrument, order: Order) -> None:
    """Give back what a closed order still has locked."""
    if order.locked:
        balances.unlock(order.account, _spends(instrument, order.side), order.locked)
        order.locked = 0


def _spends(instrument: Instrument, side: Side) -> str:
    return instrument.quote if side is Side.BUY else instrument.base


def _fee_reserve(instrument: Instrument, value: int) -> int:
    if instrument.commission is CommissionAsset.RECEIVED:
        return 0
    return fee_reserve(value, instrument.worst_fee_ppm)


def _required(instrument: Instrument, order: Order) -> int:
    """Units that the unexecuted rest of a limit order must keep locked."""
    if order.side is Side.SELL:
        return order.leaves * instrument.step
    value = instrument.value(order.price, order.leaves)
    return value + _fee_reserve(instrument, value)
