"""``given(events).when(command).then(events)`` for one account, without a broker, a clock or a store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from skeet.core import accounts, commands, market, reports
from skeet.core.account import decide, stamp
from skeet.core.account_state import AccountState, evolve
from skeet.core.accounts import AccountEvent
from skeet.core.commands import Command
from skeet.core.controls import Control, Limits
from skeet.core.ids import derive_id
from skeet.core.record import Event, Meta, Record, TopicPosition
from skeet.core.risk import Context, RiskRules, SeenReference
from skeet.core.values import (
    NS_PER_S,
    AccountId,
    EventId,
    LiquiditySide,
    OrderType,
    PrincipalId,
    Side,
    TenantId,
    TimeInForce,
    exact_arithmetic,
)

SYMBOL = "SIM:BTC/USDT"
NOW = 1_000 * NS_PER_S

INSTRUMENT = market.InstrumentDefined(
    instrument_id=SYMBOL, ts_event=1, ts_init=1, version=3, venue="SIM", symbol="BTC/USDT", venue_symbol="BTCUSDT",
    base="BTC", quote="USDT", active=True, tick_size=Decimal("0.01"), step_size=Decimal("0.00001"),
    min_quantity=Decimal("0.00001"), max_quantity=Decimal(9000), min_notional=Decimal(5), max_notional=Decimal(0),
    maker_fee=Decimal("0.001"), taker_fee=Decimal("0.001"), price_scale=2, size_scale=5,
)  # fmt: skip
REFERENCE = market.Reference(
    instrument_id=SYMBOL, ts_event=NOW, ts_init=NOW, bid_mantissa=9999, ask_mantissa=10000, last_mantissa=9999,
    price_scale=2, status=market.ReferenceStatus.LIVE, source_at="market.quotes.v1/0/7",
)  # fmt: skip
RULES = RiskRules(
    limits=Limits(max_quantity=Decimal(1000), max_notional=Decimal(1_000_000), version=0),
    reference_max_age_ns=5 * NS_PER_S,
    collar_bps=200,
)


class Scenario:
    """One account's stream. Commands and reports are made by the methods below and passed to :meth:`when`."""

    def __init__(self) -> None:
        self.state = AccountState(account_id="alice")
        self.context = Context(
            now_ns=NOW,
            control=Control(),
            rules=RULES,
            instrument=INSTRUMENT,
            reference=SeenReference(reference=REFERENCE, at="market.reference.v1/0/1", log_ns=NOW),
        )
        self.history: list[tuple[AccountEvent, Meta]] = []
        self.decided: tuple[AccountEvent, ...] = ()
        self._offset = 0

    def under(self, **changes: Any) -> Scenario:
        """The same account in other circumstances (fields of Context)."""
        self.context = replace(self.context, **changes)
        return self

    def with_reference(self, **changes: Any) -> Scenario:
        seen = SeenReference(reference=replace(REFERENCE, **changes), at="market.reference.v1/0/1", log_ns=NOW)
        return self.under(reference=seen)

    def with_instrument(self, **changes: Any) -> Scenario:
        return self.under(instrument=replace(INSTRUMENT, **changes))

    def given(self, *inputs: tuple[Event, Meta]) -> Scenario:
        """What happened before; the outcome does not matter here."""
        for event, meta in inputs:
            self.when((event, meta))
        return self

    def when(self, given: tuple[Event, Meta]) -> Scenario:
        event, meta = given
        self._offset += 1
        record: Record[Any] = Record(
            event=event, meta=meta, at=TopicPosition("orders.commands.v1", 0, self._offset), log_ns=self.context.now_ns
        )
        with exact_arithmetic():
            self.decided = decide(self.state, record, self.context)
            metas = stamp(self.state, record, self.context.now_ns, self.decided)
            for decided, decided_meta in zip(self.decided, metas, strict=True):
                evolve(self.state, decided, decided_meta)
                self.history.append((decided, decided_meta))
        return self

    def then(self, *expected: type[AccountEvent]) -> Any:
        """The decided events are of these types; returns the last one."""
        assert [type(event) for event in self.decided] == list(expected)
        return self.decided[-1] if self.decided else None

    def then_denied(self, *controls: str) -> Sequence[accounts.Breach]:
        """The command was refused because of exactly these controls, in this order."""
        (event,) = self.decided
        assert isinstance(event, (accounts.OrderDenied, accounts.CommandDenied)), event
        assert [breach.control for breach in event.breaches] == list(controls), event.breaches
        return event.breaches

    def balance(self, asset: str) -> tuple[Decimal, Decimal]:
        """Free and reserved."""
        found = self.state.balances[asset]
        return found.free, found.reserved

    def meta(self, identity: str, *, tenant: str = "main", ts_event: int = 0) -> Meta:
        event_id = EventId(derive_id("test", identity))
        return Meta(
            event_id=event_id, tenant_id=TenantId(tenant), account_id=AccountId("alice"),
            principal_id=PrincipalId("test"), correlation_id=event_id, causation_id=event_id, cause_at="",
            ts_event=ts_event, ts_init=17,
        )  # fmt: skip

    def _command(self, make: Any, identity: str, tenant: str = "main", **fields: Any) -> tuple[Command, Meta]:
        times = {"ts_cause": self.context.now_ns, "valid_until": self.context.now_ns + 10 * NS_PER_S}
        return make(**times | fields), self.meta(identity, tenant=tenant)

    def open(self, identity: str = "open", **fields: Any) -> tuple[Command, Meta]:
        return self._command(commands.OpenAccount, identity, **{"venue": "sim", "label": "Alice"} | fields)

    def deposit(self, amount: str, asset: str = "USDT", ref: str = "", **fields: Any) -> tuple[Command, Meta]:
        ref = ref or f"transfer-{asset}"
        identity = fields.pop("identity", f"deposit-{ref}")
        return self._command(
            commands.Deposit, identity, asset=asset, amount=Decimal(amount), external_ref=ref, **fields
        )

    def submit(self, name: str = "o1", quantity: str = "1", price: str | None = "100", **fields: Any) -> Any:
        defaults: dict[str, Any] = {
            "book_id": "manual",
            "instrument_id": SYMBOL,
            "side": Side.BUY,
            "order_type": OrderType.LIMIT if price else OrderType.MARKET,
            "time_in_force": TimeInForce.GTC if price else TimeInForce.IOC,
            "post_only": False,
            "quantity": Decimal(quantity),
            "limit_price": Decimal(price) if price else None,
            "code_version": "",
            "rule": "",
        }
        return self._command(commands.SubmitOrder, name, **defaults | fields)

    def cancel(self, name: str = "o1", identity: str = "cancel", **fields: Any) -> Any:
        order_id = derive_id("test", name)
        return self._command(
            commands.CancelOrder, identity, order_id=order_id, book_id="manual", code_version="", rule="", **fields
        )

    def cancel_all(self, book_id: str = "", identity: str = "cancel-all") -> Any:
        return self._command(commands.CancelAllOrders, identity, book_id=book_id)

    def report(self, make: Any, name: str = "o1", **fields: Any) -> Any:
        """A report about the order made by ``submit(name)``."""
        order_id = derive_id("test", name)
        event = make(order_id=order_id, client_order_id=order_id, instrument_id=SYMBOL, **fields)
        return event, self.meta(f"{make.__name__}-{name}-{self._offset}", ts_event=self.context.now_ns)

    def attempted(self, name: str = "o1") -> Any:
        return self.report(
            reports.SubmitAttempted, name, sent_ts=1, send_until=2, side=Side.BUY, quantity=Decimal(1),
            limit_price=Decimal(100),
        )  # fmt: skip

    def acknowledged(self, name: str = "o1") -> Any:
        return self.report(reports.SubmitAcknowledged, name, venue_order_id="77", written_ns=1, answered_ns=2)

    def fill(self, trade_id: str, quantity: str, price: str = "100", name: str = "o1", **fields: Any) -> Any:
        defaults = {
            "side": Side.BUY,
            "fee": Decimal("0.1"),
            "fee_asset": "USDT",
            "liquidity": LiquiditySide.TAKER,
            "venue_order_id": "77",
        }
        return self.report(
            reports.FillReported, name, trade_id=trade_id, quantity=Decimal(quantity), price=Decimal(price),
            **defaults | fields,
        )  # fmt: skip

    def canceled(self, filled: str = "0", name: str = "o1") -> Any:
        return self.report(reports.CancelReported, name, venue_order_id="77", filled_quantity=Decimal(filled))

    def expired(self, filled: str = "0", name: str = "o1") -> Any:
        return self.report(
            reports.ExpiryReported, name, venue_order_id="77", filled_quantity=Decimal(filled), reason="IOC"
        )

    def venue_balance(self, free: str, asset: str = "USDT", ts_event: int | None = None) -> Any:
        at = self.context.now_ns + 1 if ts_event is None else ts_event
        event = reports.BalanceReported(asset=asset, free=Decimal(free), locked=Decimal(0))
        return event, self.meta(f"balance-{self._offset}", ts_event=at)


@pytest.fixture
def fresh() -> Scenario:
    """An account nobody has opened."""
    return Scenario()


@pytest.fixture
def account(fresh: Scenario) -> Scenario:
    """An open account at ``sim`` with 10,000 USDT and 5 BTC."""
    return fresh.given(fresh.open(), fresh.deposit("10000"), fresh.deposit("5", "BTC"))
