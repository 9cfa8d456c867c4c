"""``skeet bench feed``: what a venue's socket brings, into Kafka: bursts as fast as the socket takes them, nothing lost.

A local venue plays generated frames to the live feed's own path and to a plain loop in turn, each in a process of its own, on
a Kafka that this command starts; afterwards every record of both is read back and compared.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from confluent_kafka.admin import AdminClient, NewTopic

from skeet.agents.feed import WRITTEN_TOPICS
from skeet.cli.bench_feed_compare import compare, expected_events
from skeet.cli.bench_kafka import broker
from skeet.cli.bench_process import Figures, started
from skeet.cli.bench_ratio import Comparison, Floor, Json, Rounds, report
from skeet.config import KafkaSettings, Settings
from skeet.local.ports import free_port
from skeet.local.server import ChildServer
from skeet.streams.topics import partition_count, topic_name
from skeet.venues.binance.generated import SYMBOLS, generated

WARM = 2_000
"""Frames before the burst: books in step, kernels loaded, connections made."""
MIXES = (
    # mix, what, goal, floor (frames a second)
    ("trades", "trades", 60_000.0, 30_000.0),
    ("mix", "the recorded mix", 20_000.0, 10_000.0),
)
SIDES = ("plain", "feed")


def bench_feed(
    frames: Annotated[int, typer.Option(min=1_000, help="Frames in a burst.")] = 200_000,
    rounds: Rounds = 5,
    floor: Floor = None,
    as_json: Json = False,
) -> None:
    """Frames a second from a socket into Kafka, raw frames and events together, against a plain aiohttp and aiokafka loop.

    Each burst comes without a pause; all its records are compared with what the frames say. --floor is in frames a second;
    without it 30,000 for trades, 10,000 for the recorded mix. Exit 1 below it, or when a record is missing, doubled or wrong.
    """
    found, notes = [], []
    with broker() as bootstrap:
        for mix, what, goal, own_floor in MIXES:
            runs = _runs(bootstrap, mix, frames, rounds)
            found.append(_comparison(what, runs, goal, own_floor if floor is None else floor))
            notes.append(f"{what}: processor time, µs a frame: {_processor_times(runs)}")
    notes.append(
        f"bursts of {frames:,} frames of {len(SYMBOLS)} instruments; compared: every record of both sides in every round"
    )
    report("Feed", found, notes=tuple(notes), as_json=as_json)


def _runs(bootstrap: str, mix: str, frames: int, rounds: int) -> list[dict[str, Figures]]:
    session = generated(mix, WARM + frames)
    expected = expected_events(session)
    runs = []
    for number in range(rounds + 1):
        run = {}
        for side in SIDES if number % 2 else reversed(SIDES):
            settings = settings_of(bootstrap, f"{mix}.{number}.{side}.")
            create_topics(settings)
            run[side] = play(settings, side, mix, frames)
            compare(settings, session, expected, books=side == "feed")
        runs.append(run)
    return runs[1:]


def settings_of(bootstrap: str, prefix: str) -> Settings:
    """Settings of an installation that is nothing but topics."""
    return Settings(kafka=KafkaSettings(bootstrap=bootstrap, topic_prefix=prefix, market_partitions=4))


def create_topics(settings: Settings) -> None:
    """The topics that a feed writes."""
    topics = [
        NewTopic(topic_name(topic, settings.kafka), partition_count(topic, settings.kafka), 1)
        for topic in WRITTEN_TOPICS
    ]
    client = AdminClient({"bootstrap.servers": settings.kafka.bootstrap})
    for made in client.create_topics(topics).values():
        made.result(30)


def play(settings: Settings, side: str, mix: str, frames: int) -> Figures:
    """What a side needed for a burst."""
    port = free_port()
    options = ("--mix", mix, "--frames", str(WARM + frames), "--warm", str(WARM), "--port", str(port))
    with tempfile.TemporaryDirectory(prefix="skeet-bench-") as home:
        server = ChildServer("skeet.venues.binance.play", [*options], Path(home))
        server.start()
        try:
            return started(_words(side, port, frames), environment=_environment(settings)).figures()
        finally:
            server.stop()


def _words(side: str, port: int, frames: int) -> Sequence[str]:
    return (sys.executable, "-m", "skeet.cli.bench_feed_sides", side, str(port), str(WARM), str(frames))


def _environment(settings: Settings) -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("SKEET_")},
        "SKEET_KAFKA__BOOTSTRAP": settings.kafka.bootstrap,
        "SKEET_KAFKA__TOPIC_PREFIX": settings.kafka.topic_prefix,
    }


def _comparison(what: str, runs: list[dict[str, Figures]], goal: float, floor: float) -> Comparison:
    rates = {side: tuple(run[side]["records"] / run[side]["seconds"] for run in runs) for side in SIDES}
    return Comparison(
        what=what,
        unit="frames/s",
        baseline_name="plain",
        our_name="feed",
        baseline=rates["plain"],
        ours=rates["feed"],
        goal=goal,
        floor=floor,
        absolute=True,
    )


def _processor_times(runs: list[dict[str, Figures]]) -> str:
    times = {side: median(1e6 * run[side]["cpu_seconds"] / run[side]["records"] for run in runs) for side in SIDES}
    return ", ".join(f"{side} {time:.1f}" for side, time in times.items())
