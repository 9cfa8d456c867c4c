"""The registry against Confluent's own client, and its rules against its state alone."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from skeet.local.kafka import KafkaBroker
from skeet.local.ports import free_port
from skeet.local.registry_state import LogRecord, RegistryError, RegistryState, canonical
from skeet.local.server import ChildServer


def record(*fields: dict[str, Any], name: str = "Trade") -> str:
    return json.dumps({"type": "record", "name": name, "fields": list(fields)})


PRICE = {"name": "price", "type": "long"}
SIZE_DEFAULTED = {"name": "size", "type": "long", "default": 0}


def registered(*schemas: tuple[str, str]) -> RegistryState:
    state = RegistryState()
    for subject, schema in schemas:
        state.apply(state.plan_schema(subject, schema))
    return state


def test_same_schema_under_two_subjects_has_one_id() -> None:
    state = registered(("a", record(PRICE)), ("b", record(PRICE)))
    assert state.version("a", "1").schema_id == state.version("b", "1").schema_id == 1


def test_field_with_default_is_accepted_as_next_version() -> None:
    state = registered(("a", record(PRICE)), ("a", record(PRICE, SIZE_DEFAULTED)))
    assert state.version("a", "latest").version == 2


def test_field_without_default_is_refused_with_its_name() -> None:
    with pytest.raises(RegistryError, match="size") as refusal:
        registered(("a", record(PRICE)), ("a", record(PRICE, {"name": "size", "type": "long"})))
    assert refusal.value.status == 409


def test_transitive_level_looks_at_every_version() -> None:
    first = record(PRICE, {"name": "size", "type": "long", "default": 0})
    retyped = record(PRICE, {"name": "size", "type": "string", "default": ""})
    state = registered(("a", first), ("a", record(PRICE)))
    assert any(reason.startswith("version 1") for reason in state.incompatibilities("a", retyped))
    state.apply(state.plan_config("a", "FULL"))
    assert state.incompatibilities("a", retyped) == []


def test_changed_scale_of_a_decimal_is_refused() -> None:
    def amount(scale: int) -> dict[str, Any]:
        return {
            "name": "amount",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": scale},
        }

    state = registered(("a", record(amount(18))))
    assert any("logical type at /amount/" in reason for reason in state.incompatibilities("a", record(amount(8))))


def test_enum_grows_when_it_has_a_default() -> None:
    def side(*symbols: str) -> dict[str, Any]:
        return {
            "name": "side",
            "type": {"type": "enum", "name": "Side", "symbols": list(symbols), "default": "UNKNOWN"},
        }

    state = registered(("a", record(side("UNKNOWN", "BUY"))))
    assert state.incompatibilities("a", record(side("UNKNOWN", "BUY", "SELL"))) == []


def test_text_that_is_no_avro_is_refused() -> None:
    for text in ("{", '{"type": "nonsense"}', '{"type": "record", "name": "X"}'):
        with pytest.raises(RegistryError) as refusal:
            RegistryState().plan_schema("a", text)
        assert refusal.value.code == 42201


def test_records_of_a_confluent_registry_are_understood() -> None:
    state = RegistryState()
    for key, value in (
        ('{"keytype":"NOOP","magic":0}', None),
        (
            '{"keytype":"SCHEMA","subject":"a","version":1,"magic":1}',
            '{"subject":"a","version":1,"id":7,"schema":"\\"string\\"","deleted":false}',
        ),
        (
            '{"keytype":"SCHEMA","subject":"a","version":2,"magic":1}',
            '{"subject":"a","version":2,"id":8,"schema":"\\"long\\"","deleted":true}',
        ),
        ('{"keytype":"CONFIG","subject":null,"magic":0}', '{"compatibilityLevel":"BACKWARD"}'),
    ):
        state.apply(LogRecord(key=key, value=value))
    assert list(state.versions("a")) == [1]
    assert state.schemas == {7: '"string"', 8: '"long"'}
    assert state.level("a") == "BACKWARD"


@pytest.mark.integration
class TestConfluentClient:
    """confluent-kafka's own SchemaRegistryClient against our server."""

    @pytest.fixture
    def client(self, registry_url: str) -> SchemaRegistryClient:
        return SchemaRegistryClient({"url": registry_url})

    @pytest.fixture
    def subject(self) -> str:
        return f"topic/with-slash.{uuid.uuid4().hex}"

    def test_round_trip_of_a_schema(self, client: SchemaRegistryClient, subject: str) -> None:
        schema = Schema(record(PRICE, name=f"R{uuid.uuid4().hex}"), "AVRO")
        schema_id = client.register_schema(subject, schema)
        assert canonical(client.get_schema(schema_id).schema_str) == canonical(schema.schema_str)
        assert client.get_latest_version(subject).schema_id == schema_id
        assert client.lookup_schema(subject, schema).version == 1
        assert client.get_versions(subject) == [1]
        assert subject in client.get_subjects()
        assert client.get_schema_types() == ["AVRO"]
        assert client.register_schema(subject, schema) == schema_id

    def test_incompatible_schema_is_refused_with_409(self, client: SchemaRegistryClient, subject: str) -> None:
        client.register_schema(subject, Schema(record(PRICE), "AVRO"))
        retyped = Schema(record({"name": "price", "type": "string"}), "AVRO")
        assert not client.test_compatibility(subject, retyped)
        with pytest.raises(SchemaRegistryError, match="type_mismatch") as refusal:
            client.register_schema(subject, retyped)
        assert refusal.value.http_status_code == 409

    def test_levels_are_set_and_read(self, client: SchemaRegistryClient, subject: str) -> None:
        assert client.get_compatibility() == "FULL_TRANSITIVE"
        client.set_compatibility(subject, "NONE")
        assert client.get_compatibility(subject) == "NONE"
        with pytest.raises(SchemaRegistryError):
            client.set_compatibility(subject, "SOMETIMES")

    def test_unknown_things_are_404_in_confluents_codes(self, client: SchemaRegistryClient) -> None:
        with pytest.raises(SchemaRegistryError) as unknown:
            client.get_latest_version("nobody")
        assert (unknown.value.http_status_code, unknown.value.error_code) == (404, 40401)
        with pytest.raises(SchemaRegistryError) as missing:
            client.get_schema(999_999)
        assert missing.value.error_code == 40403


@pytest.mark.integration
def test_ids_survive_kill_and_a_second_registry_fences_the_first(tmp_path: Path) -> None:
    broker = KafkaBroker(tmp_path / "kafka")
    ports = [free_port(), free_port()]
    first, second = (
        ChildServer(
            "skeet.local.registry", ["--bootstrap", broker.bootstrap, "--port", str(port)], tmp_path / str(port)
        )
        for port in ports
    )
    clients = [SchemaRegistryClient({"url": f"http://127.0.0.1:{port}", "max.retries": 0}) for port in ports]
    try:
        broker.start()
        first.start()
        given = clients[0].register_schema("a", Schema(record(PRICE), "AVRO"))
        first.kill()
        first.start()
        assert clients[0].get_latest_version("a").schema_id == given
        second.start()
        with pytest.raises(SchemaRegistryError):
            clients[0].register_schema("a", Schema(record(PRICE, SIZE_DEFAULTED), "AVRO"))
        assert first.wait(deadline_s=10) == 1
        assert clients[1].get_versions("a") == [1]
        clients[1].register_schema("a", Schema(record(PRICE, SIZE_DEFAULTED), "AVRO"))
        assert clients[1].get_versions("a") == [1, 2]
    finally:
        second.stop()
        first.stop()
        broker.stop()
