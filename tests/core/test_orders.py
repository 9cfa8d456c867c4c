"""The transition table, and the document drawn from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from skeet.core.orders import TERMINAL, TRANSITIONS, Trigger, lifecycle_document, next_status
from skeet.core.values import OrderStatus


def test_every_status_has_a_row() -> None:
    assert set(TRANSITIONS) == set(OrderStatus)


def test_every_status_is_reachable_from_authorised_except_denied_and_unknown() -> None:
    reached, frontier = {OrderStatus.AUTHORIZED}, [OrderStatus.AUTHORIZED]
    while frontier:
        for target in set(TRANSITIONS[frontier.pop()].values()) - reached:
            reached.add(target)
            frontier.append(target)
    assert set(OrderStatus) - reached == {OrderStatus.DENIED, OrderStatus.UNKNOWN}


@pytest.mark.parametrize("status", [s for s in OrderStatus if s not in TERMINAL and s is not OrderStatus.UNKNOWN])
def test_every_open_status_can_end_and_takes_every_fill_and_cancel(status: OrderStatus) -> None:
    assert next_status(status, Trigger.FULL_FILL) is OrderStatus.FILLED
    assert next_status(status, Trigger.CANCELED) is OrderStatus.CANCELED
    assert next_status(status, Trigger.EXPIRED) is OrderStatus.EXPIRED
    assert next_status(status, Trigger.PARTIAL_FILL) is OrderStatus.PARTIALLY_FILLED
    assert next_status(status, Trigger.CANCEL) is status


def test_no_network_trouble_ends_an_order() -> None:
    assert all(row.get(Trigger.UNKNOWN) in (None, OrderStatus.OUTCOME_UNKNOWN) for row in TRANSITIONS.values())


def test_filled_is_for_ever() -> None:
    assert set(TRANSITIONS[OrderStatus.FILLED].values()) == {OrderStatus.FILLED}


def test_document_is_current() -> None:
    path = Path(__file__).parents[2] / "docs" / "order-lifecycle.md"
    assert path.read_text() == lifecycle_document(), "run `python -m skeet.core.orders > docs/order-lifecycle.md`"
