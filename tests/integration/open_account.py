"""An open account and what a decision about it may know, without a broker."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

from skeet.core import market
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import AccountOpened, FundsDeposited
from skeet.core.controls import Control, Limits
from skeet.core.ledger import deposit
from skeet.core.record import Event, Meta
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import NS_PER_S, AccountId, TenantId, exact_arithmetic
from skeet.schemas.golden import sample

SYMBOL = "SIM:BTC/USDT"
INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=1, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip


def opened(account: str, usdt: Decimal) -> AccountState:
    """An account with so much on it."""
    envelope: Meta = sample(Meta)
    meta = dataclasses.replace(
        envelope, account_id=AccountId(account), tenant_id=TenantId("main"), ts_event=1, stream_version=1
    )
    state = AccountState(account_id=account)
    funds = FundsDeposited(asset="USDT", amount=usdt, external_ref="first", postings=deposit("USDT", usdt))
    with exact_arithmetic():
        evolve(state, AccountOpened(venue="sim", label=""), meta)
        evolve(state, funds, dataclasses.replace(meta, stream_version=2))
    return state


def context(now_ns: int, event: Event) -> Context:
    """A live price of 100 for the one instrument that is defined."""
    known = getattr(event, "instrument_id", "") == SYMBOL
    reference = market.Reference(
        instrument_id=SYMBOL, ts_event=now_ns, ts_init=now_ns, bid_mantissa=10_000, ask_mantissa=10_001,
        last_mantissa=10_000, price_scale=2, status=market.ReferenceStatus.LIVE, source_at="",
    )  # fmt: skip
    return Context(
        now_ns=now_ns,
        control=Control(),
        rules=RiskRules(
            limits=Limits(max_quantity=Decimal(1_000), max_notional=Decimal(1_000_000), version=0),
            reference_max_age_ns=600 * NS_PER_S,
            collar_bps=200,
        ),
        instrument=INSTRUMENT if known else None,
        reference=SeenReference(reference=reference, at="", log_ns=now_ns) if known else None,
    )
