"""Double entry with reservations: which postings each thing that moves money makes.

FREE + RESERVED is what the customer owns; MARKET is the other side of trades, FEES what venues took, EXTERNAL the world
outside. The lines of one event sum to zero per asset. FREE never goes below zero: what the books cannot cover (a fee in an
asset that was never deposited, an execution larger than commanded) is booked against EXTERNAL, and appears as
BalanceDiffered when the venue's balance is next compared. Works under :func:`skeet.core.values.exact_arithmetic`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from skeet.core.accounts import LedgerAccount, Posting
from skeet.core.values import AMOUNT_SCALE, Side, divide, fee_amount

ZERO = Decimal(0)
SMALLEST = Decimal(1).scaleb(-AMOUNT_SCALE)
NO_BOOK = ""
"""Deposits belong to the account, not to one of its books."""


@dataclass(slots=True)
class Balance:
    """What an account owns of one asset."""

    free: Decimal = ZERO
    reserved: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        """Free and reserved together."""
        return self.free + self.reserved


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One fill as the ledger sees it. ``released`` leaves the order's reservation, which is in ``reserved_asset``."""

    base: str
    quote: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    reserved_asset: str
    released: Decimal


def amount_of(value: Decimal) -> Decimal:
    """The value at the scale of account amounts; a product of two amounts carries twice as many (zero) places.

    Raises
    ------
    decimal.Inexact
        digits would be lost: prices and quantities finer than an account can hold.
    """
    return value.quantize(SMALLEST)


def assets_of(instrument_id: str) -> tuple[str, str]:
    """Base and quote of ``VENUE:BASE/QUOTE`` (instrument ids name them and never change)."""
    base, _, quote = instrument_id.partition(":")[2].partition("/")
    return base, quote.partition(":")[0]


def reservation(
    instrument_id: str, side: Side, quantity: Decimal, limit_price: Decimal, taker_fee: Decimal
) -> tuple[str, Decimal]:
    """Asset and amount that an order sets aside: a buy its worst cost with the fee rounded up, a sell its quantity."""
    base, quote = assets_of(instrument_id)
    if side is Side.SELL:
        return base, quantity
    notional = amount_of(limit_price * quantity)
    return quote, notional + fee_amount(notional, taker_fee)


def share_of(reserved: Decimal, leaves: Decimal, quantity: Decimal) -> Decimal:
    """What ``leaves`` of ``quantity`` still needs of the reservation, rounded up to the smallest amount."""
    if leaves <= ZERO:
        return ZERO
    share = divide(reserved * leaves, quantity)
    return share if share * quantity >= reserved * leaves else share + SMALLEST


def deposit(asset: str, amount: Decimal) -> tuple[Posting, ...]:
    """Funds come in from outside."""
    return _lines(NO_BOOK, {(LedgerAccount.EXTERNAL, asset): -amount, (LedgerAccount.FREE, asset): amount})


def reserve(asset: str, amount: Decimal, book_id: str) -> tuple[Posting, ...]:
    """Set aside for an order."""
    return _lines(book_id, {(LedgerAccount.FREE, asset): -amount, (LedgerAccount.RESERVED, asset): amount})


def release(asset: str, amount: Decimal, book_id: str) -> tuple[Posting, ...]:
    """Give back what an ended order had set aside."""
    return _lines(book_id, {(LedgerAccount.RESERVED, asset): -amount, (LedgerAccount.FREE, asset): amount})


def settle(execution: Execution, free: Mapping[str, Decimal], book_id: str) -> tuple[Posting, ...]:
    """The lines of one fill. ``free`` is what the account has free before it (missing: nothing)."""
    value = amount_of(execution.price * execution.quantity)
    sign = 1 if execution.side is Side.BUY else -1
    market = {execution.base: -sign * execution.quantity, execution.quote: sign * value}
    lines = {(LedgerAccount.MARKET, asset): amount for asset, amount in market.items()}
    lines[LedgerAccount.RESERVED, execution.reserved_asset] = -execution.released
    lines[LedgerAccount.FEES, execution.fee_asset] = execution.fee
    gained: dict[str, Decimal] = {}
    for (_, asset), amount in lines.items():
        gained[asset] = gained.get(asset, ZERO) - amount
    for asset, amount in gained.items():
        short = max(ZERO, -(free.get(asset, ZERO) + amount))
        lines[LedgerAccount.FREE, asset] = amount + short
        lines[LedgerAccount.EXTERNAL, asset] = -short
    return _lines(book_id, lines)


def post(balances: dict[str, Balance], postings: Iterable[Posting]) -> None:
    """Apply the lines to the balances, in place."""
    for line in postings:
        if line.ledger is LedgerAccount.FREE:
            balances.setdefault(line.asset, Balance()).free += line.amount
        elif line.ledger is LedgerAccount.RESERVED:
            balances.setdefault(line.asset, Balance()).reserved += line.amount


def moved(postings: Iterable[Posting], ledger: LedgerAccount) -> Decimal:
    """The sum of the lines of one ledger account (all of one asset, by the caller's knowledge)."""
    return sum((line.amount for line in postings if line.ledger is ledger), ZERO)


def _lines(book_id: str, amounts: Mapping[tuple[LedgerAccount, str], Decimal]) -> tuple[Posting, ...]:
    return tuple(
        Posting(ledger=ledger, asset=asset, amount=amount, book_id=book_id)
        for (ledger, asset), amount in amounts.items()
        if amount
    )
