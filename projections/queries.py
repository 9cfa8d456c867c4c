"""Reading the Postgres read tables for people: rows as dictionaries, amounts exact, times in ns."""

from __future__ import annotations

from typing import Any, LiteralString

import psycopg
from psycopg.rows import dict_row

from skeet.config import Settings
from skeet.connections.postgres import postgres_options, postgres_refusals
from skeet.core.errors import InfrastructureError, InvalidInput

CONNECT_TIMEOUT_S = 5
STATEMENT_TIMEOUT_MS = 10_000
MAX_ROWS = 1_000
"""A list for people; analysts ask ClickHouse."""

Row = dict[str, Any]


def accounts(settings: Settings) -> list[Row]:
    """Every account with its venue, label and last event."""
    return select(
        settings,
        "SELECT account_id, venue, label, halted_reason, stream_version, last_event_at FROM accounts ORDER BY account_id",
    )


def balances(settings: Settings, account_id: str | None = None) -> list[Row]:
    """Free and reserved per asset."""
    return select(
        settings,
        "SELECT account_id, asset, free, reserved FROM balances"
        " WHERE %(account)s::text IS NULL OR account_id = %(account)s ORDER BY account_id, asset",
        {"account": account_id},
    )


def positions(settings: Settings, account_id: str | None = None) -> list[Row]:
    """Position of each book in each instrument."""
    return select(
        settings,
        "SELECT account_id, book_id, instrument_id, quantity, average_price, realized_pnl, fees, round_trips FROM positions"
        " WHERE %(account)s::text IS NULL OR account_id = %(account)s ORDER BY account_id, book_id, instrument_id",
        {"account": account_id},
    )


def orders(settings: Settings, account_id: str | None = None, *, only_open: bool = False, limit: int = 50) -> list[Row]:
    """Orders, newest first."""
    return select(
        settings,
        "SELECT order_id, account_id, book_id, instrument_id, side, order_type, quantity, limit_price, status,"
        " filled_quantity, average_price, reason, decided_at FROM orders"
        " WHERE (%(account)s::text IS NULL OR account_id = %(account)s)"
        " AND (NOT %(only_open)s::bool OR closed_at IS NULL)"
        " ORDER BY decided_at DESC NULLS LAST, order_id LIMIT %(limit)s",
        {"account": account_id, "only_open": only_open, "limit": min(limit, MAX_ROWS)},
    )


def select(settings: Settings, statement: LiteralString, parameters: dict[str, Any] | None = None) -> list[Row]:
    """Rows of one read-only statement.

    Raises
    ------
    InvalidInput
        no address is set, or the read tables are not there yet.
    InfrastructureError
        Postgres is away.
    """
    options = (
        f"-c search_path={settings.postgres.schema_name} -c default_transaction_read_only=on"
        f" -c statement_timeout={STATEMENT_TIMEOUT_MS}"
    )
    try:
        address = postgres_options(settings.postgres)
        with postgres_refusals():
            connected = psycopg.connect(
                **address, row_factory=dict_row, connect_timeout=CONNECT_TIMEOUT_S, options=options
            )
        with connected as connection:
            return connection.execute(statement, parameters or {}).fetchall()
    except psycopg.errors.UndefinedTable as error:
        raise InvalidInput(
            f"Postgres has no read tables yet ({error.diag.message_primary}): does its projection run?"
        ) from error
    except psycopg.OperationalError as error:
        raise InfrastructureError(f"Postgres does not answer: {' '.join(str(error).split())}") from error
