"""What halts an instance inside of its machine, and what becomes of its orders."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from decimal import Decimal
from itertools import count
from typing import Any

import pytest

from skeet.core.commands import CancelOrder, SubmitOrder
from skeet.core.control import StrategyHalted
from skeet.core.market import Quote
from skeet.core.record import Record, TopicPosition
from skeet.core.strategy import Intent, Strategy, StrategyContext, buy_limit
from skeet.core.strategy.machine import InstanceIdentity, InstanceState, StrategyMachine
from skeet.core.strategy.places import innermost
from skeet.core.values import NS_PER_S, AccountId, TenantId, exact_arithmetic
from skeet.strategies.testing import INSTRUMENT


class Acts(Strategy[None]):
    """Asks for as many orders as the quote's number says; negative numbers misbehave."""

    def initial(self) -> None:
        return None

    def on_quote(self, state: None, quote: Quote, context: StrategyContext) -> Iterator[Intent]:
        match quote.update_id:
            case -1:
                raise ValueError("no")
            case -2:
                sys.exit(0)
            case -3:
                raise MemoryError
        for _ in count() if quote.update_id == -4 else range(quote.update_id):
            yield buy_limit(Decimal("0.01"), Decimal(1), rule="x")


class Run:
    """A machine that is given quotes; time is the log's."""

    def __init__(self, **identity: Any) -> None:
        chosen = InstanceIdentity(
            tenant_id=TenantId("main"),
            account_id=AccountId("acc"),
            instance_id="x",
            code_version="v",
            instrument=INSTRUMENT,
            **identity,
        )
        self.calls: list[str] = []
        self.machine = StrategyMachine(Acts(None), chosen, watch=self)
        self.state: InstanceState = self.machine.initial()
        self.offset = 0

    def begin(self, handler: str) -> None:
        self.calls.append(handler)

    def end(self) -> None:
        self.calls.append("end")

    def quote(self, number: int, second: float = 0.0) -> list[Any]:
        self.offset += 1
        event = Quote(
            instrument_id=INSTRUMENT.instrument_id,
            ts_event=1,
            ts_init=1,
            update_id=number,
            bid_price_mantissa=1,
            bid_size_mantissa=1,
            ask_price_mantissa=2,
            ask_size_mantissa=1,
            price_scale=0,
            size_scale=0,
        )
        at = TopicPosition("market.quotes.v1", 0, self.offset)
        with exact_arithmetic():
            record = Record(event=event, meta=None, at=at, log_ns=int((1_000 + second) * NS_PER_S))
            self.state, outs = self.machine.step(self.state, record)
        return [out.event for out in outs]


@pytest.mark.parametrize(
    ("number", "reason"), [(-1, "error"), (-2, "error"), (-3, "memory"), (-4, "flood"), (21, "flood")]
)
def test_whatever_goes_wrong_in_a_handler_halts_with_its_reason_and_place(number: int, reason: str) -> None:
    run = Run()
    (halted,) = run.quote(number)
    assert isinstance(halted, StrategyHalted)
    assert (halted.reason, halted.handler, halted.file) == (reason, "on_quote", __file__)
    assert halted.line > 0
    assert run.quote(1) == [], "a halted instance does nothing"
    assert run.calls == ["on_quote", "end"]


def test_commands_of_one_second_of_the_log_are_counted_together() -> None:
    run = Run(commands_per_second=10)
    assert len(run.quote(6, 0.0)) == 6
    assert len(run.quote(4, 0.9)) == 4
    assert len(run.quote(10, 1.1)) == 10, "a new second"
    (*canceled, halted) = run.quote(1, 1.2)
    assert isinstance(halted, StrategyHalted)
    assert halted.reason == "flood"
    assert len(canceled) == 20
    assert not any(isinstance(event, SubmitOrder) for event in canceled), "none of the flood leaves"


@pytest.mark.parametrize(("cancels", "expected"), [(True, 2), (False, 0)])
def test_orders_are_canceled_or_left_by_policy(cancels: bool, expected: int) -> None:
    run = Run(cancels_on_halt=cancels)
    run.quote(2)
    (*withdrawn, halted) = run.quote(-1)
    assert isinstance(halted, StrategyHalted)
    assert [type(event) for event in withdrawn] == [CancelOrder] * expected


def test_place_is_the_innermost_of_the_strategy_s_own_files() -> None:
    own, core, library = ("/u/mine.py", 3), ("/x/skeet/core/strategy/machine.py", 9), ("/usr/lib/python3.11/json.py", 1)
    package = ("/v/lib/python3.11/site-packages/theirs/strategy.py", 5)
    assert innermost([core, own, library]) == own
    assert innermost([core, package]) == package, "an installed strategy"
    assert innermost([core]) == core
    assert innermost([]) == ("", 0)
