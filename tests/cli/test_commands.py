"""Commands without a platform: what is refused, what is masked, what a picture looks like."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException
from rich.console import Console

from skeet.cli import arguments, watch_state
from skeet.cli.order import BuyOrSell, InForce, _submit_order
from skeet.cli.output import decimal_text, plain
from skeet.cli.tracing import Hop, received
from skeet.cli.watch_frame import draw, spark
from skeet.cli.watch_state import Picture, Price, Watcher
from skeet.config import Settings
from skeet.core.errors import InvalidInput
from skeet.core.market import Reference, ReferenceStatus, Tick
from skeet.core.record import Record, TopicPosition
from skeet.core.values import NS_PER_S, OrderType, TimeInForce


@pytest.mark.parametrize(
    "text", ["", "-1", "1e3", "1,5", " 1", "NaN", "0", "0.000", "1." + "0" * 18 + "1", "1" * 21, "\uff11"]
)
def test_amount_that_is_no_plain_positive_decimal_is_refused_with_its_field(text: str) -> None:
    with pytest.raises(InvalidInput, match="QUANTITY"):
        arguments.amount("QUANTITY", text)


def test_amount_is_exact() -> None:
    assert arguments.amount("x", "123456789012345678.123456789012345678") == Decimal(
        "123456789012345678.123456789012345678"
    )


@pytest.mark.parametrize("name", ["", "Demo", "a b", "../x", "~1", "-a", "a" * 33])
def test_account_name_outside_the_alphabet_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="account"):
        arguments.account_id(name)


def submit(limit: str | None, tif: InForce | None = None, *, post_only: bool = False) -> Any:
    return _submit_order("SIM:BTC/USDT", BuyOrSell.BUY, "1", limit, tif, post_only=post_only, now_ns=1_234_567_890)


def test_order_without_a_limit_is_a_market_order_that_does_not_rest() -> None:
    order = submit(None)
    assert (order.order_type, order.time_in_force, order.limit_price) == (OrderType.MARKET, TimeInForce.IOC, None)


def test_cause_of_a_command_is_never_after_its_own_log_time() -> None:
    """The log has milliseconds: the cause is cut to them."""
    assert submit("1").ts_cause == 1_234_000_000


@pytest.mark.parametrize(("limit", "tif"), [(None, None), ("1", InForce.IOC)])
def test_post_only_order_must_rest(limit: str | None, tif: InForce | None) -> None:
    with pytest.raises(InvalidInput, match="--post-only"):
        submit(limit, tif, post_only=True)


def test_config_shows_sources_and_no_secret(skeet: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SKEET_POSTGRES__DSN", "postgresql://u:hunter2@h/d")
    (data_dir / "skeet.toml").write_text("[sim]\nspeed = 3.0\n")
    (data_dir / "endpoints.toml").write_text('[kafka]\nbootstrap = "127.0.0.1:1"\n')
    output = skeet("config", "show", "--json").stdout
    rows = {row["setting"]: row for row in json.loads(output)}
    assert "hunter2" not in output
    assert rows["SKEET_POSTGRES__DSN"] | {"meaning": ""} == {
        "setting": "SKEET_POSTGRES__DSN", "value": "********", "from": "environment", "meaning": "",
    }  # fmt: skip
    assert rows["SKEET_SIM__SPEED"]["from"] == "config file"
    assert rows["SKEET_KAFKA__BOOTSTRAP"]["from"] == "endpoints.toml"
    assert rows["SKEET_TENANT"]["from"] == "default"


def test_connection_string_hides_the_password_unless_asked(
    skeet: Any, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SKEET_POSTGRES__DSN", "postgresql://u:hunter2@127.0.0.1:5/d")
    assert "hunter2" not in skeet("connect", "postgres").stdout
    assert "hunter2" in skeet("connect", "postgres", "--show-secrets").stdout


def test_command_without_a_platform_names_the_remedy(
    skeet: Any, data_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = skeet("sql", "SELECT 1")
    assert result.exit_code == 2
    assert "skeet up" in capsys.readouterr().err


def test_amounts_in_json_are_plain_strings() -> None:
    assert plain({"a": Decimal("1E+3"), "b": (Decimal("0.500"),), "c": b"\xff"}) == {
        "a": "1000",
        "b": ["0.5"],
        "c": "/w==",
    }
    assert decimal_text(Decimal("100")) == "100"


def test_step_below_another_counts_from_it() -> None:
    root = Hop(kind="frame received", ts_ns=0)
    assert root.add(Hop(kind="Trade", ts_ns=2_500_000)).delta_ms == 2.5


def picture(now_ns: int) -> Picture:
    reference = Reference(
        instrument_id="SIM:BTC/USDT",
        ts_event=0,
        ts_init=NS_PER_S,
        bid_mantissa=5800000,
        ask_mantissa=5800002,
        last_mantissa=5800001,
        price_scale=2,
        status=ReferenceStatus.LIVE,
        source_at="",
    )
    position = {
        "account_id": "demo", "book_id": "trend", "instrument_id": "SIM:BTC/USDT", "quantity": Decimal("0.5"),
        "average_price": Decimal("57000"), "realized_pnl": Decimal("10"), "fees": Decimal("12.5"), "round_trips": 3,
    }  # fmt: skip
    order = {
        "decided_at": NS_PER_S, "account_id": "demo", "order_id": "abcdef0123", "side": "SELL", "quantity": Decimal("0.5"),
        "limit_price": None, "status": "ACCEPTED",
    }  # fmt: skip
    return Picture(
        now_ns=now_ns,
        prices={"SIM:BTC/USDT": Price(reference, deque([Decimal(1), Decimal(2)]))},
        events=[],
        positions=[position],
        balances=[],
        orders=[order],
        lag={"desk": 3},
        troubles={},
    )


def rendered(shown: Picture) -> str:
    console = Console(width=100, height=30, record=True, file=StringIO())
    console.print(draw(shown, 100, 30))
    return console.export_text()


def test_picture_fits_the_screen_and_shows_everything() -> None:
    text = rendered(picture(2 * NS_PER_S))
    assert len(text.rstrip("\n").splitlines()) == 30
    assert max(map(len, text.splitlines())) == 100
    for shown in ("58000", "58000.02", "+500.00", "-2.50", "abcdef01", "ACCEPTED", "desk"):
        assert shown in text, shown


def test_old_price_is_marked() -> None:
    assert "▁" in rendered(picture(2 * NS_PER_S))
    assert "▁" not in rendered(picture(60 * NS_PER_S))


def test_chart_of_equal_prices_is_flat() -> None:
    assert len(set(spark([Decimal(1)] * 5).plain)) == 1


def test_order_that_a_timer_caused_is_traced_to_the_clock() -> None:
    tick = Record(event=Tick(ts_event=5), meta=None, at=TopicPosition("clock.v1", 0, 1), log_ns=6)
    assert received(tick) == Hop(kind="clock", ts_ns=5)


def test_metrics_targets_are_those_that_answer_now(skeet: Callable[..., Any], data_dir: Path) -> None:
    (data_dir / "run").mkdir()
    alive = json.dumps({"url": "http://127.0.0.1:9100", "pid": os.getpid()})
    (data_dir / "run" / "supervisor.health").write_text(alive)
    instance = data_dir / "instances" / "maker" / "home"
    instance.mkdir(parents=True)
    (instance / "ready.health").write_text(alive)
    assert json.loads(skeet("connect", "metrics", "--json").stdout) == {
        "supervisor": "127.0.0.1:9100",
        "strategy/maker": "127.0.0.1:9100",
    }
    text = skeet("connect", "metrics").stdout
    assert 'targets: ["127.0.0.1:9100"]' in text and 'role: "strategy"' in text
    (data_dir / "run" / "supervisor.health").write_text(json.dumps({"url": "http://x", "pid": 2**22 + 1}))
    (instance / "ready.health").write_text("")
    gone = skeet("connect", "metrics")
    assert gone.exit_code == 2


def test_lag_is_asked_for_by_a_new_client_after_one_that_got_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    watcher: Any = object.__new__(Watcher)
    watcher._settings, watcher._admin = Settings(kafka={"bootstrap": "127.0.0.1:1"}), OldClient()
    monkeypatch.setattr(watch_state, "admin", lambda settings: "new")
    with pytest.raises(KafkaException):
        watcher._ask_for_lag()
    assert watcher._admin == "new"


class OldClient:
    """It lived through a broker's death."""

    def list_consumer_group_offsets(self, requests: object, request_timeout: float) -> object:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
