"""The judgement at the end of a headless demo: do the stores agree, did both strategies trade, where did the time go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import typer

from skeet.cli.output import console, decimal_text, print_json, table
from skeet.cli.session import BookResult, HopRow, SessionFold, hop_cells
from skeet.config import Settings
from skeet.streams.reading import messages_until_end, partitions_of, records_until_end
from skeet.streams.registry import registered_codec
from skeet.streams.topics import ACCOUNT_EVENTS, COMMANDS, REPORTS, TOPICS, topic_name

FOLDED = (COMMANDS, REPORTS, ACCOUNT_EVENTS)

CASH_BY_BOOK = """
WITH by_fills AS (
    SELECT account_id, book_id, split_part(split_part(instrument_id, ':', 2), '/', 2) AS asset,
           sum(CASE side WHEN 'SELL' THEN quantity * price ELSE -quantity * price END)
         - sum(CASE WHEN fee_asset = split_part(split_part(instrument_id, ':', 2), '/', 2) THEN fee ELSE 0 END) AS cash
      FROM fills GROUP BY account_id, book_id, asset
), by_ledger AS (
    SELECT account_id, book_id, asset, sum(amount) AS cash
      FROM journal_entries
     WHERE ledger IN ('FREE', 'RESERVED') AND event_type <> 'FundsDeposited'
     GROUP BY account_id, book_id, asset
)
SELECT account_id, book_id, asset, by_fills.cash AS by_fills, by_ledger.cash AS by_ledger
  FROM by_fills JOIN by_ledger USING (account_id, book_id, asset)
 ORDER BY account_id, book_id, asset
"""
"""What each book moved in its quote asset (an open position has been paid for): from the fills, and from the ledger. Two ways through different rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CashRow:
    """The quote cash of a book after fees, two ways."""

    account_id: str
    book_id: str
    asset: str
    by_fills: Decimal
    by_ledger: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoReport:
    """What the demo did. ``complaints`` say in words what is wrong; none means clean."""

    events_by_topic: dict[str, int]
    books: list[BookResult]
    cash: list[CashRow]
    hops: list[HopRow]
    verify_exit: int
    complaints: list[str]

    @property
    def clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def show(self, *, as_json: bool) -> None:
        """Print it."""
        if as_json:
            print_json(self)
            return
        out = console()
        out.print(table("Events per topic", ("topic", "events"), sorted(self.events_by_topic.items())))
        out.print(table("Strategies", BOOK_COLUMNS, map(_book_row, self.books)))
        out.print(table("Quote cash of each book after fees, by SQL two ways", CASH_COLUMNS, map(_cash_row, self.cash)))
        out.print(table("Where the time goes, ms", ("hop", "orders", "p50", "p99"), map(hop_cells, self.hops)))
        for complaint in self.complaints:
            out.print(f"[red]wrong:[/red] {complaint}", highlight=False)
        out.print("demo: [green]clean[/green]" if self.clean else "demo: [red]not clean[/red]", highlight=False)


BOOK_COLUMNS = (
    "strategy",
    "instrument",
    "orders",
    "denied",
    "maker fills",
    "taker fills",
    "round trips",
    "position",
    "PnL",
    "fees",
)
CASH_COLUMNS = ("account", "strategy", "asset", "from fills", "from the ledger")


def _book_row(book: BookResult) -> tuple[Any, ...]:
    position = book.position
    return (
        book.book_id,
        book.instrument_id,
        book.orders,
        book.denied,
        book.maker_fills,
        book.taker_fills,
        position.round_trips,
        decimal_text(position.quantity),
        decimal_text(position.realized_pnl),
        decimal_text(position.fees),
    )


def _cash_row(row: CashRow) -> tuple[Any, ...]:
    return (row.account_id, row.book_id, row.asset, decimal_text(row.by_fills), decimal_text(row.by_ledger))


def judge(settings: Settings, instances: Sequence[str]) -> DemoReport:
    """Read the log and the stores and judge the session; ``verify`` prints its own table on the way."""
    fold = fold_session(settings)
    cash = [CashRow(**row) for row in _cash_rows(settings)]
    verify_exit = _verify()
    books = fold.books()
    return DemoReport(
        events_by_topic=count_events(settings),
        books=books,
        cash=cash,
        hops=fold.hops(),
        verify_exit=verify_exit,
        complaints=_complaints(books, cash, verify_exit, instances),
    )


def fold_session(settings: Settings) -> SessionFold:
    """The session fold over commands, reports and account events, to the captured end."""
    return SessionFold().add(records_until_end(settings, registered_codec(settings), FOLDED))


def count_events(settings: Settings) -> dict[str, int]:
    """Records per topic, as a read_committed reader is delivered them."""
    counts = {topic_name(topic, settings.kafka): 0 for topic in TOPICS}
    for message in messages_until_end(settings, partitions_of(settings, TOPICS)):
        counts[message.topic()] += 1
    return {name.removeprefix(settings.kafka.topic_prefix): count for name, count in counts.items()}


def _cash_rows(settings: Settings) -> list[dict[str, Any]]:
    from skeet.projections import queries

    return queries.select(settings, CASH_BY_BOOK)


def _verify() -> int:
    """Exit code of ``skeet verify``."""
    from skeet.cli.verify import verify

    try:
        verify(strict=True)
    except typer.Exit as ended:
        return int(ended.exit_code)
    return 0


def _complaints(books: list[BookResult], cash: list[CashRow], verify_exit: int, instances: Sequence[str]) -> list[str]:
    found = [] if verify_exit == 0 else [f"`skeet verify` ended with {verify_exit}"]
    traded = {book.book_id for book in books if book.maker_fills + book.taker_fills}
    found += [f"{instance} filled no order" for instance in instances if instance not in traded]
    found += [
        f"{row.account_id} {row.book_id}: fills earned {row.by_fills} {row.asset}, the ledger says {row.by_ledger}"
        for row in cash
        if row.by_fills != row.by_ledger
    ]
    return found
