"""Pre-trade risk: one pure function, every control in a fixed order, every breach listed.

An input that is missing is a breach (fail closed). A control that cannot be evaluated because an earlier one already found
its input missing or malformed says nothing: the order is denied anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import ROUND_DOWN, Decimal
from decimal import Context as DecimalContext

from skeet.core.accounts import Breach
from skeet.core.admission import MAX_AMOUNT, flaws, recordable_text
from skeet.core.commands import MAX_VALIDITY_NS, CancelOrder, Command, SubmitOrder
from skeet.core.controls import Control, Limits, active_kills, limits_for
from skeet.core.ledger import SMALLEST, reservation
from skeet.core.market import InstrumentDefined, Reference, ReferenceStatus
from skeet.core.values import NS_PER_MS, NS_PER_S, OrderType, Side, TimeInForce

MAX_CLOCK_AHEAD_NS = 500 * NS_PER_MS
"""A cause may seem this far ahead of the log: the log's clock has milliseconds, and machines differ a little."""

BASIS_POINTS = Decimal(10_000)
ZERO = Decimal(0)
ROUNDING = DecimalContext(prec=100)
"""Only to find out whether digits would be lost: nothing that it gives is kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRules:
    """The installation's settings: limits for who has none of his own, the age of references, the collar."""

    limits: Limits
    reference_max_age_ns: int
    collar_bps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenReference:
    """The newest reference of an instrument, where it stands, and when the log got it."""

    reference: Reference
    at: str
    log_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Everything a decision may know beside the account's own state."""

    now_ns: int
    control: Control
    rules: RiskRules
    instrument: InstrumentDefined | None = None
    reference: SeenReference | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What risk sees of an account. ``tenant_id`` is the account's, ``asking_tenant_id`` the command's."""

    account_id: str
    tenant_id: str
    asking_tenant_id: str
    opened: bool
    halted: str
    venue: str
    free: Mapping[str, Decimal]
    unresolved: frozenset[tuple[str, str]] = frozenset()
    """Books and instruments with an order whose outcome at the venue is unknown."""


def check(order: SubmitOrder, account: Standing, context: Context) -> tuple[Breach, ...]:
    """Every control the order breaches, in the order of :data:`CONTROLS`; none: it may be authorised."""
    return tuple(breach for control in CONTROLS for breach in control(order, account, context))


def check_account(account: Standing) -> Iterator[Breach]:
    """Known, the tenant's own, and not halted."""
    if not account.opened:
        yield _breach("account", "the account is not open", account.account_id, "an open account")
    elif account.tenant_id != account.asking_tenant_id:
        # Says no more than for an account that does not exist: another tenant's accounts are not to be guessed.
        yield _breach("account", "the account is not open", account.account_id, "an open account")
    elif account.halted:
        yield _breach("account", f"the account is halted: {account.halted}", "halted", "active")


def check_validity(command: Command, now_ns: int) -> Iterator[Breach]:
    """Not expired, not caused in the future, not valid for too long."""
    if command.valid_until < now_ns:
        yield _breach("validity", "the command has expired", now_ns, command.valid_until)
    if command.ts_cause > now_ns + MAX_CLOCK_AHEAD_NS:
        yield _breach("validity", "the cause lies in the future", command.ts_cause, now_ns)
    if command.valid_until - command.ts_cause > MAX_VALIDITY_NS:
        seconds = (command.valid_until - command.ts_cause) // NS_PER_S
        yield _breach("validity", "valid for too long, in seconds", seconds, MAX_VALIDITY_NS // NS_PER_S)


def check_epoch(command: SubmitOrder | CancelOrder, control: Control) -> Iterator[Breach]:
    """Not from an earlier start of the instance; and an instance that was stopped or halted opens nothing any more.

    Its cancels still pass: they only lower risk, and a halting instance's own cancels race with the word of its halt.
    """
    owner = control.owners.get(command.book_id)
    if owner is None or not command.epoch:
        return
    if command.epoch < owner.epoch:
        yield _breach("epoch", "the instance was started again since", command.epoch, owner.epoch)
    elif command.epoch == owner.epoch and not owner.running and isinstance(command, SubmitOrder):
        yield _breach("epoch", "the instance was stopped or halted", command.epoch, "a running instance")


def limit_price_of(order: SubmitOrder, context: Context) -> Decimal | None:
    """The price the order goes to the venue with; a market order's is its collar. None while that is unknown."""
    if order.order_type is OrderType.LIMIT:
        return order.limit_price
    if order.order_type is not OrderType.MARKET or context.instrument is None or context.reference is None:
        return None
    return collar(order.side, context.reference.reference, context.rules.collar_bps, context.instrument.tick_size)


def collar(side: Side, reference: Reference, collar_bps: int, tick_size: Decimal) -> Decimal | None:
    """The worst price for taking, from the far side of the book, rounded to the tick toward the safe side.

    A buy may pay at most this, a sell must get at least this. None when that side of the book is empty.
    """
    width = Decimal(collar_bps) / BASIS_POINTS
    if side is Side.BUY and reference.ask > ZERO:
        return _down_to_step(reference.ask * (1 + width), tick_size)
    if side is Side.SELL and reference.bid > ZERO:
        return _up_to_step(reference.bid * (1 - width), tick_size)
    return None


def _account(_: SubmitOrder, account: Standing, __: Context) -> Iterator[Breach]:
    return check_account(account)


def _kill_switch(_: SubmitOrder, account: Standing, context: Context) -> Iterator[Breach]:
    tenant = account.tenant_id or account.asking_tenant_id
    for kill in active_kills(context.control, tenant, account.account_id):
        yield _breach("kill_switch", f"the kill switch of {kill.scope} is on: {kill.reason}", "on", "off")


def _epoch(order: SubmitOrder, _: Standing, context: Context) -> Iterator[Breach]:
    return check_epoch(order, context.control)


def _validity(order: SubmitOrder, _: Standing, context: Context) -> Iterator[Breach]:
    return check_validity(order, context.now_ns)


def _instrument(order: SubmitOrder, account: Standing, context: Context) -> Iterator[Breach]:
    if context.instrument is None:
        yield _breach("instrument", "the instrument is not known", order.instrument_id, "a defined instrument")
    elif not context.instrument.active:
        yield _breach("instrument", "the instrument does not trade now", order.instrument_id, "active")
    venue = order.instrument_id.partition(":")[0]
    if account.opened and venue.lower() != account.venue.lower():
        yield _breach("instrument", "the account is at another venue", venue, account.venue)


def _format(order: SubmitOrder, _: Standing, __: Context) -> Iterator[Breach]:
    for flaw in flaws(order):
        yield _breach("format", "a field cannot be recorded", flaw, "see the command's schema")
    for name, value in (("side", order.side), ("order_type", order.order_type), ("time_in_force", order.time_in_force)):
        if value.value == "UNKNOWN":
            yield _breach("format", f"{name} is not known", value, "a known value")
    if not _is_positive(order.quantity):
        yield _breach("format", "quantity is not positive", order.quantity, "> 0")
    if order.order_type is OrderType.LIMIT and not _is_positive(order.limit_price):
        yield _breach("format", "a limit order needs a positive limit price", order.limit_price, "> 0")
    if order.order_type is OrderType.MARKET and order.limit_price is not None:
        yield _breach("format", "a market order has no limit price", order.limit_price, "none")
    if order.post_only and (order.order_type is OrderType.MARKET or order.time_in_force is not TimeInForce.GTC):
        yield _breach(
            "format", "post-only orders rest: limit and GTC", f"{order.order_type} {order.time_in_force}", "GTC"
        )


def _reference(order: SubmitOrder, _: Standing, context: Context) -> Iterator[Breach]:
    seen, oldest = context.reference, context.now_ns - context.rules.reference_max_age_ns
    if seen is None:
        yield _breach("reference", "there is no reference price", order.instrument_id, "a live reference")
        return
    reference = seen.reference
    if reference.status is not ReferenceStatus.LIVE:
        yield _breach("reference", "the reference is not live", reference.status, ReferenceStatus.LIVE)
    taken = min(reference.ts_event, seen.log_ns)
    if taken < oldest:
        age, allowed = (context.now_ns - taken) // NS_PER_MS, context.rules.reference_max_age_ns // NS_PER_MS
        yield _breach("reference", "the reference is stale, in ms", age, allowed)
    if not (ZERO < reference.bid < reference.ask):
        yield _breach("reference", "the book is empty or crossed", f"{reference.bid}/{reference.ask}", "bid < ask")


def _unresolved(order: SubmitOrder, account: Standing, _: Context) -> Iterator[Breach]:
    """A strategy that ordered again while it is not known what became of its last order doubled positions elsewhere."""
    if (order.book_id, order.instrument_id) in account.unresolved:
        yield _breach("unresolved", "an order of this book here has no known outcome yet", "unknown", "resolved")


def _filters(order: SubmitOrder, _: Standing, context: Context) -> Iterator[Breach]:
    rules, price = context.instrument, limit_price_of(order, context)
    if rules is None or not _is_positive(order.quantity):
        return
    if rules.step_size and order.quantity % rules.step_size:
        yield _breach("filter", "quantity is no multiple of the step", order.quantity, rules.step_size)
    yield from _within("quantity", order.quantity, rules.min_quantity, rules.max_quantity)
    if price is None or not _is_positive(price):
        return
    if rules.tick_size and price % rules.tick_size:
        yield _breach("filter", "limit price is no multiple of the tick", price, rules.tick_size)
    yield from _within("notional", price * order.quantity, rules.min_notional, rules.max_notional)


def _price_collar(order: SubmitOrder, _: Standing, context: Context) -> Iterator[Breach]:
    """A limit far through the market is a mistyped one; a passive one may rest anywhere."""
    if order.order_type is not OrderType.LIMIT or not _is_positive(order.limit_price) or order.limit_price is None:
        return
    if context.reference is None or context.instrument is None:
        return
    worst = collar(order.side, context.reference.reference, context.rules.collar_bps, context.instrument.tick_size)
    if worst is not None and (order.limit_price > worst if order.side is Side.BUY else order.limit_price < worst):
        yield _breach("price_collar", "the limit is too far through the market", order.limit_price, worst)


def _max_quantity(order: SubmitOrder, account: Standing, context: Context) -> Iterator[Breach]:
    allowed = limits_of(account, context).max_quantity
    if _is_positive(order.quantity) and order.quantity > allowed:
        yield _breach("max_quantity", "the quantity is above its limit", order.quantity, allowed)


def _max_notional(order: SubmitOrder, account: Standing, context: Context) -> Iterator[Breach]:
    allowed, price = limits_of(account, context).max_notional, limit_price_of(order, context)
    if price is None or not _is_positive(order.quantity):
        return
    if order.side is Side.SELL and context.reference is not None:
        price = max(price, context.reference.reference.bid)  # a sell below the market trades at the market
    if price * order.quantity > allowed:
        yield _breach("max_notional", "the notional is above its limit", price * order.quantity, allowed)


def _balance(order: SubmitOrder, account: Standing, context: Context) -> Iterator[Breach]:
    price = limit_price_of(order, context)
    if context.instrument is None or not _is_positive(price) or price is None or not _is_positive(order.quantity):
        return
    if not _is_exact(price * order.quantity):
        yield _breach("balance", "the notional has more than 18 decimal places", price * order.quantity, "18 places")
        return
    asset, needed = reservation(order.instrument_id, order.side, order.quantity, price, context.instrument.taker_fee)
    free = account.free.get(asset, ZERO)
    if needed > free:
        yield _breach("balance", f"not enough {asset} free for the reservation", needed, free)


RiskControl = Callable[[SubmitOrder, Standing, Context], Iterator[Breach]]
CONTROLS: tuple[RiskControl, ...] = (
    _account, _kill_switch, _epoch, _validity, _instrument, _format, _unresolved, _reference, _filters, _price_collar,
    _max_quantity, _max_notional, _balance,
)  # fmt: skip
"""In the order in which breaches are listed."""


def limits_of(account: Standing, context: Context) -> Limits:
    """The limits that hold for the account."""
    return limits_for(context.control, account.tenant_id, account.account_id, context.rules.limits)


def _within(name: str, value: Decimal, lowest: Decimal, highest: Decimal) -> Iterator[Breach]:
    if lowest and value < lowest:
        yield _breach("filter", f"{name} is below the venue's minimum", value, lowest)
    if highest and value > highest:
        yield _breach("filter", f"{name} is above the venue's maximum", value, highest)


def _is_positive(value: Decimal | None) -> bool:
    """Whether there is a number to reckon with; one beyond every bound is none (the format control names it)."""
    return value is not None and value.is_finite() and ZERO < value <= MAX_AMOUNT


def _is_exact(amount: Decimal) -> bool:
    """Whether an account can hold the amount without losing digits."""
    return amount == amount.quantize(SMALLEST, rounding=ROUND_DOWN, context=ROUNDING)


def _down_to_step(value: Decimal, step: Decimal) -> Decimal:
    return value - value % step if step else value


def _up_to_step(value: Decimal, step: Decimal) -> Decimal:
    below = _down_to_step(value, step)
    return below if below == value else below + step


def _breach(control: str, detail: str, observed: object, allowed: object) -> Breach:
    """A reason of a denial. What was observed is the caller's, so it is cut to what can be recorded."""
    return Breach(control=control, detail=detail, observed=recordable_text(_text(observed)), allowed=_text(allowed))


def _text(value: object) -> str:
    return f"{value.normalize():f}" if isinstance(value, Decimal) and value.is_finite() else str(value)
