"""The committed schemas are what the event classes say, old bytes stay readable, and versions stay compatible."""

from __future__ import annotations

import json
from importlib.resources import files

import pytest
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType
from avro.schema import make_avsc_object

from skeet.core.record import Event
from skeet.schemas import golden
from skeet.schemas.catalogue import EVENT_BY_NAME, EVENTS, OUTSIDE, committed_schema, full_name, rendered_schema
from skeet.schemas.codec import Codec
from skeet.streams.topics import TOPICS


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_committed_schema_is_what_the_class_says(event_class: type[Event]) -> None:
    path = files("skeet.schemas") / "avsc" / f"{full_name(event_class)}.avsc"
    assert path.read_text() == rendered_schema(event_class), "run `make schemas`"


def test_no_schema_without_a_class() -> None:
    committed = {path.name.removesuffix(".avsc") for path in (files("skeet.schemas") / "avsc").iterdir()}
    assert committed == set(EVENT_BY_NAME)


def test_every_event_travels_on_exactly_one_topic() -> None:
    """Beside the copies that tenants write and read."""
    on_topics = [event_class for topic in TOPICS for event_class in topic.events] + list(OUTSIDE)
    assert sorted(map(full_name, on_topics)) == sorted(map(full_name, EVENTS))


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_the_current_schema_has_a_golden_file(event_class: type[Event]) -> None:
    schemas = [json.loads(path.read_text())["schema"] for path in golden.files_of(event_class)]
    assert committed_schema(event_class) in schemas, "run `make schemas`"


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_golden_records_of_every_version_are_read(event_class: type[Event]) -> None:
    for path in golden.files_of(event_class):
        document = json.loads(path.read_text())
        codec = Codec({event_class: 999}, fetch={golden.GOLDEN_SCHEMA_ID: document["schema"]}.__getitem__)
        event, meta = codec.decode(bytes.fromhex(document["record"]))
        if document["schema"] == committed_schema(event_class):
            assert repr((event, meta)) == document["values"]


@pytest.mark.parametrize("event_class", EVENTS, ids=full_name)
def test_all_versions_read_each_other(event_class: type[Event]) -> None:
    """FULL_TRANSITIVE: every version is reader and writer of every other."""
    current = make_avsc_object(committed_schema(event_class))
    checker = ReaderWriterCompatibilityChecker()
    for path in golden.files_of(event_class):
        earlier = make_avsc_object(json.loads(path.read_text())["schema"])
        for reader, writer in ((current, earlier), (earlier, current)):
            result = checker.get_compatibility(reader, writer)
            assert result.compatibility is SchemaCompatibilityType.compatible, f"{path}: {result.messages}"
