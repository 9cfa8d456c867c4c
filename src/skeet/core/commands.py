"""What may be asked of an account (imperative). The command's id is the ``event_id`` of its envelope.

``ts_cause`` is the log's time of what caused the command and ``valid_until`` follows from it, so both are equal when a
redelivered cause makes the command again. Keyed by account on ``orders.commands.v1``.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from skeet.core.record import Event
from skeet.core.values import NS_PER_S, OrderType, Side, TimeInForce

MAX_VALIDITY_NS = 600 * NS_PER_S
"""A command may be valid for at most ten minutes after its cause."""

REMEMBER_IDS_NS = 60 * NS_PER_S
"""Ids are remembered this long past ``valid_until``: a later duplicate is expired, never executed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command(Event):
    """What every command carries."""

    ts_cause: int
    valid_until: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAccount(Command):
    """Open the account named in the envelope at a venue. ``label`` is shown to people and holds no personal data."""

    venue: str
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit(Command):
    """Book funds that arrived at the venue. ``external_ref`` (the venue's transfer id) is unique for ever."""

    asset: str
    amount: Decimal
    external_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitOrder(Command):
    """Place an order. ``limit_price`` is None on market orders; quantities are in base units.

    ``code_version`` is the SHA-256 of the strategy's sources and parameters, empty for a person's order; ``rule`` names
    which of the strategy's rules asked. ``epoch`` is the control offset of the start of the instance that asks (0: not an
    instance): the desk refuses one that is older than the book's newest start.
    """

    book_id: str
    instrument_id: str
    side: Side
    order_type: OrderType
    time_in_force: TimeInForce
    post_only: bool
    quantity: Decimal
    limit_price: Decimal | None
    code_version: str
    rule: str
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder(Command):
    """Cancel the order ``order_id`` (the id of its SubmitOrder). ``epoch`` as in SubmitOrder."""

    order_id: str
    book_id: str
    code_version: str
    rule: str
    epoch: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelAllOrders(Command):
    """Cancel every open order of the account, or of one book when ``book_id`` is not empty."""

    book_id: str
