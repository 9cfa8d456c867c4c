"""``skeet sql``: one read-only statement to ClickHouse over its HTTP protocol; answers stream, amounts stay exact."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from http.client import HTTPResponse
from typing import Annotated, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import typer

from skeet.cli.output import console, table
from skeet.config import ClickhouseSettings, load_settings
from skeet.connections.clickhouse import raise_clickhouse_refusal
from skeet.connections.tls import basic_auth, tls_context
from skeet.core.errors import InfrastructureError, InvalidInput

MAX_TABLE_ROWS = 500
"""A terminal is for looking; `--format csv` and `json` have no limit."""
CHUNK_BYTES = 1 << 16


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


CLICKHOUSE_FORMAT = {Format.TABLE: "JSONCompact", Format.CSV: "CSVWithNames", Format.JSON: "JSONEachRow"}


def sql(
    statement: Annotated[
        str, typer.Argument(metavar="SQL", help='Such as "SELECT count() FROM trades"; - reads stdin.')
    ],
    output: Annotated[Format, typer.Option("--format", help="json: one object a line.")] = Format.TABLE,
    as_json: Annotated[bool, typer.Option("--json", help="Same as --format json.")] = False,
    timeout_s: Annotated[int, typer.Option("--timeout", min=1, help="Give up after this many seconds.")] = 60,
) -> None:
    """Run one read-only statement in ClickHouse. Tables and columns: docs/data-dictionary.md, or SHOW TABLES."""
    text = sys.stdin.read() if statement == "-" else statement
    chosen = Format.JSON if as_json else output
    with _ask(load_settings().clickhouse, text, chosen, timeout_s) as answer:
        if chosen is Format.TABLE:
            _print_table(answer.read())
        else:
            while chunk := answer.read(CHUNK_BYTES):
                sys.stdout.buffer.write(chunk)
        sys.stdout.flush()


def _ask(clickhouse: ClickhouseSettings, text: str, output: Format, timeout_s: int) -> HTTPResponse:
    if not clickhouse.url:
        raise InvalidInput("SKEET_CLICKHOUSE__URL is empty: start the platform with `skeet up`, or name your server")
    parameters = {
        "database": clickhouse.database,
        "default_format": CLICKHOUSE_FORMAT[output],
        "readonly": "2",
        "max_execution_time": str(timeout_s),
        "output_format_json_quote_decimals": "1",
        "wait_end_of_query": "0",
    }
    if output is Format.TABLE:
        parameters |= {"max_result_rows": str(MAX_TABLE_ROWS), "result_overflow_mode": "break"}
    headers = dict(basic_auth(clickhouse.user, clickhouse.password.get_secret_value()))
    encrypted = clickhouse.url.startswith("https:")
    setting = "SKEET_CLICKHOUSE__SSL_CA"
    context = tls_context(clickhouse.ssl_ca, setting=setting, verify=clickhouse.ssl_verify) if encrypted else None
    request = Request(f"{clickhouse.url.rstrip('/')}/?{urlencode(parameters)}", text.encode(), headers)
    try:
        answer: HTTPResponse = urlopen(request, timeout=timeout_s + 5, context=context)
        return answer
    except HTTPError as error:
        reason = _reason(error.read().decode(errors="replace"))
        raise_clickhouse_refusal(InvalidInput(reason))
        raise InvalidInput(f"ClickHouse refused: {reason}") from error
    except (URLError, TimeoutError) as error:
        raise_clickhouse_refusal(error)
        raise InfrastructureError(f"ClickHouse at {clickhouse.url} does not answer: {error}") from error


def _reason(text: str) -> str:
    """The exception's message without the server's version and stack."""
    first = text.strip().split("\n")[0]
    return first.removesuffix(")").rpartition(" (version ")[0] or first


def _print_table(body: bytes) -> None:
    if not body.strip():
        return
    try:
        answer: dict[str, Any] = json.loads(body)
    except ValueError:
        sys.stdout.write(body.decode())  # the statement named a FORMAT of its own
        return
    columns = [column["name"] for column in answer["meta"]]
    rows = answer["data"]
    out = console()
    out.print(table("", columns, rows[:MAX_TABLE_ROWS]))
    if len(rows) >= MAX_TABLE_ROWS:
        out.print(f"the first {MAX_TABLE_ROWS} rows; --format csv or json prints all", style="dim")
