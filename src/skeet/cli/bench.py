"""``skeet bench``: what this machine reaches, each measurement in its own module."""

from __future__ import annotations

import typer

from skeet.cli.lazy import Entry, LazyGroup


class BenchGroup(LazyGroup):
    """The measurements."""

    entries = (
        Entry("sql", "skeet.cli.bench_sql:sql", "The saved example queries on 10 million trades."),
        Entry(
            "engine", "skeet.cli.bench_engine:bench_engine", "Agents on chunks against stock Faust and a bare client."
        ),
        Entry("peers", "skeet.cli.bench_peers:bench_peers", "A stateful EMA against Quix Streams and bytewax."),
        Entry("codec", "skeet.cli.bench_codec:bench_codec", "Avro to columns and back, against fastavro."),
        Entry("windows", "skeet.cli.bench_windows:bench_windows", "Windows on columns, against event by event."),
        Entry("sinks", "skeet.cli.bench_sinks:bench_sinks", "Trades into ClickHouse, account state into Postgres."),
        Entry("feed", "skeet.cli.bench_feed:bench_feed", "Frames a second from a socket into Kafka."),
        Entry("latency", "skeet.cli.bench_latency:bench_latency", "Tick to order at the venue's socket, hop by hop."),
    )


app = typer.Typer(cls=BenchGroup, no_args_is_help=True, rich_markup_mode="rich")


@app.callback()
def bench() -> None:
    """Measure this machine."""
