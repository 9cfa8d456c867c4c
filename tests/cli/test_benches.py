"""Every measurement against a baseline, at a tiny size on a Kafka of its own: one shape, and sides that are compared.

Ratios at this size say nothing; the floors are set to what always holds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from skeet.cli import bench_engine, bench_feed, bench_peers
from skeet.cli.bench_environment import peer_python
from skeet.cli.bench_process import Figures, started
from skeet.core.errors import BugError, InfrastructureError
from skeet.venues.binance.generated import generated
from tests.cli.conftest import Skeet

KEYS = {
    "what", "unit", "baseline", "ours", "ratio", "ratio_range", "goal", "floor", "bounds", "less_is_better", "held",
    "reached",
}  # fmt: skip
ENGINE = ("bench", "engine", "--records", "20000", "--rounds", "1", "--pairs", "0", "--floor", "0.000001", "--json")
FEED = ("bench", "feed", "--frames", "3000", "--rounds", "1", "--floor", "1", "--json")
PEERS = (
    "bench",
    "peers",
    "--records",
    "20000",
    "--peer-records",
    "10000",
    "--rounds",
    "1",
    "--floor",
    "1e-6",
    "--json",
)


def comparisons(output: str) -> list[dict[str, Any]]:
    """What a measurement printed, which has the shape of all."""
    printed = json.loads(output[output.index("{") :])
    assert printed.keys() == {"title", "machine", "notes", "comparisons"}
    found: list[dict[str, Any]] = printed["comparisons"]
    for each in found:
        assert each.keys() == KEYS
        assert each["ours"]["median"] > 0 and each["baseline"]["median"] > 0
        assert each["held"] is True
    return found


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_engine_compares_its_signals_and_prints_its_ratios(skeet: Skeet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_engine, "STOCK_RECORDS", 8_000)
    ended = skeet(*ENGINE)
    assert ended.exit_code == 0, ended.output
    assert [each["what"] for each in comparisons(ended.stdout)] == [what for what, *_ in bench_engine.RATES]
    # A side that adds otherwise: nothing is as close as this.
    monkeypatch.setattr(bench_engine, "TOLERANCE", -1.0)
    assert skeet(*ENGINE).exit_code == 1


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_feed_compares_every_record_and_prints_its_rates(skeet: Skeet, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = skeet(*FEED)
    assert ended.exit_code == 0, ended.output
    assert [each["bounds"] for each in comparisons(ended.stdout)] == ["frames/s", "frames/s"]
    # The venue plays other frames than those that are compared with.
    monkeypatch.setattr(bench_feed, "generated", lambda mix, count: generated(mix, count, seed=2))
    ended = skeet(*FEED)
    assert ended.exit_code == 1
    assert isinstance(ended.exception, BugError) and "expected" in str(ended.exception)


@pytest.fixture
def peers() -> Iterator[None]:
    """The peers' environment, where there is an index to make it from."""
    try:
        peer_python()
    except InfrastructureError as error:
        pytest.skip(f"no environment for the peers: {error}")
    yield


@pytest.mark.integration
@pytest.mark.timeout(1200)
def test_peers_compare_their_averages_and_print_their_ratios(
    peers: None, skeet: Skeet, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds: list[Mapping[str, Figures]] = []
    play = bench_peers._round

    def noted(*arguments: Any) -> Mapping[str, Figures]:
        rounds.append(play(*arguments))
        return rounds[-1]

    monkeypatch.setattr(bench_peers, "_round", noted)
    ended = skeet(*PEERS)
    assert ended.exit_code == 0, ended.output
    found = comparisons(ended.stdout)
    assert [each["baseline"]["name"] for each in found] == ["quix", "bytewax", "confluent-decode", "aiokafka-decode"]
    assert [each["goal"] for each in found] == [25.0, 8.0, None, None]
    # A peer that averages otherwise.
    monkeypatch.setattr(bench_peers, "_round", lambda *_: altered(rounds[-1]))
    ended = skeet(*PEERS)
    assert ended.exit_code == 1
    assert isinstance(ended.exception, BugError) and "average of" in str(ended.exception)


def altered(run: Mapping[str, Figures]) -> dict[str, Figures]:
    """The figures of a round in which bytewax found other averages."""
    averages = {key: average + 1e-3 for key, average in run["bytewax"]["ema"].items()}
    return {**run, "bytewax": {**run["bytewax"], "ema": averages}}


def test_averages_that_differ_or_are_missing_are_no_measurement() -> None:
    run = {side: {"ema": {"a": 1.0, "b": 2.0}} for side in ("batch-ema", "quix", "bytewax")}
    bench_peers.compare(run, 2)
    with pytest.raises(BugError, match="expected 3"):
        bench_peers.compare(run, 3)
    with pytest.raises(BugError, match=r"average of b: batch-ema 2\.0, quix 2\.1"):
        bench_peers.compare(run | {"quix": {"ema": {"a": 1.0, "b": 2.1}}}, 2)
    with pytest.raises(BugError, match="bytewax has averages of 1"):
        bench_peers.compare(run | {"bytewax": {"ema": {"a": 1.0}}}, 2)


def test_a_side_that_fails_is_quoted() -> None:
    with pytest.raises(BugError, match="division by zero"):
        started(("python3", "-c", "1/0")).figures()
    side = started(("python3", "-c", "import sys; sys.exit('no broker')"))
    with pytest.raises(BugError, match=r"before it was ready, and said:\nno broker"):
        side.wait_ready()


def test_an_environment_that_cannot_be_made_says_why(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(InfrastructureError, match=r"peers' environment .* could not be made"):
        peer_python("bytewax==0.21.1 --hash=sha256:" + "0" * 64 + "\n")
    assert not list(tmp_path.glob("skeet/peers/*/complete"))
