"""Liveness, readiness and metrics of one process, without a broker; and over HTTP."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from skeet import process
from skeet.config import Settings
from skeet.core.errors import BugError, InfrastructureError
from skeet.health import Health
from skeet.local.pulse import is_ready, probe
from skeet.metrics import METRICS, REGISTRY, Kind, Source, counter, declare, document, exposition, gauge
from skeet.probes import address_file, read_address, serve


@pytest.fixture
def ready(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Whether this process has said that it does its work."""
    event = threading.Event()
    monkeypatch.setattr(process, "READY", event)
    monkeypatch.setattr("skeet.health.READY", event)
    return event


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_loop_that_does_not_go_round_within_its_limit_is_named() -> None:
    health = Health()
    loop = health.loop("desk", limit_s=30)
    assert health.live().ok
    loop.beat_s -= 31
    assert "desk" in health.live().reasons
    assert not health.ready().ok
    loop.beat()
    assert health.live().ok


def test_beats_count_for_the_loop_of_the_thread_that_makes_them() -> None:
    health = Health()
    loop = health.loop("mine", limit_s=1)
    loop.beat_s -= 2
    other = threading.Thread(target=health.beat)
    other.start()
    other.join()
    assert not health.live().ok
    health.beat()
    assert health.live().ok


def test_process_is_ready_once_it_said_so_and_nothing_required_is_missing(ready: threading.Event) -> None:
    health = Health()
    assert "start" in health.ready().reasons
    ready.set()
    assert health.ready().ok
    health.require("topics", lambda: "not yet read to the end: a/0")
    assert health.ready().reasons == {"topics": "not yet read to the end: a/0"}
    health.require("topics", lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    assert "ZeroDivisionError" in health.ready().reasons["topics"]
    health.release("topics")
    assert health.ready().ok


def test_endpoints_answer_and_their_address_is_found(tmp_path: Path, ready: threading.Event) -> None:
    settings, health = Settings(data=tmp_path), Health()
    url = serve(settings, "desk", health)
    assert read_address(address_file(settings, "desk")) == url
    loop = health.loop("desk")
    health.work("records", lambda: 7.0)
    assert get(f"{url}/livez")[0] == 200 and probe(url).work == {"records": 7.0}
    assert get(f"{url}/readyz")[0] == 503 and not is_ready(url)
    ready.set()
    assert get(f"{url}/readyz")[0] == 200 and is_ready(url)
    status, text = get(f"{url}/metrics")
    assert status == 200
    assert 'skeet_ready{role="desk"} 1.0' in text and 'skeet_loop_age_seconds{loop="desk"}' in text
    assert "skeet_build_info{" in text and "process_resident_memory_bytes" in text
    loop.beat_s -= 100
    status, body = get(f"{url}/livez")
    assert status == 503 and "desk" in json.loads(body)["reasons"]
    assert "desk did not go round" in probe(url).trouble
    assert get(f"{url}/")[0] == 404


def test_taken_port_is_named_with_its_setting(tmp_path: Path) -> None:
    url = serve(Settings(data=tmp_path), "desk", Health())
    port = int(url.rpartition(":")[2])
    with pytest.raises(InfrastructureError, match=f"SKEET_HEALTH__PORT is {port}"):
        serve(Settings(data=tmp_path, health={"port": port}), "gateway", Health())


def test_process_that_does_not_answer_is_in_trouble() -> None:
    nobody = "http://127.0.0.1:1"
    assert "not answered" in probe(nobody).trouble and not is_ready(nobody)


def test_answer_that_is_cut_off_in_the_middle_is_trouble() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def cut_off() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

        answering = threading.Thread(target=cut_off)
        answering.start()
        assert "not answered" in probe(f"http://127.0.0.1:{server.getsockname()[1]}").trouble
        answering.join()


def test_counter_moves_and_a_declared_one_stands_at_zero() -> None:
    declare("skeet_orders_total", ("denied",))
    assert REGISTRY.get_sample_value("skeet_orders_total", {"outcome": "denied"}) == 0
    counter("skeet_orders_total", "denied").inc()
    assert REGISTRY.get_sample_value("skeet_orders_total", {"outcome": "denied"}) == 1


def test_source_that_fails_hides_nothing_else() -> None:
    def fail() -> dict[tuple[str, ...], float]:
        raise RuntimeError("Consumer closed")

    broken = Source("skeet_process_up", fail).register()
    gauge("skeet_venue_sessions", "ready").set(3)
    assert b'skeet_venue_sessions{state="ready"} 3.0' in exposition()
    assert b"skeet_process_up{" not in exposition()
    broken.unregister()
    broken.unregister()


def test_metric_that_the_table_does_not_hold_is_a_bug() -> None:
    with pytest.raises(BugError, match="no counter"):
        counter("skeet_nothing_total")
    with pytest.raises(BugError, match="no gauge"):
        gauge("skeet_transactions_total", "committed")


def test_names_follow_prometheus_and_the_document_is_current() -> None:
    for spec in METRICS.values():
        assert spec.name.startswith("skeet_")
        assert spec.name.endswith("_total") == (spec.kind is Kind.COUNTER)
    assert (Path(__file__).parents[2] / "docs" / "metrics.md").read_text() == document()
