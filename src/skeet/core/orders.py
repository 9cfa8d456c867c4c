"""The life of an order: one literal table of what each trigger makes of each status.

A pair that is not in :data:`TRANSITIONS` changes nothing (the desk answers it with ReportIgnored, or denies the cancel).
The pairs that surprise are in the table on purpose: a fill before the acknowledgement, an acknowledgement after the
fill, a fill after the cancel, a refused cancel because the order had filled. ``docs/order-lifecycle.md`` is drawn from
this table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from enum import StrEnum

from skeet.core.values import OrderStatus

S = OrderStatus


class Trigger(StrEnum):
    """What can happen to an order: the gateway's reports, and the cancel command."""

    ATTEMPT = "attempted"
    ACK = "acknowledged"
    REJECT = "rejected"
    NOT_SENT = "not sent"
    UNKNOWN = "outcome unknown"
    ABSENT = "found absent"
    PARTIAL_FILL = "partly filled"
    FULL_FILL = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    CANCEL = "cancel asked"
    CANCEL_REJECTED = "cancel refused"


T = Trigger

TRANSITIONS: Mapping[OrderStatus, Mapping[Trigger, OrderStatus]] = {
    S.AUTHORIZED: {
        T.ATTEMPT: S.SUBMITTED,
        T.NOT_SENT: S.REJECTED,
        T.UNKNOWN: S.OUTCOME_UNKNOWN,
        T.ACK: S.ACCEPTED,
        T.REJECT: S.REJECTED,
        T.ABSENT: S.ABSENT,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCELED: S.CANCELED,
        T.EXPIRED: S.EXPIRED,
        T.CANCEL: S.AUTHORIZED,
        T.CANCEL_REJECTED: S.AUTHORIZED,
    },
    S.SUBMITTED: {
        T.NOT_SENT: S.REJECTED,
        T.UNKNOWN: S.OUTCOME_UNKNOWN,
        T.ACK: S.ACCEPTED,
        T.REJECT: S.REJECTED,
        T.ABSENT: S.ABSENT,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCELED: S.CANCELED,
        T.EXPIRED: S.EXPIRED,
        T.CANCEL: S.SUBMITTED,
        T.CANCEL_REJECTED: S.SUBMITTED,
    },
    # Only evidence from the venue leaves this status: never a timeout, never a network error.
    S.OUTCOME_UNKNOWN: {
        T.ACK: S.ACCEPTED,
        T.REJECT: S.REJECTED,
        T.ABSENT: S.ABSENT,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCELED: S.CANCELED,
        T.EXPIRED: S.EXPIRED,
        T.CANCEL: S.OUTCOME_UNKNOWN,
        T.CANCEL_REJECTED: S.OUTCOME_UNKNOWN,
    },
    S.ACCEPTED: {
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCELED: S.CANCELED,
        T.EXPIRED: S.EXPIRED,
        T.CANCEL: S.ACCEPTED,
        T.CANCEL_REJECTED: S.ACCEPTED,
    },
    S.PARTIALLY_FILLED: {
        T.ACK: S.PARTIALLY_FILLED,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCELED: S.CANCELED,
        T.EXPIRED: S.EXPIRED,
        T.CANCEL: S.PARTIALLY_FILLED,
        T.CANCEL_REJECTED: S.PARTIALLY_FILLED,
    },
    S.FILLED: {
        T.ACK: S.FILLED,
        T.FULL_FILL: S.FILLED,
        T.CANCEL_REJECTED: S.FILLED,
    },
    S.CANCELED: {
        T.ACK: S.CANCELED,
        T.PARTIAL_FILL: S.CANCELED,
        T.FULL_FILL: S.FILLED,
        T.CANCEL_REJECTED: S.CANCELED,
    },
    S.EXPIRED: {
        T.ACK: S.EXPIRED,
        T.PARTIAL_FILL: S.EXPIRED,
        T.FULL_FILL: S.FILLED,
        T.CANCEL_REJECTED: S.EXPIRED,
    },
    # The venue contradicts itself: the fact is booked, and the account is halted (see CONTRADICTIONS).
    S.REJECTED: {
        T.ACK: S.ACCEPTED,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
    },
    S.ABSENT: {
        T.ACK: S.ACCEPTED,
        T.PARTIAL_FILL: S.PARTIALLY_FILLED,
        T.FULL_FILL: S.FILLED,
    },
    S.DENIED: {},
    S.UNKNOWN: {},
}

TERMINAL = frozenset({S.FILLED, S.CANCELED, S.EXPIRED, S.REJECTED, S.DENIED, S.ABSENT})
"""An order in one of these holds no reservation. Late facts may still be booked on it."""

CONTRADICTIONS = frozenset({S.REJECTED, S.ABSENT})
"""Whoever leaves one of these lives at the venue without a reservation in the books: the account is halted."""


def next_status(status: OrderStatus, trigger: Trigger) -> OrderStatus | None:
    """The status after the trigger; None when the trigger means nothing there."""
    return TRANSITIONS[status].get(trigger)


def fill_trigger(quantity: Decimal, filled_after: Decimal) -> Trigger:
    """Whether an order of ``quantity`` is complete once ``filled_after`` of it is executed."""
    return Trigger.FULL_FILL if filled_after >= quantity else Trigger.PARTIAL_FILL


def lifecycle_document() -> str:
    """The text of ``docs/order-lifecycle.md``: a diagram of the statuses, and the whole table."""
    return "\n".join(_document_lines()) + "\n"


def _document_lines() -> Iterator[str]:
    yield "# The life of an order"
    yield ""
    yield "Drawn from `TRANSITIONS` in `skeet.core.orders` (`python -m skeet.core.orders > docs/order-lifecycle.md`)."
    yield "The diagram shows changes of status out of open ones; the table shows everything. An empty cell: nothing"
    yield "changes, and the desk writes `ReportIgnored` (or denies the cancel). An order that leaves REJECTED or ABSENT"
    yield "halts its account: the venue contradicted itself."
    yield ""
    yield "```mermaid"
    yield "stateDiagram-v2"
    yield "    [*] --> AUTHORIZED: SubmitOrder passes risk"
    yield "    [*] --> DENIED: SubmitOrder breaches a control"
    for status, row in TRANSITIONS.items():
        if status not in TERMINAL:
            yield from _arrows(status, row)
    yield from (f"    {status} --> [*]" for status in TRANSITIONS if status in TERMINAL)
    yield "```"
    yield ""
    yield "| status | " + " | ".join(Trigger) + " |"
    yield "|---" * (len(Trigger) + 1) + "|"
    for status, row in TRANSITIONS.items():
        if row:
            yield f"| {status} | " + " | ".join(str(row.get(trigger, "")) for trigger in Trigger) + " |"


def _arrows(status: OrderStatus, row: Mapping[Trigger, OrderStatus]) -> Iterator[str]:
    targets: dict[OrderStatus, list[Trigger]] = {}
    for trigger, target in row.items():
        if target is not status:
            targets.setdefault(target, []).append(trigger)
    yield from (f"    {status} --> {target}: {', '.join(triggers)}" for target, triggers in targets.items())


if __name__ == "__main__":
    print(lifecycle_document(), end="")  # noqa: T201 - the document goes to standard output
