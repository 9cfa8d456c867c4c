"""A strategy's own book: what becomes of an order that is asked for a second time, under the id of the first."""

from __future__ import annotations

import dataclasses
from typing import Any

from skeet.core.accounts import DuplicateIgnored, OrderAuthorized, OrderExpired
from skeet.core.commands import SubmitOrder
from skeet.core.strategy.orders import BookState
from skeet.core.values import OrderStatus
from skeet.schemas.golden import sample

BOOK = "trend"
ID = "0" * 31 + "1"
IGNORED = DuplicateIgnored(duplicate_of=ID, input="SubmitOrder")


def about(event_class: type[Any], status: OrderStatus) -> Any:
    return dataclasses.replace(sample(event_class), order_id=ID, book_id=BOOK, status=status)


def asked_twice(*between: Any) -> BookState:
    """The book after an order, what happened to it, the same order again, and the desk's answer to that."""
    book = BookState()
    book.asked(ID, sample(SubmitOrder))
    for event in between:
        book.apply(event, BOOK, "BTC")
    book.asked(ID, sample(SubmitOrder))
    assert ID in book.orders
    book.apply(IGNORED, BOOK, "BTC")
    return book


def test_one_that_had_ended_holds_nobody_up() -> None:
    book = asked_twice(
        about(OrderAuthorized, OrderStatus.AUTHORIZED),
        about(OrderExpired, OrderStatus.EXPIRED),
    )
    assert not book.orders


def test_one_that_is_open_stays() -> None:
    book = asked_twice(about(OrderAuthorized, OrderStatus.AUTHORIZED))
    assert book.orders[ID].status is OrderStatus.AUTHORIZED
