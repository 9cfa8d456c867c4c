"""A strategy in a process of your own: it needs Kafka, Avro and HTTP, and nothing of SKEET.

    pip install confluent-kafka fastavro
    python -I external_strategy.py --bootstrap HOST:PORT --registry http://HOST:PORT --tenant acme --account bob

It follows the trades of one instrument, buys and sells a little in turn, and prints what became of each order. A cause has
one client key, made from the trade's place in the log: started again, it asks for the same order under the same key, and
the order is made once.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import sys
import time
import urllib.parse
import urllib.request
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
from confluent_kafka import Consumer, Message, Producer

NS_PER_MS = 1_000_000
VALID_MS = 30_000
"""An order that was not decided half a minute after its cause is not wanted any more."""


class Registry:
    """Schemas by id and by subject, each asked for once."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._schemas: dict[int, Any] = {}

    def by_id(self, schema_id: int) -> Any:
        if schema_id not in self._schemas:
            answer = self._get(f"/schemas/ids/{schema_id}")
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(answer["schema"]))
        return self._schemas[schema_id]

    def latest(self, subject: str) -> tuple[int, Any]:
        answer = self._get(f"/subjects/{urllib.parse.quote(subject, safe='')}/versions/latest")
        return answer["id"], self.by_id(answer["id"])

    def decode(self, value: bytes) -> tuple[str, dict[str, Any]]:
        """The record's short name and its fields. Framing: 0, the schema's id in four bytes, the Avro body."""
        schema = self.by_id(struct.unpack(">bI", value[:5])[1])
        return schema["name"].rpartition(".")[2], fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return json.load(answer)


class Orders:
    """Writes orders to the tenant's own topic."""

    def __init__(self, chosen: argparse.Namespace, connection: dict[str, str], registry: Registry) -> None:
        self._chosen = chosen
        self._topic = f"{chosen.prefix}t.{chosen.tenant}.commands.v1"
        self._schema_id, self._schema = registry.latest(f"{self._topic}-skeet.commands.SubmitOrder")
        # murmur2, as every Kafka client in Java: all commands of an account stand in one partition, in order.
        self._producer = Producer(connection | {"partitioner": "murmur2_random", "enable.idempotence": True})

    def submit(self, cause: Message, side: str) -> str:
        """Order because of a trade; returns the client key."""
        client_key = f"py-{cause.partition()}-{cause.offset()}"
        ts_cause = cause.timestamp()[1] * NS_PER_MS
        order = {
            "event_id": client_key,
            "account_id": self._chosen.account,
            # The rest of the envelope says who is asking: intake writes it anew, whatever stands here.
            **dict.fromkeys(("tenant_id", "principal_id", "correlation_id", "causation_id", "cause_at"), ""),
            **dict.fromkeys(("ts_event", "ts_init"), ts_cause),
            "stream_version": 0,
            "ts_cause": ts_cause,
            "valid_until": ts_cause + VALID_MS * NS_PER_MS,
            "book_id": "external-py",
            "instrument_id": self._chosen.instrument,
            "side": side,
            "order_type": "MARKET",
            "time_in_force": "IOC",
            "post_only": False,
            "quantity": Decimal(self._chosen.quantity),
            "limit_price": None,
            "code_version": "",
            "rule": "in-turn",
        }
        body = io.BytesIO(struct.pack(">bI", 0, self._schema_id))
        body.seek(0, io.SEEK_END)
        fastavro.schemaless_writer(body, self._schema, order)
        self._producer.produce(self._topic, body.getvalue(), key=self._chosen.account)
        self._producer.flush(10)
        return client_key


def run(chosen: argparse.Namespace) -> int:
    """Trade until enough orders are filled (0), or until the time is over (1)."""
    registry, connection = Registry(chosen.registry), connection_of(chosen)
    trades, events = f"{chosen.prefix}market.trades.v1", f"{chosen.prefix}t.{chosen.tenant}.events.v1"
    consumer = Consumer(
        connection
        | {
            "group.id": f"{chosen.prefix}t.{chosen.tenant}.example-py",
            "auto.offset.reset": "latest",
            "isolation.level": "read_committed",  # what an aborted transaction wrote never happened
        }
    )
    consumer.subscribe([trades, events])
    orders = Orders(chosen, connection, registry)
    waiting, filled = "", 0
    deadline = time.monotonic() + chosen.seconds
    while filled < chosen.orders and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None or message.error() is not None:
            continue
        name, record = registry.decode(message.value())
        if message.topic() == trades:
            if not waiting and record["instrument_id"] == chosen.instrument:
                waiting = orders.submit(message, "BUY" if filled % 2 == 0 else "SELL")
                say("asked", key=waiting, because=f"trade {record['trade_id']} at {price_of(record)}")
        elif record["account_id"] == chosen.account:
            filled += tell(name, record)
            if name in ("OrderFilled", "OrderDenied", "OrderRejected", "OrderExpired", "CommandRefused"):
                waiting = ""
    consumer.close()
    return 0 if filled >= chosen.orders else 1


def tell(name: str, record: dict[str, Any]) -> int:
    """Print what is news; 1 for a whole order filled."""
    if name == "CommandForwarded":
        say("forwarded", key=record["client_key"], order=record["command_id"])
    elif name in ("CommandRefused", "OrderDenied"):
        say("refused", reasons=[f"{breach['control']}: {breach['detail']}" for breach in record["breaches"]])
    elif name == "OrderFilled":
        say("filled", order=record["order_id"], side=record["side"], quantity=record["quantity"], price=record["price"])
        return int(record["leaves_quantity"] == 0)
    return 0


def price_of(trade: dict[str, Any]) -> Decimal:
    """Market prices are an integer and its scale: exact, and small."""
    return Decimal(trade["price_mantissa"]).scaleb(-trade["price_scale"])


def connection_of(chosen: argparse.Namespace) -> dict[str, str]:
    """The brokers' address and, where they ask for them, the tenant's credentials."""
    connection = {"bootstrap.servers": chosen.bootstrap}
    if chosen.password_file:
        connection |= {
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanisms": "SCRAM-SHA-512",
            "sasl.username": f"t.{chosen.tenant}",
            "sasl.password": Path(chosen.password_file).read_text().strip(),
        }
    return connection


def say(what: str, **more: Any) -> None:
    """One JSON object a line."""
    sys.stdout.write(json.dumps({"what": what, **more}, default=str) + "\n")
    sys.stdout.flush()


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Trade from outside: buy and sell a little in turn.")
    parser.add_argument("--bootstrap", required=True, help="host:port of Kafka (skeet connect kafka)")
    parser.add_argument("--registry", required=True, help="address of the schema registry (skeet connect kafka)")
    parser.add_argument("--tenant", required=True)
    parser.add_argument("--account", required=True)
    parser.add_argument("--instrument", default="SIM:BTC/USDT")
    parser.add_argument("--quantity", default="0.001")
    parser.add_argument("--orders", type=int, default=4, help="how many to have filled before it ends")
    parser.add_argument("--seconds", type=float, default=60, help="how long to try")
    parser.add_argument("--prefix", default="skeet.", help="prefix of the topics")
    parser.add_argument("--password-file", default="", help="the tenant's password, for a secured Kafka")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run(arguments()))
