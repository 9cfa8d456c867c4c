"""``skeet connect``: addresses, and what to type in tools that are not ours."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated
from urllib.parse import urlsplit

import typer

from skeet.cli.arguments import Json
from skeet.cli.output import MASK, console, print_json
from skeet.config import KafkaSettings, Settings, load_settings
from skeet.core.errors import InvalidInput
from skeet.local.installation import Installation
from skeet.local.status import metrics_targets
from skeet.streams.topics import ACCOUNT_EVENTS, MARKET_TRADES, topic_name
from skeet.wiring import ROLES


class Store(StrEnum):
    KAFKA = "kafka"
    POSTGRES = "postgres"
    CLICKHOUSE = "clickhouse"
    METRICS = "metrics"


def connect(
    store: Annotated[Store, typer.Argument(help="kafka, postgres, clickhouse or metrics.")],
    show_secrets: Annotated[
        bool, typer.Option("--show-secrets", help="Print passwords instead of where they are.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Connection strings, ready to paste, and what to type in psql, curl, clickhouse-connect or a Kafka client.

    Passwords are left out unless --show-secrets is given: lines with $(cat …) read them from their file.
    """
    settings = load_settings()
    match store:
        case Store.KAFKA:
            facts, text = _kafka(settings)
        case Store.POSTGRES:
            facts, text = _postgres(settings, show=show_secrets)
        case Store.CLICKHOUSE:
            facts, text = _clickhouse(settings, show=show_secrets)
        case Store.METRICS:
            facts, text = _metrics(settings)
    if as_json:
        print_json(facts)
    else:
        console().print(text.strip(), highlight=False, markup=False)


def _address(name: str, value: str) -> str:
    if not value:
        raise InvalidInput(f"{name} is empty: start the platform with `skeet up`, or name your server")
    return value


def _kafka(settings: Settings) -> tuple[dict[str, str], str]:
    bootstrap = _address("SKEET_KAFKA__BOOTSTRAP", settings.kafka.bootstrap)
    trades = topic_name(MARKET_TRADES, settings.kafka)
    registry = settings.registry.url
    facts = {"bootstrap": bootstrap, "registry": registry, "topic_prefix": settings.kafka.topic_prefix}
    return (
        facts,
        f"""
bootstrap servers   {bootstrap}
schema registry     {registry}
security            {_security(settings.kafka)}
records             Avro in Confluent framing; read with isolation.level=read_committed

kcat
  kcat -b {bootstrap} -t {trades} -s value=avro -r {registry} -X isolation.level=read_committed

Apache Kafka's own tools
  kafka-console-consumer.sh --bootstrap-server {bootstrap} --topic {topic_name(ACCOUNT_EVENTS, settings.kafka)} \\
    --isolation-level read_committed --from-beginning

Python (pip install "confluent-kafka[avro,schemaregistry]")
  from confluent_kafka import DeserializingConsumer
  from confluent_kafka.schema_registry import SchemaRegistryClient
  from confluent_kafka.schema_registry.avro import AvroDeserializer
  consumer = DeserializingConsumer({{
      "bootstrap.servers": "{bootstrap}", "group.id": "mine", "auto.offset.reset": "earliest",
      "isolation.level": "read_committed",
      "value.deserializer": AvroDeserializer(SchemaRegistryClient({{"url": "{registry}"}}))}})
  consumer.subscribe(["{trades}"])
  print(consumer.poll(5).value())

all topics: skeet topics list
""",
    )


def _security(kafka: KafkaSettings) -> str:
    if kafka.security_protocol == "PLAINTEXT":
        return "none (plaintext)"
    authority = f", authority in {kafka.ssl_ca}" if kafka.ssl_ca else ""
    login = f", {kafka.sasl_mechanism} as {kafka.sasl_username}" if kafka.security_protocol.startswith("SASL") else ""
    return f"{kafka.security_protocol}{authority}{login}"


def _postgres(settings: Settings, *, show: bool) -> tuple[dict[str, str], str]:
    dsn = _address("SKEET_POSTGRES__DSN", settings.postgres.dsn.get_secret_value())
    parts = urlsplit(dsn)
    masked = dsn if show or not parts.password else dsn.replace(f":{parts.password}@", f":{MASK}@", 1)
    typed = f'"{dsn}"' if show else _secret(settings, "skeet_postgres__dsn", masked)
    facts = {"dsn": masked, "host": parts.hostname or "", "port": str(parts.port or 5432)}
    facts |= {"schema": settings.postgres.schema_name, "database": parts.path.lstrip("/"), "user": parts.username or ""}
    return (
        facts,
        f"""
connection string   {masked}

psql
  psql {typed}
  select * from balances;
  select order_id, side, quantity, status, average_price from orders order by decided_at desc limit 20;

Python (pip install "psycopg[binary]")
  import psycopg
  with psycopg.connect("{masked}") as connection:
      print(connection.execute("select * from positions").fetchall())

tables are in schema {settings.postgres.schema_name} (set search_path to {settings.postgres.schema_name} if they are not found);
columns: docs/data-dictionary.md, or \\d+ orders in psql
""",
    )


def _clickhouse(settings: Settings, *, show: bool) -> tuple[dict[str, str], str]:
    house = settings.clickhouse
    url = _address("SKEET_CLICKHOUSE__URL", house.url)
    parts = urlsplit(url)
    password = house.password.get_secret_value() if show else MASK
    typed = password if show else _secret(settings, "skeet_clickhouse__password", password)
    facts = {"url": url, "user": house.user, "password": password, "database": house.database}
    return (
        facts,
        f"""
address             {url}
user                {house.user}
password            {password}
database            {house.database}

curl
  curl "{url}/?database={house.database}" -u {house.user}:{typed} --data-binary "SELECT count() FROM trades"

Python (pip install clickhouse-connect)
  import clickhouse_connect
  client = clickhouse_connect.get_client(host="{parts.hostname}", port={parts.port}, username="{house.user}",
                                         password="{password}", database="{house.database}")
  print(client.query_df("SELECT * FROM trades LIMIT 5"))

JDBC (DBeaver, DataGrip: driver com.clickhouse:clickhouse-jdbc)
  jdbc:clickhouse:{url}/{house.database}

tables and columns: docs/data-dictionary.md; here: skeet sql "SHOW TABLES"
""",
    )


def _metrics(settings: Settings) -> tuple[dict[str, str], str]:
    """A scrape configuration of what runs now; with SKEET_HEALTH__PORT set it holds for the next start, too."""
    targets = metrics_targets(Installation(settings.data.absolute()))
    if not targets:
        raise InvalidInput("no process answers: start the platform with `skeet up`")
    blocks = "".join(
        f"""
      - targets: ["{address}"]
        labels: {{process: "{name}", role: "{role_of(name)}"}}"""
        for name, address in targets.items()
    )
    return (
        targets,
        f"""
scrape_configs:
  - job_name: skeet
    scrape_interval: 15s
    static_configs:{blocks}

# what the metrics mean: docs/metrics.md; one by hand: curl http://{next(iter(targets.values()))}/metrics
""",
    )


def role_of(process: str) -> str:
    """The role of a process by its name: ``desk-1`` is a desk, ``strategy/maker-eth`` a strategy."""
    name = process.partition("/")[0]
    return name if name in ROLES or name == "supervisor" else name.rpartition("-")[0]


def _secret(settings: Settings, file_name: str, otherwise: str) -> str:
    """How a shell reads the secret without showing it; the masked text where it is in no file."""
    path = settings.secrets_dir / file_name
    return f'"$(cat {path})"' if path.is_file() else f'"{otherwise}"'
