"""One frame of ``skeet watch``: pure drawing of a picture into a given width and height."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

from rich import box
from rich.layout import Layout
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from skeet.cli.output import decimal_text, time_text
from skeet.cli.watch_state import Picture, Price
from skeet.core.market import ReferenceStatus
from skeet.core.record import Record
from skeet.core.values import NS_PER_S

BLOCKS = "▁▂▃▄▅▆▇█"
STALE_NS = 5 * NS_PER_S
LAG_WARNING = 1_000
MONEY = Decimal("0.01")
STATUS_STYLE = {"FILLED": "green", "DENIED": "red", "REJECTED": "red", "CANCELED": "dim", "EXPIRED": "dim"}
EVENTS_WIDTH = 32
HEADER_ROWS, PANEL_ROWS = 1, 3
"""A panel's border and its table's header take three rows."""


def draw(picture: Picture, width: int, height: int) -> Layout:
    """The whole screen."""
    middle = max(5, min(2 + PANEL_ROWS + len(picture.positions), height // 3))
    top = max(5, min(PANEL_ROWS + max(len(picture.prices), len(picture.lag), 2), height // 3))
    bottom = height - HEADER_ROWS - top - middle - 1
    layout = Layout()
    layout.split_column(
        Layout(_header(picture), size=HEADER_ROWS),
        Layout(name="top", size=top),
        Layout(_positions(picture), size=middle),
        Layout(name="bottom", size=bottom),
        Layout(_footer(picture), size=1),
    )
    layout["top"].split_row(Layout(_prices(picture), ratio=3), Layout(_lag(picture), ratio=1, minimum_size=26))
    layout["bottom"].split_row(
        Layout(_orders(picture, bottom - PANEL_ROWS)), Layout(_events(picture, bottom - 2), size=EVENTS_WIDTH)
    )
    return layout


def _header(picture: Picture) -> Text:
    return Text.assemble(("SKEET", "bold"), f"  {time_text(picture.now_ns)[:19]} UTC")


def _footer(picture: Picture) -> Text:
    if picture.troubles:
        return Text(
            "; ".join(f"{what}: {why}" for what, why in picture.troubles.items()), style="red", overflow="ellipsis"
        )
    return Text("q quits; the platform goes on", style="dim")


def _prices(picture: Picture) -> Panel:
    rows = _table("instrument", ">bid", ">ask", ">spread", "last 20 s")
    for instrument_id, price in picture.prices.items():
        reference = price.reference
        stale = reference.status is not ReferenceStatus.LIVE or picture.now_ns - reference.ts_init > STALE_NS
        rows.add_row(
            instrument_id,
            decimal_text(reference.bid),
            decimal_text(reference.ask),
            decimal_text(reference.ask - reference.bid),
            Text(f"{reference.status}", style="red") if stale else spark(price.mids),
        )
    return _panel("prices", rows)


def spark(values: Sequence[Decimal]) -> Text:
    """A little chart: one block a value, from the lowest to the highest of them; green when it rose."""
    if not values:
        return Text("")
    low, high = min(values), max(values)
    span = high - low
    blocks = "".join(BLOCKS[int((value - low) / span * (len(BLOCKS) - 1))] if span else BLOCKS[3] for value in values)
    return Text(blocks, style="green" if values[-1] >= values[0] else "red", overflow="crop", no_wrap=True)


def _lag(picture: Picture) -> Panel:
    rows = _table("reader", ">behind")
    for role, behind in picture.lag.items():
        rows.add_row(
            role.removeprefix("projection-"), Text(f"{behind:,}", style="red" if behind > LAG_WARNING else "green")
        )
    return _panel("lag", rows)


def _positions(picture: Picture) -> Panel:
    rows = _table("account", "book", "instrument", ">position", ">average", ">open PnL", ">realised", ">trips")
    for row in picture.positions:
        unrealised = _unrealised(row, picture.prices.get(row["instrument_id"]))
        rows.add_row(
            row["account_id"],
            row["book_id"],
            row["instrument_id"],
            decimal_text(row["quantity"]),
            decimal_text(row["average_price"].quantize(MONEY)),
            _money(unrealised),
            _money(row["realized_pnl"] - row["fees"]),
            str(row["round_trips"]),
        )
    return _panel("positions (realised after fees)", rows)


def _unrealised(row: dict[str, Any], price: Price | None) -> Decimal | None:
    return None if price is None else row["quantity"] * (price.mid - row["average_price"])


def _money(value: Decimal | None) -> Text:
    if value is None:
        return Text("-", style="dim")
    rounded = value.quantize(MONEY)
    return Text(f"{rounded:+,}", style="green" if rounded > 0 else "red" if rounded < 0 else "dim")


def _orders(picture: Picture, count: int) -> Panel:
    rows = _table("time    ", "account", "order   ", "side", ">quantity", ">price", "status  ")
    for row in picture.orders[: max(0, count)]:
        rows.add_row(
            time_text(row["decided_at"] or 0)[11:19],
            row["account_id"],
            row["order_id"][:8],
            Text(row["side"] or "", style="green" if row["side"] == "BUY" else "red"),
            decimal_text(row["quantity"]) if row["quantity"] is not None else "",
            decimal_text(row["limit_price"]) if row["limit_price"] is not None else "market",
            Text(row["status"], style=STATUS_STYLE.get(row["status"], "yellow")),
        )
    return _panel("orders, newest first", rows)


def _events(picture: Picture, count: int) -> Panel:
    lines = [_event(record) for record in reversed(picture.events)][: max(0, count)]
    return _panel("events", Text("\n").join(lines) if lines else Text("nothing yet", style="dim"))


def _event(record: Record[Any]) -> Text:
    account = record.meta.account_id if record.meta else ""
    line = Text(time_text(record.log_ns)[11:19], style="dim", no_wrap=True, overflow="ellipsis")
    line.append(f" {type(record.event).__name__.removeprefix('Order')}", style="bold not dim")
    return line.append(f" {account}", style="not dim cyan")


def _table(*columns: str) -> Table:
    """A table without lines; a column that begins with ``>`` stands on the right."""
    rows = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    for column in columns:
        right = column.startswith(">")
        name = column.lstrip(">")
        rows.add_column(
            name, justify="right" if right else "left", no_wrap=True, overflow="ellipsis", min_width=len(name)
        )
    return rows


def _panel(title: str, content: Table | Text) -> Panel:
    return Panel(content, title=title, title_align="left", box=box.ROUNDED, border_style="dim", padding=(0, 1))
