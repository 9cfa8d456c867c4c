"""``skeet order``: place, cancel, list. The desk decides; what is printed is its event."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import Annotated, Any

import typer

from skeet.cli import arguments
from skeet.cli.arguments import Json
from skeet.cli.desk import Desk, command_meta, fresh_key, validity
from skeet.cli.output import console, plain, print_json, print_rows, time_text
from skeet.config import load_settings
from skeet.core.accounts import Breach
from skeet.core.commands import CancelAllOrders, CancelOrder, SubmitOrder
from skeet.core.errors import InvalidInput
from skeet.core.record import Record
from skeet.core.values import MANUAL_BOOK, OrderStatus, OrderType, Side, TimeInForce

app = typer.Typer(no_args_is_help=True, help="Place, cancel and list orders.")

TERMINAL = frozenset(
    {
        OrderStatus.FILLED,
        OrderStatus.CANCELED,
        OrderStatus.EXPIRED,
        OrderStatus.REJECTED,
        OrderStatus.DENIED,
        OrderStatus.ABSENT,
    }
)
WAIT_DEADLINE_S = 60.0
REASON_WIDTH = 40


class BuyOrSell(StrEnum):
    BUY = "buy"
    SELL = "sell"


class InForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"
    FOK = "fok"


Key = Annotated[
    str, typer.Option("--key", help="Client key of an earlier call: repeats that command, does nothing new.")
]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the order has ended, at most 60 s.")]


@app.command()
def place(  # noqa: PLR0913 - each is an argument or option of the command
    account: Annotated[str, typer.Argument(help="Account name.")],
    instrument: Annotated[str, typer.Argument(help="VENUE:BASE/QUOTE, such as SIM:BTC/USDT.")],
    side: Annotated[BuyOrSell, typer.Argument(help="buy or sell.")],
    quantity: Annotated[str, typer.Argument(help="In base units, a plain decimal.")],
    *,
    limit: Annotated[
        str | None, typer.Option("--limit", metavar="PRICE", help="Limit price; without it: at market.")
    ] = None,
    tif: Annotated[InForce | None, typer.Option("--tif", help="Time in force; limit orders: gtc, market: ioc.")] = None,
    post_only: Annotated[bool, typer.Option("--post-only", help="Only as maker.")] = False,
    key: Key = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Place an order and print the desk's decision; exit code 1 when it is denied, with all reasons."""
    settings = load_settings()
    client_key, now_ns = key or fresh_key(), time.time_ns()
    command = _submit_order(instrument, side, quantity, limit, tif, post_only=post_only, now_ns=now_ns)
    meta = command_meta(settings, arguments.account_id(account), client_key, now_ns)
    with Desk(settings) as desk:
        record = desk.ask(command, meta)
        seen = [record]
        if wait and _status(record) not in TERMINAL:
            seen += _until_ended(desk, account, meta.event_id)
    _report(seen, client_key, as_json=as_json)


@app.command()
def cancel(
    account: Annotated[str, typer.Argument(help="Account name.")],
    order_id: Annotated[str, typer.Argument(help="As `skeet order list` shows it; left out with --all.")] = "",
    *,
    all_of_them: Annotated[bool, typer.Option("--all", help="Cancel every open order of the account.")] = False,
    key: Key = "",
    wait: Wait = False,
    as_json: Json = False,
) -> None:
    """Cancel an order, or all of them; exit code 1 when the desk refuses."""
    if all_of_them == bool(order_id):
        raise InvalidInput("name one ORDER_ID, or give --all")
    settings = load_settings()
    client_key, now_ns = key or fresh_key(), time.time_ns()
    command: CancelOrder | CancelAllOrders = (
        CancelAllOrders(book_id="", **validity(now_ns))
        if all_of_them
        else CancelOrder(order_id=order_id, book_id=MANUAL_BOOK, code_version="", rule="", **validity(now_ns))
    )
    meta = command_meta(settings, arguments.account_id(account), client_key, now_ns)
    with Desk(settings) as desk:
        record = desk.ask(command, meta)
        seen = [record]
        if wait and order_id and not _breaches(record):
            seen += _until_ended(desk, account, order_id)
    _report(seen, client_key, as_json=as_json)


@app.command("list")
def list_orders(
    account: Annotated[str | None, typer.Option("--account", help="Only this account's.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only orders that have not ended.")] = False,
    count: Annotated[int, typer.Option("-n", min=1, max=1000, help="At most this many, newest first.")] = 50,
    as_json: Json = False,
) -> None:
    """Orders as Postgres holds them, newest first."""
    from skeet.projections import queries

    owner = None if account is None else arguments.account_id(account)
    rows = queries.orders(load_settings(), owner, only_open=only_open, limit=count)
    print_rows(
        "",
        rows if as_json else [_brief(row) for row in rows],
        as_json=as_json,
        empty="no open orders" if only_open else "no orders",
    )


def _brief(row: dict[str, Any]) -> dict[str, Any]:
    """What fits on a line; everything else is in --json."""
    reason = row["reason"] or ""
    return {
        "decided": time_text(row["decided_at"] or 0)[11:],
        "order": row["order_id"],
        "account": row["account_id"],
        "book": row["book_id"],
        "instrument": row["instrument_id"],
        "side": row["side"],
        "quantity": row["quantity"],
        "limit": row["limit_price"],
        "filled": row["filled_quantity"],
        "average": row["average_price"],
        "status": row["status"],
        "reason": reason if len(reason) <= REASON_WIDTH else f"{reason[: REASON_WIDTH - 1]}…",
    }


def _submit_order(
    instrument: str,
    side: BuyOrSell,
    quantity: str,
    limit: str | None,
    tif: InForce | None,
    *,
    post_only: bool,
    now_ns: int,
) -> SubmitOrder:
    if post_only and (limit is None or tif in (InForce.IOC, InForce.FOK)):
        raise InvalidInput("--post-only rests in the book: it needs --limit PRICE and --tif gtc")
    default = InForce.IOC if limit is None else InForce.GTC
    return SubmitOrder(
        book_id=MANUAL_BOOK,
        instrument_id=arguments.instrument_id(instrument),
        side=Side(side.upper()),
        order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        time_in_force=TimeInForce((tif or default).upper()),
        post_only=post_only,
        quantity=arguments.amount("QUANTITY", quantity),
        limit_price=None if limit is None else arguments.amount("--limit", limit),
        code_version="",
        rule="",
        **validity(now_ns),
    )


def _until_ended(desk: Desk, account: str, order_id: str) -> list[Record[Any]]:
    seen: list[Record[Any]] = []
    for record in desk.events(account, WAIT_DEADLINE_S):
        if getattr(record.event, "order_id", None) == order_id:
            seen.append(record)
            if _status(record) in TERMINAL:
                return seen
    return seen


def _report(seen: list[Record[Any]], client_key: str, *, as_json: bool) -> None:
    """Print the events; end with exit code 1 when the first of them is a refusal."""
    decision = seen[0].event
    order_id = getattr(decision, "order_id", "")
    breaches = _breaches(seen[0])
    if as_json:
        steps = [{"type": type(record.event).__name__, "event": plain(record.event)} for record in seen]
        print_json({"order_id": order_id, "client_key": client_key, "status": _status(seen[-1]), "events": steps})
    else:
        out = console()
        out.print(f"order {order_id}  key {client_key}", highlight=False)
        for record in seen:
            out.print(f"  {_step(record)}", highlight=False)
        for breach in breaches:
            out.print(_reason(breach), highlight=False)
    if breaches or _status(seen[0]) is OrderStatus.DENIED:
        raise typer.Exit(1)


def _step(record: Record[Any]) -> str:
    event = record.event
    wanted = ("quantity", "price", "limit_price", "filled_quantity", "leaves_quantity", "fee", "fee_asset", "reason")
    shown = ((name, plain(getattr(event, name, None))) for name in wanted)
    return " ".join([type(event).__name__, *(f"{name}={value}" for name, value in shown if value not in (None, ""))])


def _reason(breach: Breach) -> str:
    return f"  denied by {breach.control}: {breach.detail} (observed {breach.observed}, allowed {breach.allowed})"


def _status(record: Record[Any]) -> OrderStatus | None:
    status = getattr(record.event, "status", None)
    return status if isinstance(status, OrderStatus) else None


def _breaches(record: Record[Any]) -> tuple[Breach, ...]:
    found: tuple[Breach, ...] = getattr(record.event, "breaches", ())
    return found
