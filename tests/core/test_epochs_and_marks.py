"""Which start of an instance may command its book, and the hash of what the desk remembers."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skeet.core.account_snapshot import account_digest, memory_hash, state_bytes, state_from_bytes
from skeet.core.account_state import AccountState
from skeet.core.accounts import CancelAuthorized, OrderAuthorized
from skeet.core.control import StrategyHalted, StrategyStarted, StrategyStopped
from skeet.core.controls import Control, Owner, apply_control
from skeet.core.record import Event

Account = Any  # the Scenario of conftest.py


def started(name: str = "alpha") -> StrategyStarted:
    return StrategyStarted(
        instance_id=name, strategy="x", instrument_id="SIM:BTC/USDT", parameters="{}", code_version=""
    )


def stopped(name: str = "alpha") -> StrategyStopped:
    return StrategyStopped(instance_id=name, reason="drill", cancel_open=False)


def halted(name: str = "alpha") -> StrategyHalted:
    return StrategyHalted(instance_id=name, handler="on_quote", file="x.py", line=1, error="boom")


def control(**at: Event) -> Control:
    found = Control()
    for offset, event in sorted((int(name.removeprefix("o")), event) for name, event in at.items()):
        found = apply_control(found, event, offset)
    return found


def test_order_of_an_older_start_is_refused_and_of_the_newest_accepted(account: Account) -> None:
    account.under(control=control(o5=started(), o9=started()))
    (breach,) = account.when(account.submit("o1", book_id="alpha", epoch=5)).then_denied("epoch")
    assert (breach.observed, breach.allowed) == ("5", "9")
    account.when(account.submit("o2", book_id="alpha", epoch=9)).then(OrderAuthorized)


def test_order_of_a_start_that_the_desk_has_not_read_yet_is_accepted(account: Account) -> None:
    account.under(control=control(o5=started()))
    account.when(account.submit(book_id="alpha", epoch=9)).then(OrderAuthorized)


def test_persons_and_other_books_have_no_epoch(account: Account) -> None:
    account.under(control=control(o5=started(), o9=started()))
    account.when(account.submit("o1", book_id="alpha")).then(OrderAuthorized)
    account.when(account.submit("o2", book_id="beta", epoch=1)).then(OrderAuthorized)


@pytest.mark.parametrize("end", [stopped(), halted()])
def test_an_ended_instance_may_cancel_and_not_order(account: Account, end: Event) -> None:
    account.given(account.submit("o1", book_id="alpha", epoch=5), account.attempted(), account.acknowledged())
    account.under(control=control(o5=started(), o6=end))
    account.when(account.submit("o2", book_id="alpha", epoch=5)).then_denied("epoch")
    account.when(account.cancel(epoch=5)).then(CancelAuthorized)


def test_cancel_of_an_older_start_is_refused(account: Account) -> None:
    account.given(account.submit("o1"), account.attempted(), account.acknowledged())
    account.under(control=control(o5=started("manual"), o9=started("manual")))
    account.when(account.cancel(epoch=5)).then_denied("epoch")


def test_a_new_start_runs_again_after_a_stop() -> None:
    assert control(o5=started(), o6=stopped(), o7=started()).owners == {"alpha": Owner(epoch=7)}


def test_the_end_of_an_instance_nobody_started_is_no_owner() -> None:
    assert control(o5=stopped()).owners == {}


def shuffled(state: AccountState, order: Any) -> AccountState:
    """The same memory, its dictionaries filled in another order."""
    other = copy.deepcopy(state)
    for name in ("balances", "orders", "closed", "command_ids", "external_refs", "differences"):
        held = getattr(other, name)
        keys = order(sorted(held))
        setattr(other, name, {key: held[key] for key in keys})
    return other


@given(st.randoms(use_true_random=False))
def test_digest_does_not_depend_on_the_order_of_dictionaries(random: Any) -> None:
    state = AccountState(
        account_id="alice", version=3, command_ids={"b": 2, "a": 1, "c": 3}, external_refs={"y": "1 BTC", "x": "2 USDT"}
    )

    def order(keys: list[str]) -> list[str]:
        random.shuffle(keys)
        return keys

    assert account_digest(shuffled(state, order)) == account_digest(state)


def test_digest_of_a_lived_account_survives_its_snapshot_and_changes_with_every_event(account: Account) -> None:
    before = account_digest(account.state)
    account.given(account.submit("o1"), account.attempted(), account.fill("t1", "0.4"), account.canceled("0.4"))
    after = account_digest(account.state)
    assert after != before
    assert account_digest(state_from_bytes(state_bytes(account.state))) == after
    account.state.closed[next(iter(account.state.closed))].trade_ids.append("t2")
    assert account_digest(account.state) != after


def test_memory_hash_tells_which_account_holds_what() -> None:
    assert memory_hash({"a": "1", "b": "2"}) == memory_hash({"b": "2", "a": "1"})
    assert memory_hash({"a": "1", "b": "2"}) != memory_hash({"a": "2", "b": "1"})


SCRIPT = """
from decimal import Decimal
from skeet.core.account_snapshot import account_digest
from skeet.core.account_state import AccountState
from skeet.core.ledger import Balance
state = AccountState(account_id="alice", version=2, balances={
    asset: Balance(free=Decimal("1.500"), reserved=Decimal(0)) for asset in {"BTC", "USDT", "ETH", "SOL"}})
print(account_digest(state))
"""


def test_digest_is_the_same_under_another_hash_seed_and_time_zone() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=os.environ | {"PYTHONHASHSEED": seed, "TZ": zone},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed, zone in (("1", "UTC"), ("2", "Asia/Tokyo"), ("77", "America/New_York"))
    }  # fmt: skip
    assert len(found) == 1, json.dumps(sorted(found))
