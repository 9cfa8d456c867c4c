"""Damaged, reordered and repeated frames: each is told by itself, and the feed goes on as if it had not come."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skeet.core.errors import DecodeError, UnknownEvent
from skeet.core.market import GapOpened, Trade
from skeet.core.record import MarketEvent
from skeet.venues.binance.capture import read_capture
from skeet.venues.binance.normaliser import Normaliser
from skeet.venues.binance.sequences import MAX_JUMP

TRADE = '{{"e":"trade","E":1,"s":"BTCUSDT","t":{},"p":"1.00000000","q":"2.00000000","T":1,"m":true,"M":true}}'
SYMBOLS = {"BTCUSDT": "BINANCE:BTC/USDT", "ETHUSDT": "BINANCE:ETH/USDT"}
FRAMES = 600


def events_of(frames: list[bytes]) -> tuple[list[MarketEvent], int]:
    """What the frames give, and how many of them could not be read."""
    normaliser, bad = Normaliser(SYMBOLS, recoverable=False), 0
    found: list[MarketEvent] = []
    for frame in frames:
        try:
            found += normaliser.normalise(frame, 1, "BTCUSDT").events
        except (DecodeError, UnknownEvent):
            bad += 1
    return found, bad


@pytest.fixture(scope="module")
def recorded(shared_data: Path) -> list[bytes]:
    """The beginning of a recorded session."""
    recording = read_capture(shared_data / "books" / "binance_spot_BTCUSDT_20240808.gz")
    frames = [frame.payload for frame in itertools.islice(recording, FRAMES)]
    assert len(frames) >= FRAMES
    return frames[:FRAMES]


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_frames_are_dropped_one_by_one_and_change_nothing_else(
    recorded: list[bytes], data: st.DataObject
) -> None:
    """Cut-off frames between the sound ones: the same events come, in the same order."""
    wanted, unreadable = events_of(recorded)
    frames = list(recorded)
    places = data.draw(st.lists(st.integers(0, len(frames) - 1), max_size=8, unique=True))
    for place in sorted(places, reverse=True):
        victim = frames[place]
        frames.insert(place, victim[: data.draw(st.integers(1, len(victim) - 1))])
    assert events_of(frames) == (wanted, unreadable + len(places))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_repeated_frames_give_nothing_new(recorded: list[bytes], data: st.DataObject) -> None:
    wanted, unreadable = events_of(recorded)
    place, count = data.draw(st.integers(0, FRAMES - 1)), data.draw(st.integers(1, 40))
    frames = [*recorded[: place + count], *recorded[place : place + count], *recorded[place + count :]]
    again = [frame for frame in recorded[place : place + count] if not _readable(frame)]
    assert events_of(frames) == (wanted, unreadable + len(again))


def _readable(frame: bytes) -> bool:
    return events_of([frame])[1] == 0


def test_reordered_trades_are_a_gap_and_never_two_of_one() -> None:
    found, _ = events_of([TRADE.format(number).encode() for number in (1, 3, 2, 4)])
    assert [event.trade_id for event in found if isinstance(event, Trade)] == ["1", "3", "4"]
    (gap,) = [event for event in found if isinstance(event, GapOpened)]
    assert (gap.first_missing, gap.last_missing) == (2, 2)


def test_an_id_far_ahead_is_refused_and_the_feed_goes_on() -> None:
    """Believed, it would make repeats of all that follow: silence without an error."""
    numbers = (7, 7 + MAX_JUMP + 1, 8)
    found, bad = events_of([TRADE.format(number).encode() for number in numbers])
    assert bad == 1
    assert [event.trade_id for event in found if isinstance(event, Trade)] == ["7", "8"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("t", "-1"), ("t", "1e3"), ("t", "9007199254740993"), ("t", '"7"'), ("T", "99999999999999"), ("T", "-1"),
        ("p", '"999999999999999999.00000000"'), ("p", '"NaN"'), ("p", '"-1.00000000"'), ("p", '"' + "9" * 5_000 + '"'),
        ("m", "1"), ("s", "[]"), ("e", "{}"),
    ],
)  # fmt: skip
def test_a_number_that_no_record_holds_is_a_bad_frame(field: str, value: str) -> None:
    import json

    body = TRADE.format(5)
    old = json.dumps(json.loads(body)[field])
    frame = body.replace(f'"{field}":{old}', f'"{field}":{value}', 1)
    assert frame != body
    assert events_of([frame.encode()]) == ([], 1)
