"""Whatever arrives in whatever order: the ledger's sums hold, and the state is the fold of the events."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skeet.core import reports
from skeet.core.account_snapshot import state_bytes, state_from_bytes, state_hash
from skeet.core.account_state import CLOSED_ORDERS_KEPT, AccountState, evolve
from skeet.core.accounts import LedgerAccount, Posting
from skeet.core.errors import InvalidInput
from skeet.core.ledger import SMALLEST, share_of
from skeet.core.orders import TERMINAL
from skeet.core.values import Side, exact_arithmetic
from skeet.schemas.codec import numbered_codec

Account = Any  # the Scenario of conftest.py
CODEC = numbered_codec()

NAMES = st.sampled_from(["o1", "o2", "o3", "o4"])
STEPS = st.integers(6_000, 200_000).map(lambda steps: Decimal(steps) * Decimal("0.00001"))
PRICES = st.integers(9_850, 10_150).map(lambda ticks: Decimal(ticks) * Decimal("0.01"))
SUBMITS = st.tuples(st.just("submit"), NAMES, STEPS, PRICES, st.sampled_from([Side.BUY, Side.SELL]))
FILLS = st.tuples(st.just("fill"), NAMES, STEPS, PRICES, st.sampled_from(["USDT", "BTC", "BNB"]), st.integers(1, 6))
ENDS = st.tuples(st.sampled_from(["canceled", "expired"]), NAMES, STEPS)
ACTIONS = st.one_of(
    SUBMITS,
    FILLS,
    FILLS,
    FILLS,
    ENDS,
    st.tuples(st.just("cancel"), NAMES),
    st.tuples(st.sampled_from(["attempted", "acknowledged", "rejected", "unknown", "absent", "not_sent"]), NAMES),
    st.tuples(st.just("balance"), STEPS),
    st.tuples(st.just("cancel_all"), st.integers(1, 3)),
)
FIRST_ORDERS = st.tuples(*(st.tuples(STEPS, PRICES, st.sampled_from([Side.BUY, Side.SELL])) for _ in range(4)))
"""Every run begins with four orders, so that most reports find one."""


def make(account: Account, action: tuple[Any, ...]) -> Any:
    kind, *rest = action
    match kind:
        case "submit":
            name, quantity, price, side = rest
            return account.submit(name, str(quantity), str(price), side=side)
        case "fill":
            name, quantity, price, fee_asset, trade = rest
            order = account.state.order(account.submit(name)[1].event_id)
            side = order.side if order else Side.BUY
            fee = quantity * price / 1000 if fee_asset == "USDT" else quantity / 1000
            return account.fill(f"t{trade}", str(quantity), str(price), name, side=side, fee=fee, fee_asset=fee_asset)
        case "canceled" | "expired":
            return getattr(account, kind)(str(rest[1]), rest[0])
        case "rejected":
            return account.report(reports.SubmitRejected, rest[0], code="-1", reason="no")
        case "unknown":
            return account.report(reports.SubmitOutcomeUnknown, rest[0], reason="504")
        case "absent":
            return account.report(reports.OrderFoundAbsent, rest[0], evidence="asked")
        case "not_sent":
            return account.report(reports.SubmitNotSent, rest[0], reason="expired")
        case "cancel":
            return account.cancel(rest[0], identity=f"cancel-{rest[0]}")
        case "cancel_all":
            return account.cancel_all(identity=f"cancel-all-{rest[0]}")
        case "balance":
            return account.venue_balance(str(rest[0]))
        case _:
            return getattr(account, kind)(rest[0])


def assert_zero_sum(postings: tuple[Posting, ...]) -> None:
    sums: dict[str, Decimal] = {}
    for line in postings:
        sums[line.asset] = sums.get(line.asset, Decimal(0)) + line.amount
    assert not any(sums.values()), postings


def assert_ledger_holds(state: AccountState) -> None:
    reserved: dict[str, Decimal] = {}
    for order in state.orders.values():
        assert order.reserved >= 0
        reserved[order.reserved_asset] = reserved.get(order.reserved_asset, Decimal(0)) + order.reserved
    for asset, balance in state.balances.items():
        assert balance.free >= 0, (asset, balance)
        assert balance.reserved == reserved.get(asset, 0), (asset, balance)
    assert all(order.reserved == 0 and order.status in TERMINAL for order in state.closed.values())


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(first=FIRST_ORDERS, actions=st.lists(ACTIONS, min_size=5, max_size=25))
def test_ledger_holds_and_the_state_is_the_fold_of_what_is_on_the_wire(
    account: Account, first: tuple[Any, ...], actions: list[Any]
) -> None:
    fresh = type(account)()
    fresh.given(fresh.open(), fresh.deposit("1000"), fresh.deposit("5", "BTC"))
    submits = [("submit", f"o{number}", *order) for number, order in enumerate(first, start=1)]
    for action in submits + actions:
        fresh.when(make(fresh, action))
        for event in fresh.decided:
            assert_zero_sum(getattr(event, "postings", ()))
        assert_ledger_holds(fresh.state)
    folded = AccountState(account_id="alice")
    with exact_arithmetic():
        for event, meta in fresh.history:
            decoded, decoded_meta = CODEC.decode(CODEC.encode(event, meta))
            assert decoded == event
            assert decoded_meta is not None
            evolve(folded, decoded, decoded_meta)  # type: ignore[arg-type]
    assert state_bytes(folded) == state_bytes(fresh.state)


def test_snapshot_restores_the_state_and_the_tail_folds_on(account: Account) -> None:
    account.given(account.submit("o1"), account.fill("t1", "0.5"), account.canceled("0.7"), account.submit("o2"))
    restored = state_from_bytes(state_bytes(account.state))
    assert state_hash(restored) == state_hash(account.state)
    before = len(account.history)
    account.given(account.fill("t2", "0.2"), account.cancel("o2"), account.deposit("1", ref="later"))
    with exact_arithmetic():
        for event, meta in account.history[before:]:
            evolve(restored, event, meta)
    assert state_hash(restored) == state_hash(account.state)


def test_ended_orders_are_forgotten_past_their_number_and_their_late_fills_said(account: Account) -> None:
    for number in range(CLOSED_ORDERS_KEPT + 1):
        name = f"n{number}"
        account.given(account.submit(name), account.canceled(name=name))
    assert len(account.state.closed) == CLOSED_ORDERS_KEPT
    assert "not known" in account.when(account.fill("t1", "1", name="n0")).decided[0].reason


@given(
    reserved=st.decimals("0.01", "100000", places=8), steps=st.integers(1, 10_000_000), left=st.integers(0, 10_000_000)
)
def test_share_of_a_reservation_covers_the_leaves_and_no_more(reserved: Decimal, steps: int, left: int) -> None:
    with exact_arithmetic():
        quantity, leaves = steps * Decimal("0.00001"), min(left, steps) * Decimal("0.00001")
        kept = share_of(reserved, leaves, quantity)
        assert reserved * leaves <= kept * quantity < reserved * leaves + quantity * SMALLEST * 2
        assert kept <= reserved


def test_record_without_envelope_is_no_input(account: Account) -> None:
    event, _ = account.submit()
    with pytest.raises(InvalidInput, match="envelope"):
        account.when((event, None))


def test_ledger_accounts_of_a_fill_are_named(account: Account) -> None:
    account.given(account.submit(), account.fill("t1", "1"))
    used = {line.ledger for event, _ in account.history for line in getattr(event, "postings", ())}
    assert used == {
        LedgerAccount.FREE,
        LedgerAccount.RESERVED,
        LedgerAccount.EXTERNAL,
        LedgerAccount.MARKET,
        LedgerAccount.FEES,
    }
