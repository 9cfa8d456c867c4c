"""The log against the simulated exchange: what was executed (I2), and where both stand once it is quiet (I7)."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import dataclass, field

from skeet.config import Settings
from skeet.verify.amounts import from_avro, from_text, shown
from skeet.verify.books import Books, Values
from skeet.verify.findings import Check
from skeet.verify.journal import FILE, Journal, VenueOrder, read_journal
from skeet.verify.log import Log

VENUE = "sim"
PREFIX = "SIM:"
TRIES = 3
TRY_AGAIN_S = 2.0
"""A fill may be between exchange and log while we read: differences are looked at again before they are reported."""

TOPICS = ("accounts.events.v1", "orders.commands.v1", "instruments.v1")
IN_FLIGHT = frozenset({"AUTHORIZED", "SUBMITTED", "OUTCOME_UNKNOWN"})


@dataclass(slots=True)
class Sides:
    """What the log says and what the exchange says, the journal read before the log; ``quiet``: not written meanwhile."""

    journal: Journal
    quiet: bool
    books: Books = field(default_factory=Books)
    commands: dict[str, Values] = field(default_factory=dict)
    """By their place in the log. An id may stand twice, with other bodies: the desk ignores all but the one it decided on."""
    symbols: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Base, quote and instrument id by the venue's symbol."""
    deposits: dict[tuple[str, str], Values] = field(default_factory=dict)

    @property
    def accounts(self) -> set[str]:
        """Accounts that trade at the exchange."""
        opened = ((a.account_id, a.opened) for a in self.books.accounts.values())
        return {account_id for account_id, event in opened if event and event["venue"].lower() == VENUE}


def check_venue(settings: Settings, log: Log) -> tuple[Check, Check]:
    """I2 and I7."""
    for attempt in range(1, TRIES + 1):
        executed = Check(name="I2", title="executed once, at most as commanded", must_not_be_empty=("orders",))
        state = Check(name="I7", title="the exchange agrees, once it is quiet", must_not_be_empty=("accounts",))
        with executed.timed():
            sides = _sides(settings, log)
            if sides is None:
                executed.not_judged = state.not_judged = f"there is no {settings.data / FILE}"
                return executed, state
            _compare_executed(executed, sides)
        with state.timed():
            _compare_state(state, sides)
        settled = not state.differences and not state.not_judged and not executed.differences
        if settled or attempt == TRIES:
            return executed, state
        time.sleep(TRY_AGAIN_S)
    raise AssertionError("unreachable")


def _sides(settings: Settings, log: Log) -> Sides | None:
    path = settings.data / FILE
    if not path.is_file():
        return None
    sides = Sides(read_journal(path), quiet=True)
    for entry in log.read(log.places(TOPICS)):
        if entry.schema is None:
            continue
        values = entry.values
        match entry.schema.name:
            case "SubmitOrder":
                sides.commands[entry.at] = values
            case "InstrumentDefined" if values["instrument_id"].startswith(PREFIX):
                sides.symbols[values["venue_symbol"]] = (values["base"], values["quote"], values["instrument_id"])
            case "FundsDeposited":
                sides.deposits[values["account_id"], values["external_ref"].rpartition(":")[2]] = values
        if entry.topic == TOPICS[0]:
            sides.books.add(entry)
    sides.quiet = _lines(read_journal(path), sides.accounts) == _lines(sides.journal, sides.accounts)
    return sides


def _lines(journal: Journal, accounts: set[str]) -> int:
    return journal.lines if accounts else 0


def _compare_executed(check: Check, sides: Sides) -> None:
    check.covers = f"{sides.journal.lines} lines of the exchange's journal, from the first"
    check.count("journal lines", sides.journal.lines)
    for broken in sides.journal.broken:
        check.differs(broken)
    by_command: dict[tuple[str, str], list[VenueOrder]] = defaultdict(list)
    for (account, _, _), order in sides.journal.orders.items():
        if account in sides.accounts:
            by_command[account, order.accepted["client_order_id"]].append(order)
    for (account, command_id), orders in by_command.items():
        check.count("orders")
        if len(orders) > 1:
            lines = ", ".join(str(order.line) for order in orders)
            check.differs(f"command {command_id}: the exchange accepted {len(orders)} orders (journal lines {lines})")
        _compare_order(check, sides, account, command_id, orders)


def _compare_order(check: Check, sides: Sides, account: str, command_id: str, orders: list[VenueOrder]) -> None:
    where = f"journal line {orders[0].line}, order {command_id}"
    known = sides.books.orders.get(command_id)
    if known is None or known.denied:
        check.differs(f"{where}: nobody in the log authorised it")
        return
    command = sides.commands.get(known.decision["cause_at"])
    if command is None or command["event_id"] != command_id:
        check.differs(f"{where}: it was decided on at {known.decision['cause_at']}, where its command is not")
        return
    commanded, executed = from_avro(command["quantity"]) or 0, sum(order.executed for order in orders)
    if executed > commanded:
        check.differs(f"{where}: {shown(executed)} executed, {shown(commanded)} commanded")
    accepted = orders[0].accepted
    check.same(f"{where}, account", account, command["account_id"])
    check.same(f"{where}, side", accepted["side"], command["side"])
    check.same(f"{where}, quantity", shown(from_text(accepted["quantity"])), shown(commanded))
    limit = from_avro(known.decision["limit_price"])
    check.same(f"{where}, price", shown(from_text(accepted["price"])), shown(limit))


def _compare_state(check: Check, sides: Sides) -> None:
    in_flight = [key for key, order in sides.books.orders.items() if order.status in IN_FLIGHT]
    if not sides.quiet or in_flight:
        moving = f"order {in_flight[0]} is in flight" if in_flight else "the exchange's journal grows"
        check.not_judged = f"trading goes on ({moving}); stop strategies and flow, then verify again"
        return
    check.covers = "the present state"
    check.count("accounts", len(sides.accounts))
    _compare_open(check, sides)
    _compare_fills(check, sides)
    _compare_transfers(check, sides)
    for account in sorted(sides.accounts):
        _compare_balances(check, sides, account)


def _compare_open(check: Check, sides: Sides) -> None:
    here = {key for key, o in sides.books.orders.items() if o.open and o.decision["account_id"] in sides.accounts}
    there = {
        order.accepted["client_order_id"]
        for (account, _, _), order in sides.journal.orders.items()
        if account in sides.accounts and not order.ended
    }
    check.count("open orders", len(here | there))
    for order_id in sorted(here - there):
        check.differs(f"order {order_id} is open in the log and not at the exchange")
    for order_id in sorted(there - here):
        check.differs(f"order {order_id} is open at the exchange and not in the log")


def _compare_fills(check: Check, sides: Sides) -> None:
    there = {key: line for key, line in sides.journal.fills.items() if key[0] in sides.accounts}
    symbol_of = {instrument_id: symbol for symbol, (_, _, instrument_id) in sides.symbols.items()}
    check.count("fills", len(there))
    for fill in sides.books.fills.values():
        if fill["account_id"] not in sides.accounts:
            continue
        symbol, trade_id = symbol_of.get(fill["instrument_id"], ""), fill["trade_id"]
        key = (fill["account_id"], symbol, int(trade_id) if trade_id.isdigit() else -1, fill["order_id"])
        where = f"fill {symbol or fill['instrument_id']} trade {trade_id} of order {fill['order_id']}"
        line = there.pop(key, None)
        if line is None:
            check.differs(f"{where} is in the log and not in the exchange's journal")
            continue
        for ours, theirs in (("quantity", "quantity"), ("price", "price"), ("fee", "commission")):
            check.same(f"{where}, {ours}", shown(from_text(line[theirs])), shown(from_avro(fill[ours])))
        check.same(f"{where}, fee asset", line["commission_asset"], fill["fee_asset"])
        check.same(f"{where}, side", line["side"], fill["side"])
        check.same(f"{where}, liquidity", "MAKER" if line["is_maker"] else "TAKER", fill["liquidity"])
    for account, symbol, trade_id, order_id in there:
        check.differs(f"fill {symbol} trade {trade_id} of order {order_id} ({account}) is missing in the log")


def _compare_transfers(check: Check, sides: Sides) -> None:
    there = {key: line for key, line in sides.journal.transfers.items() if key[0] in sides.accounts}
    check.count("transfers", len(there))
    for key, deposit in sides.deposits.items():
        if key[0] not in sides.accounts:
            continue
        line = there.pop(key, None)
        if line is None:
            check.differs(f"deposit {deposit['external_ref']} of {key[0]}: the exchange has no such transfer")
            continue
        check.same(f"transfer {key[1]}, asset", line["asset"], deposit["asset"])
        check.same(f"transfer {key[1]}, amount", shown(from_text(line["amount"])), shown(from_avro(deposit["amount"])))
    for account, transfer_id in there:
        check.differs(f"transfer {transfer_id} of {account} at the exchange is not booked in the log")


def _compare_balances(check: Check, sides: Sides, account: str) -> None:
    pairs = {symbol: (base, quote) for symbol, (base, quote, _) in sides.symbols.items()}
    unknown = {s for (owner, s, _, _) in sides.journal.fills if owner == account and s not in pairs}
    if unknown:
        check.differs(f"account {account} traded {sorted(unknown)[0]}, an instrument the log does not know")
        return
    there = sides.journal.balances(account, pairs)
    facts = sides.books.accounts[account]
    for asset in sorted(there.keys() | facts.free.keys() | facts.reserved.keys()):
        here = facts.free.get(asset, 0) + facts.reserved.get(asset, 0)
        check.count("balances")
        check.same(f"balance of {asset} of {account}", shown(there.get(asset, 0)), shown(here))
