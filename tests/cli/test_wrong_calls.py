"""Wrong flags, values, settings and files: each message names the field, its value and a remedy, and the exit code is 2.

No platform runs. What a message must say is the list of words beside each call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import Result

USAGE = 2
AWAY = 1
DAMAGED = 12


@dataclass(frozen=True, slots=True)
class Wrong:
    """One call: its words, settings by name, files of the data directory, what it must say, how it must end."""

    call: str
    says: tuple[str, ...]
    settings: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    code: int = USAGE


FLAGS = (
    Wrong("weather", ("No such command", "weather")),
    Wrong("tail", ("Missing argument", "TOPIC")),
    Wrong("tail nonsense", ("topic is 'nonsense'", "expected one of", "orders.commands.v1")),
    Wrong("tail orders.commands.v1 -n 0", ("'-n'", "greater than or equal to 1")),
    Wrong("tail orders.commands.v1 --colour red", ("No such option", "--colour")),
    Wrong("order place demo-1 SIM:BTC/USDT hold 1", ("side", "'hold'", "buy", "sell")),
    Wrong("order place demo-1 SIM:BTC/USDT buy NaN", ("QUANTITY is 'NaN'", "plain decimal")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 1e3", ("QUANTITY is '1e3'", "plain decimal")),
    Wrong("order place demo-1 SIM:BTC/USDT buy -- -1", ("QUANTITY is '-1'", "plain decimal")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 0", ("QUANTITY is 0", "more than 0")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 0.1234567890123456789", ("QUANTITY is", "18 after the point")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 1000000000000000000", ("QUANTITY is", "at most 18 digits before")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 1 --limit cheap", ("limit is 'cheap'", "plain decimal")),
    Wrong("order place demo-1 SIM:BTC/USDT buy 1 --tif never", ("--tif", "never", "gtc")),
    Wrong("order place demo-1 BTCUSDT buy 1", ("instrument is 'BTCUSDT'", "VENUE:BASE/QUOTE")),
    Wrong("order place DEMO SIM:BTC/USDT buy 1", ("account is 'DEMO'", "a-z")),
    Wrong("account create Über", ("account is 'Über'", "a-z")),
    Wrong("account create demo-1 --venue nyse", ("venue", "'nyse'", "sim")),
    Wrong("account deposit demo-1 usdt 10", ("asset is 'usdt'", "capitals")),
    Wrong("account deposit demo-1 USDT ten", ("AMOUNT is 'ten'", "plain decimal")),
    Wrong("kill on --scope everything", ("--scope is 'everything'", "platform, tenant:ID or account:ID")),
    Wrong("limits set", ("nothing to set", "--max-quantity")),
    Wrong("limits set --max-notional lots", ("--max-notional is 'lots'", "plain decimal")),
    Wrong("run nothing", ("role is 'nothing'", "expected one of", "desk")),
    Wrong("up --port-base 80", ("--port-base", "greater than or equal to 1024")),
    Wrong("demo --for 1", ("--for", "greater than or equal to 5")),
    Wrong("logs -n -1", ("'-n'", "greater than or equal to 0")),
    Wrong("sql --timeout 0 x", ("--timeout", "greater than or equal to 1")),
    Wrong("sql --format xml x", ("--format", "xml", "table")),
    Wrong("connect oracle", ("oracle", "kafka")),
    Wrong("feed replay /no/such/file", ("/no/such/file",)),
    Wrong("dead-letters show 12", ("id is '12'", "at least 8 digits", "skeet dead-letters list")),
    Wrong("dead-letters list --since yesterday", ("--since is 'yesterday'", "UTC time")),
    Wrong("dead-letters list --topic nonsense", ("topic is 'nonsense'", "expected one of")),
    Wrong("strategy new Bad-Name", ("Bad-Name", "lower case")),
)  # fmt: skip

KAFKA = {"SKEET_KAFKA__BOOTSTRAP": "127.0.0.1:1"}
CONFIGURATION = (
    Wrong("config show", ("SKEET_KAFKA__ACCOUNT_PARTITIONS is '0'", "greater than or equal to 1"),
          {"SKEET_KAFKA__ACCOUNT_PARTITIONS": "0"}),
    Wrong("config show", ("SKEET_KAFKA__ACCOUNT_PARTITIONS is 'many'", "valid integer"),
          {"SKEET_KAFKA__ACCOUNT_PARTITIONS": "many"}),
    Wrong("config show", ("SKEET_KAFKA__BOOTSTAP is", "not permitted"), {"SKEET_KAFKA__BOOTSTAP": "x"}),
    Wrong("config show", ("SKEET_TENANT is 'A B'",), {"SKEET_TENANT": "A B"}),
    Wrong("config show", ("SKEET_POSTGRES__SCHEMA_NAME", "drop table"), {"SKEET_POSTGRES__SCHEMA_NAME": "drop table"}),
    Wrong("config show", ("SKEET_LOG_LEVEL is 'LOUD'", "DEBUG"), {"SKEET_LOG_LEVEL": "LOUD"}),
    Wrong("config show", ("SKEET_RISK__MAX_QUANTITY is 'lots'", "decimal"), {"SKEET_RISK__MAX_QUANTITY": "lots"}),
    Wrong("config show", ("SKEET_SIM__COMMISSION is 'free'", "quote"), {"SKEET_SIM__COMMISSION": "free"}),
    Wrong("config show", ("SKEET_FEED__SYMBOLS",), {"SKEET_FEED__SYMBOLS": "BTC/USDT"}),
    Wrong("config show", ("skeet.toml", "line 1"), files={"skeet.toml": "[kafka\n"}),
    Wrong("config show", ("SKEET_KAFKA__LINGER_MS is 'soon'",), files={"skeet.toml": '[kafka]\nlinger_ms = "soon"\n'}),
    Wrong("config show", ("endpoints.toml",), files={"endpoints.toml": "=\n"}, code=DAMAGED),
    Wrong("topics plan", ("SKEET_KAFKA__BOOTSTRAP is empty", "skeet up")),
    Wrong("tail orders.commands.v1", ("SKEET_REGISTRY__URL is empty", "skeet up"), KAFKA),
    Wrong("dead-letters list", ("SKEET_REGISTRY__URL is empty", "skeet up"), KAFKA),
    Wrong("sql x", ("SKEET_CLICKHOUSE__URL is empty", "skeet up")),
    Wrong("sql x", ("ClickHouse", "127.0.0.1:1"), {"SKEET_CLICKHOUSE__URL": "http://127.0.0.1:1"}, code=AWAY),
    Wrong("projection checksum postgres", ("SKEET_POSTGRES__DSN is empty", "skeet up"), KAFKA),
)  # fmt: skip


@pytest.mark.parametrize(
    "wrong", (*FLAGS, *CONFIGURATION), ids=lambda wrong: f"{wrong.call} {wrong.settings or wrong.files or ''}"
)
def test_a_wrong_call_names_field_value_and_remedy(
    wrong: Wrong,
    skeet: Callable[..., Result],
    data_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    for name, value in wrong.settings.items():
        monkeypatch.setenv(name, value)
    for name, text in wrong.files.items():
        (data_dir / name).write_text(text)
    result = skeet(*wrong.call.split(" "))
    said = " ".join((result.output + capsys.readouterr().err).replace("│", " ").split())
    assert result.exit_code == wrong.code, said
    for word in wrong.says:
        assert word in said, said
    assert "Traceback" not in said and "unexpected" not in said
