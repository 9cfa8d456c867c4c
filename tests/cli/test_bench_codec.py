"""``skeet bench codec`` compares both sides' results before their speed, and ends with 1 below its floor."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from skeet.cli import bench_codec
from skeet.cli.main import app
from skeet.core.errors import BugError
from skeet.core.market import Trade
from skeet.schemas.codec import numbered_codec
from skeet.schemas.columns.decoding import ColumnDecoder
from skeet.schemas.columns.encoding import ColumnEncoder

RUN = ["bench", "codec", "--records", "300", "--rounds", "1", "--json"]


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_codec, "BATCH", 300)


def test_both_ratios_are_printed_and_held_against_the_floor() -> None:
    ended = CliRunner().invoke(app, [*RUN, "--floor", "0.01"])
    assert ended.exit_code == 0, ended.output
    printed = json.loads(ended.stdout)
    assert [each["what"] for each in printed["comparisons"]] == ["decode", "encode"]
    assert all(each["ratio"] > 1 for each in printed["comparisons"])


def test_a_ratio_below_the_floor_ends_with_1() -> None:
    assert CliRunner().invoke(app, [*RUN, "--floor", "1e9"]).exit_code == 1


def test_results_that_differ_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    read = bench_codec._read
    monkeypatch.setattr(
        bench_codec, "_read", lambda bodies, schema: [{**each, "ts_init": 1} for each in read(bodies, schema)]
    )
    with pytest.raises(BugError, match="trade 0"):
        bench_codec.measured(records=300, rounds=1)


def test_records_that_are_written_otherwise_are_no_measurement() -> None:
    codec = numbered_codec((Trade,))
    batch = bench_codec._batch(map(codec.encode, bench_codec._trades(9, 0)))
    other = bench_codec._batch(map(codec.encode, bench_codec._trades(9, 1)))
    columns = ColumnDecoder(codec, Trade).decode(batch.buffer, batch.starts, batch.lengths)
    values = [columns.values(row) for row in range(9)]
    with pytest.raises(BugError, match="not written as fastavro"):
        bench_codec._compare([other], [columns], values, ColumnEncoder(codec, Trade))
