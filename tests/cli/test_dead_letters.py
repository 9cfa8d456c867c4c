"""`skeet dead-letters` on a real broker: listed once, shown with what they read as, sent again once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from skeet.config import Settings
from skeet.core.control import DeadLetterRedriven
from skeet.core.record import TopicPosition
from skeet.schemas.codec import Codec
from skeet.streams.door import KEPT_BYTES, RawRecord, dead_letter
from skeet.streams.kafka import producer
from skeet.streams.publishing import Publisher
from skeet.streams.reading import messages_until_end, partitions_of, records_until_end
from skeet.streams.topics import COMMANDS, DEAD_LETTERS, MARKET_RAW, topic_name

pytestmark = pytest.mark.integration

KEY = b"alice"


def send(settings: Settings, value: bytes) -> RawRecord:
    """The value on the topic of commands, as the desk would see it."""
    client = producer(settings, "test")
    places: list[Any] = []
    client.produce(
        topic_name(COMMANDS, settings.kafka), value, KEY, on_delivery=lambda _, message: places.append(message)
    )
    client.flush()
    at = TopicPosition(COMMANDS.name, places[0].partition(), places[0].offset())
    return RawRecord(at=at, key=KEY, value=value, log_ns=places[0].timestamp()[1] * 1_000_000)


def write(settings: Settings, codec: Codec, *raws: RawRecord, role: str = "desk", times: int = 1) -> None:
    publisher = Publisher(settings, codec, producer(settings, "test"))
    for raw in raws * times:
        publisher.send([dead_letter(role, raw, "DecodeError: a test")])
    publisher.flush()


def sent(settings: Settings) -> list[bytes]:
    return [message.value() or b"" for message in messages_until_end(settings, partitions_of(settings, [COMMANDS]))]


def listed(skeet: Any, *words: str) -> list[dict[str, Any]]:
    result = skeet("dead-letters", "list", "--json", *words)
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_letter_written_twice_is_listed_once_and_filters_hold(
    skeet: Any, installation: Settings, codec: Codec
) -> None:
    assert listed(skeet) == []
    raw = send(installation, b"\x07 no record")
    write(installation, codec, raw, times=2)
    write(installation, codec, raw, role="projection-clickhouse")
    first, second = listed(skeet)
    assert (first["role"], second["role"]) == ("desk", "projection-clickhouse")
    assert (first["topic"], first["offset"], first["bytes"]) == (COMMANDS.name, raw.at.offset, len(raw.value))
    assert [row["role"] for row in listed(skeet, "--role", "desk")] == ["desk"]
    assert len(listed(skeet, "--topic", "orders.commands")) == 2
    assert listed(skeet, "--topic", "venue.reports") == []
    assert listed(skeet, "--since", "2099-01-01") == []
    text = skeet("dead-letters", "list").stdout
    assert first["id"] in text
    assert "a test" in text


def test_a_letter_is_shown_with_what_its_bytes_read_as_now(skeet: Any, installation: Settings, codec: Codec) -> None:
    write(installation, codec, send(installation, b"\x07\x00\x00\x00\x2a no record"))
    (letter,) = listed(skeet)
    shown = skeet("dead-letters", "show", letter["id"][:10]).stdout
    assert "first byte 7" in shown
    assert "07 00 00 00 2a 20 6e 6f" in shown
    assert "no record" in shown
    assert json.loads(skeet("dead-letters", "show", letter["id"], "--json").stdout)["value"].startswith("070000002a")
    assert skeet("dead-letters", "show", "0" * 32).exit_code == 2


def test_a_letter_is_sent_again_once_and_listed_so(skeet: Any, installation: Settings, codec: Codec) -> None:
    raw = send(installation, b"\x07 no record")
    write(installation, codec, raw)
    write(installation, codec, raw, role="projection-clickhouse")
    letter, other = listed(skeet)
    refused = skeet("dead-letters", "redrive", letter["id"])  # nobody answers the question
    assert refused.exit_code != 0
    assert sent(installation) == [raw.value]
    again = json.loads(skeet("dead-letters", "redrive", letter["id"], "--yes", "--json").stdout)
    assert again["sent"] is True
    assert sent(installation) == [raw.value, raw.value]
    for each in (letter, other):  # both are about the same record
        repeated = json.loads(skeet("dead-letters", "redrive", each["id"], "--yes", "--json").stdout)
        assert (repeated["sent"], repeated["redriven_at"]) == (False, again["redriven_at"])
    assert sent(installation) == [raw.value, raw.value]
    assert [row["redriven_at"] for row in listed(skeet)] == [again["redriven_at"]] * 2
    events = [record.event for record in records_until_end(installation, codec, [DEAD_LETTERS])]
    assert sum(isinstance(event, DeadLetterRedriven) for event in events) == 1


def test_what_the_letter_cut_off_is_taken_from_its_topic(skeet: Any, installation: Settings, codec: Codec) -> None:
    raw = send(installation, b"\x07" + b"x" * (KEPT_BYTES + 10))
    write(installation, codec, raw)
    (letter,) = listed(skeet)
    assert letter["bytes"] == KEPT_BYTES + 11
    assert skeet("dead-letters", "redrive", letter["id"], "--yes").exit_code == 0
    assert sent(installation) == [raw.value, raw.value]


def test_a_frame_of_a_venue_is_not_sent_again(skeet: Any, installation: Settings, codec: Codec) -> None:
    frame = RawRecord(at=TopicPosition(MARKET_RAW.name, 0, 3), key=b"X", value=b"{", log_ns=5)
    write(installation, codec, frame, role="feed")
    (letter,) = listed(skeet)
    result = skeet("dead-letters", "redrive", letter["id"], "--yes")
    assert result.exit_code == 2
