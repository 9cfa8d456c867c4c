"""`skeet tail` and `skeet topics` on a real broker."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.market import Trade
from skeet.core.record import Out
from skeet.core.values import Side
from skeet.schemas.codec import Codec
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.topics import MARKET_TRADES, topic_name

pytestmark = pytest.mark.integration


def trade(number: int, instrument_id: str = "SIM:BTC/USDT") -> Out[Trade]:
    event = Trade(
        instrument_id=instrument_id,
        ts_event=1_000 + number,
        ts_init=2_000 + number,
        trade_id=str(number),
        price_mantissa=6_000_000 + number,
        size_mantissa=15,
        price_scale=2,
        size_scale=3,
        aggressor_side=Side.BUY,
    )
    return Out(topic=MARKET_TRADES.name, key=instrument_id, event=event)


@pytest.fixture
def ten_trades(installation: Settings, codec: Codec) -> Settings:
    publisher = Publisher(installation, codec, producer(installation, "test"))
    publisher.send([trade(number) for number in range(10)])
    publisher.flush()
    return installation


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_from_beginning_shows_every_record_and_stops_at_the_end(skeet: Any, ten_trades: Settings) -> None:
    result = skeet("tail", "market.trades.v1", "--from", "beginning", "--json")
    assert result.exit_code == 0
    assert [line["event"]["trade_id"] for line in objects(result.stdout)] == [str(n) for n in range(10)]


def test_last_three_are_the_newest_three(skeet: Any, ten_trades: Settings) -> None:
    result = skeet("tail", "market.trades", "--from", "-3", "--json")
    assert [line["event"]["trade_id"] for line in objects(result.stdout)] == ["7", "8", "9"]


def test_count_stops_and_following_begins_where_reading_ended(skeet: Any, ten_trades: Settings) -> None:
    assert len(objects(skeet("tail", "market.trades", "--from", "beginning", "-f", "-n", "10", "--json").stdout)) == 10


def test_key_filters(skeet: Any, ten_trades: Settings) -> None:
    assert skeet("tail", "market.trades", "--from", "beginning", "--key", "SIM:ETH/USDT").stdout == ""


def test_bytes_that_are_no_record_are_shown_not_fatal(skeet: Any, ten_trades: Settings) -> None:
    client = producer(ten_trades, "test")
    client.produce(topic_name(MARKET_TRADES, ten_trades.kafka), b"\x01nonsense", key=b"SIM:BTC/USDT")
    client.flush()
    last = objects(skeet("tail", "market.trades", "--from", "-1", "--json").stdout)[-1]
    assert "Confluent framing" in last["error"]
    assert bytes.fromhex(last["value"]) == b"\x01nonsense"


def test_time_in_the_future_finds_nothing(skeet: Any, ten_trades: Settings) -> None:
    assert skeet("tail", "market.trades", "--from", "2099-01-01").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(("no.such.topic",), "market.trades.v1"), (("market.trades", "--from", "yesterday"), "yesterday")],
)
def test_wrong_argument_is_named_with_what_was_expected(
    skeet: Any, installation: Settings, arguments: tuple[str, ...], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = skeet("tail", *arguments)
    assert result.exit_code == 2
    assert names in capsys.readouterr().err


def test_topics_plan_of_an_applied_table_is_empty(skeet: Any, installation: Settings) -> None:
    assert json.loads(skeet("topics", "plan", "--json").stdout) == []


def test_topics_list_names_every_topic_with_its_reason(skeet: Any, installation: Settings) -> None:
    rows = json.loads(skeet("topics", "list", "--json").stdout)
    assert {row["topic"].removeprefix(installation.kafka.topic_prefix) for row in rows} >= {"accounts.events.v1"}
    assert all(row["why"] for row in rows)
