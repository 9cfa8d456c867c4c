"""What can be traded here: symbols, steps, limits and fees.

A price is a whole number of ticks and a quantity a whole number of lots; `Instrument` converts both to and from units
of 10⁻⁸ and refuses a tick and lot whose product is not itself whole, so that every trade's value is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from skeet.core.errors import InvalidInput
from skeet.venues.sim.units import UNIT, parse_units


class CommissionAsset(StrEnum):
    """Which asset a commission is taken in."""

    QUOTE = "quote"  # on both sides, so that flat–position–flat ends exactly flat
    RECEIVED = "received"  # what the trade brings in, as Binance does without BNB


@dataclass(frozen=True, slots=True, kw_only=True)
class Instrument:
    """One spot market. `tick`, `step`, `min_notional` and the maxima are in units of 10⁻⁸."""

    symbol: str
    base: str
    quote: str
    tick: int
    step: int
    min_notional: int
    max_quantity: int
    max_price: int
    maker_ppm: int
    taker_ppm: int
    start_price: int
    commission: CommissionAsset = CommissionAsset.QUOTE
    lot_value: int = field(init=False)
    """Quote units that one lot costs at a price of one tick."""

    def __post_init__(self) -> None:
        value, rest = divmod(self.tick * self.step, UNIT)
        if rest:
            raise InvalidInput(f"{self.symbol}: tick times step is finer than 1e-8; make one of them coarser")
        object.__setattr__(self, "lot_value", value)

    def value(self, price: int, lots: int) -> int:
        """Quote units of `lots` at `price` ticks."""
        return price * lots * self.lot_value

    @property
    def worst_fee_ppm(self) -> int:
        """The higher of both rates: what a resting order must be able to pay."""
        return max(self.maker_ppm, self.taker_ppm)


def _instrument(base: str, quote: str, tick: str, step: str, start: str, min_notional: str = "5") -> Instrument:
    return Instrument(
        symbol=base + quote,
        base=base,
        quote=quote,
        tick=parse_units(tick),
        step=parse_units(step),
        min_notional=parse_units(min_notional),
        max_quantity=9_000 * UNIT,
        max_price=1_000_000 * UNIT,
        maker_ppm=200,
        taker_ppm=400,
        start_price=parse_units(start),
    )


def default_instruments(commission: CommissionAsset = CommissionAsset.QUOTE) -> dict[str, Instrument]:
    """The instruments of a fresh exchange by symbol. The first two have history."""
    listed = (
        _instrument("BTC", "USDT", "0.01", "0.00001", "60000"),
        _instrument("ETH", "USDT", "0.01", "0.0001", "3000"),
        _instrument("SOL", "USDT", "0.01", "0.001", "150"),
        _instrument("ETH", "BTC", "0.00001", "0.001", "0.05", "0.0001"),
    )
    if commission is CommissionAsset.QUOTE:
        return {each.symbol: each for each in listed}
    names = [name for name in Instrument.__dataclass_fields__ if name not in ("lot_value", "commission")]
    copies = (Instrument(**{name: getattr(each, name) for name in names}, commission=commission) for each in listed)
    return {each.symbol: each for each in copies}
