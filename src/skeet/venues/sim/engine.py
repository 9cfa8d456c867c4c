"""The matching engine: price–time priority, exact settlement, one thread, no clock.

A pure function of the calls made to it: the same calls in the same order make the same trades, balances and ids. A call
either raises `Rejection` and changes nothing, or is carried out whole. What it caused is collected in `trades`
(public), `events` (the customers' own) and read with `take`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from skeet.venues.sim.account_events import (
    AccountEvent,
    AccountOpened,
    OrderAccepted,
    Transferred,
    accepted,
    closed,
    filled,
)
from skeet.venues.sim.balances import Balances
from skeet.venues.sim.book import Book
from skeet.venues.sim.filters import Admitted, admit
from skeet.venues.sim.instruments import Instrument
from skeet.venues.sim.orders import (
    HOUSE,
    Order,
    OrderKind,
    OrderRequest,
    OrderStatus,
    Rejection,
    Side,
    TimeInForce,
    Top,
    TopChanged,
    Trade,
    UniqueAmong,
)
from skeet.venues.sim.settlement import release, reserve, settle
from skeet.venues.sim.units import format_units

FIRST_ORDER_ID = 1_000_000_001
"""Order ids keep their number of digits, because clients sort them as text where times are equal."""

INSUFFICIENT_BALANCE = (-2010, "Account has insufficient balance for requested action.")
WOULD_TAKE = (-2010, "Order would immediately match and take.")
DUPLICATE_ORDER = (-2010, "Duplicate order sent.")
UNKNOWN_ORDER = (-2011, "Unknown order sent.")


@dataclass(slots=True)
class Market:
    """One instrument with its book and its next ids (each sequence without holes)."""

    instrument: Instrument
    book: Book = field(default_factory=Book)
    next_order_id: int = FIRST_ORDER_ID
    next_trade_id: int = 1
    next_aggregate_id: int = 1
    last_price: int = 0
    top: Top = field(default_factory=lambda: Top(0, 0, 0, 0))


@dataclass(slots=True)
class Outcome:
    """What calls have caused: public trades, changes of the best prices, the customers' own events; each in order."""

    trades: list[Trade] = field(default_factory=list)
    tops: list[TopChanged] = field(default_factory=list)
    events: list[AccountEvent] = field(default_factory=list)


class Engine:
    """All markets and all balances of the exchange."""

    def __init__(self, instruments: dict[str, Instrument]) -> None:
        self.markets = {
            symbol: Market(each, last_price=each.start_price // each.tick) for symbol, each in instruments.items()
        }
        self.balances = Balances()
        self.accounts: set[str] = set()
        self.open_orders: dict[str, dict[tuple[str, int], Order]] = {}
        self.client_ids: dict[str, set[str]] = {}
        self.transfers: dict[tuple[str, str], Transferred] = {}
        self._outcome = Outcome()

    # --- what customers ask -------------------------------------------------------------------------------------------

    def open_account(self, account: str, ts_ns: int) -> None:
        """Open an account; opening it again changes nothing."""
        if account not in self.accounts:
            self._emit(AccountOpened(ts_ns=ts_ns, account=account))
            self.remember(self._outcome.events[-1])

    def transfer(self, account: str, client_key: str, asset: str, units: int, ts_ns: int) -> Transferred:
        """Pay in (or out, if negative). The same `client_key` again returns the first transfer and pays nothing.

        Raises
        ------
        Rejection
            more is withdrawn than is free.
        """
        known = self.transfers.get((account, client_key))
        if known is not None:
            return known
        if self.balances.free(account, asset) + units < 0:
            raise Rejection(*INSUFFICIENT_BALANCE)
        self.balances.add(account, asset, units)
        done = Transferred(
            ts_ns=ts_ns,
            account=account,
            transfer_id=len(self.transfers) + 1,
            client_key=client_key,
            asset=asset,
            amount=format_units(units),
        )
        self.remember(done)
        self._emit(done)
        return done

    def place(self, request: OrderRequest, ts_ns: int) -> int:
        """Accept and execute an order; returns its order id. Limit orders rest with what is left, others expire.

        Raises
        ------
        Rejection
            filter, duplicate client order id, balance, or a post-only order that would take.
        """
        market = self.markets[request.symbol]
        self._refuse_duplicate(request)
        mine = sum(1 for symbol, _ in self.open_orders.get(request.account, ()) if symbol == request.symbol)
        admitted = admit(market.instrument, request, market.last_price, mine)
        meets = self._plan(market, request, admitted)
        if request.kind is OrderKind.LIMIT_MAKER and meets:
            raise Rejection(*WOULD_TAKE)
        lots = admitted.lots or sum(take for _, take in meets)
        order = Order(
            order_id=market.next_order_id,
            client_order_id=request.client_order_id,
            account=request.account,
            side=request.side,
            price=admitted.price,
            quantity=lots,
        )
        if not reserve(self.balances, market.instrument, request.kind, order, meets):
            raise Rejection(*INSUFFICIENT_BALANCE)
        market.next_order_id += 1
        self._accept(market.instrument, request, order, ts_ns)
        if request.time_in_force is TimeInForce.FOK and sum(take for _, take in meets) < lots:
            meets = []
        self._execute(market, order, meets, ts_ns)
        resting = request.kind is not OrderKind.MARKET and request.time_in_force is TimeInForce.GTC
        self._finish(market, order, rest=resting, ts_ns=ts_ns)
        self.note_top(market, ts_ns)
        return order.order_id

    def cancel(self, account: str, symbol: str, order_id: int, cancel_id: str, ts_ns: int) -> None:
        """Take an open order out and release what it locked.

        Raises
        ------
        Rejection
            the account has no such open order.
        """
        order = self.open_orders.get(account, {}).get((symbol, order_id))
        if order is None:
            raise Rejection(*UNKNOWN_ORDER)
        market = self.markets[symbol]
        market.book.remove(order)
        self._close(market.instrument, order, OrderStatus.CANCELED, ts_ns, cancel_id)
        self.note_top(market, ts_ns)

    # --- what the background flow does --------------------------------------------------------------------------------

    def house_order(self, market: Market, side: Side, price: int, lots: int, ts_ns: int, *, rest: bool) -> None:
        """A house order: no filters, no balance, no fee. It takes what it meets and rests with the remainder if told."""
        order = Order(
            order_id=market.next_order_id, client_order_id="", account=HOUSE, side=side, price=price, quantity=lots
        )
        market.next_order_id += 1
        self._execute(market, order, market.book.plan(side, price, lots), ts_ns)
        if rest and order.leaves:
            market.book.rest(order)

    def note_top(self, market: Market, ts_ns: int) -> None:
        """Record the best prices if they differ from the last recorded ones. Called once per participant's action."""
        top = market.book.top()
        if top != market.top:
            market.top = top
            self._outcome.tops.append(TopChanged(market.instrument.symbol, market.book.update_id, ts_ns, top))

    # --- reading ------------------------------------------------------------------------------------------------------

    def take(self) -> Outcome:
        """Everything caused since the last call."""
        outcome, self._outcome = self._outcome, Outcome()
        return outcome

    def remember(self, event: AccountEvent) -> None:
        """Take over from a past event what later requests are judged by: accounts, client ids, transfer keys."""
        if isinstance(event, AccountOpened):
            self.accounts.add(event.account)
        elif isinstance(event, Transferred):
            self.transfers[event.account, event.client_key] = event
        elif isinstance(event, OrderAccepted):
            self.client_ids.setdefault(event.account, set()).add(event.client_order_id)

    # --- steps of `place` ---------------------------------------------------------------------------------------------

    def _refuse_duplicate(self, request: OrderRequest) -> None:
        if request.unique_among is UniqueAmong.ALL:
            taken = request.client_order_id in self.client_ids.get(request.account, ())
        elif request.unique_among is UniqueAmong.OPEN:
            mine = self.open_orders.get(request.account, {}).values()
            taken = any(order.client_order_id == request.client_order_id for order in mine)
        else:
            taken = False
        if taken:
            raise Rejection(*DUPLICATE_ORDER)

    def _plan(self, market: Market, request: OrderRequest, admitted: Admitted) -> list[tuple[Order, int]]:
        limit = None if request.kind is OrderKind.MARKET else admitted.price
        if not request.quote_budget:
            return market.book.plan(request.side, limit, admitted.lots)
        left, meets = request.quote_budget, []
        everything = market.instrument.max_quantity // market.instrument.step
        for maker, lots in market.book.plan(request.side, None, everything):
            affordable = min(lots, left // market.instrument.value(maker.price, 1))
            if affordable == 0:
                break
            meets.append((maker, affordable))
            left -= market.instrument.value(maker.price, affordable)
        return meets

    def _accept(self, instrument: Instrument, request: OrderRequest, order: Order, ts_ns: int) -> None:
        self.open_orders.setdefault(order.account, {})[request.symbol, order.order_id] = order
        event = accepted(instrument, request, order, ts_ns)
        self.remember(event)
        self._emit(event)

    def _execute(self, market: Market, taker: Order, meets: list[tuple[Order, int]], ts_ns: int) -> None:
        aggregate_price = None
        for maker, lots in meets:
            if maker.price != aggregate_price:
                aggregate_price = maker.price
                market.next_aggregate_id += 1
            trade = Trade(
                symbol=market.instrument.symbol,
                trade_id=market.next_trade_id,
                aggregate_id=market.next_aggregate_id - 1,
                price=maker.price,
                quantity=lots,
                ts_ns=ts_ns,
                buyer_is_maker=maker.side is Side.BUY,
            )
            market.next_trade_id += 1
            market.last_price = maker.price
            market.book.fill(maker, lots)
            taker.filled += lots
            self._outcome.trades.append(trade)
            if maker.account == taker.account == HOUSE:
                continue  # the house's right hand paid its left
            self._pay(market.instrument, maker, trade, is_maker=True)
            self._pay(market.instrument, taker, trade, is_maker=False)
            if maker.leaves == 0 and maker.account != HOUSE:
                self._close(market.instrument, maker, OrderStatus.FILLED, ts_ns)

    def _pay(self, instrument: Instrument, order: Order, trade: Trade, *, is_maker: bool) -> None:
        fee = settle(self.balances, instrument, order, trade, is_maker=is_maker)
        if order.account != HOUSE:
            self._emit(filled(instrument, order, trade, fee, is_maker=is_maker))

    def _finish(self, market: Market, order: Order, *, rest: bool, ts_ns: int) -> None:
        if order.leaves and rest:
            market.book.rest(order)
        else:
            # A market order by quote that met nobody has quantity 0, and expired all the same.
            whole = order.leaves == 0 and order.quantity > 0
            self._close(market.instrument, order, OrderStatus.FILLED if whole else OrderStatus.EXPIRED, ts_ns)

    def _close(
        self, instrument: Instrument, order: Order, status: OrderStatus, ts_ns: int, cancel_id: str = ""
    ) -> None:
        del self.open_orders[order.account][instrument.symbol, order.order_id]
        release(self.balances, instrument, order)
        self._emit(closed(instrument, order, status, ts_ns, cancel_id))

    def _emit(self, event: AccountEvent) -> None:
        self._outcome.events.append(event)
