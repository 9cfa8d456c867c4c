"""A registry that is away: what cannot be asked is neither known nor unknown."""

from __future__ import annotations

from typing import Any

import pytest
from confluent_kafka.schema_registry.error import SchemaRegistryError

from skeet.config import Settings
from skeet.core.errors import DecodeError, InfrastructureError
from skeet.streams.registry import registered_codec

RECORD = b"\x00" + (4711).to_bytes(4, "big") + b"\x02"


class Answering:
    """The client's two calls that the codec makes; the second one fails as it is told."""

    def __init__(self, failure: Exception) -> None:
        self.failure = failure

    def lookup_schema(self, *_: Any) -> Any:
        class Found:
            schema_id = 1

        return Found()

    def get_schema(self, _: int) -> Any:
        raise self.failure


def decode(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    monkeypatch.setattr("confluent_kafka.schema_registry.SchemaRegistryClient", lambda *_, **__: Answering(failure))
    registered_codec(Settings(registry={"url": "http://127.0.0.1:1"})).decode(RECORD)


@pytest.mark.parametrize(
    "failure", [ConnectionRefusedError("away"), TimeoutError(), SchemaRegistryError(503, 50301, "busy")], ids=repr
)
def test_a_registry_that_is_away_makes_no_poison(monkeypatch: pytest.MonkeyPatch, failure: Exception) -> None:
    with pytest.raises(InfrastructureError, match="registry"):
        decode(monkeypatch, failure)


def test_an_id_that_the_registry_does_not_have_is_poison(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DecodeError, match="4711 is not in the registry"):
        decode(monkeypatch, SchemaRegistryError(404, 40403, "Schema not found"))
