"""Ports of an installation: chosen where nobody else is given any, free, remembered; a book without room says so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from skeet.core.errors import PortTaken
from skeet.local import ports
from skeet.local.ports import LOOPBACK, PortBook, free_port

GIVEN_TO_CONNECTIONS = Path("/proc/sys/net/ipv4/ip_local_port_range")


@pytest.mark.skipif(not GIVEN_TO_CONNECTIONS.exists(), reason="only Linux says which ports it gives to connections")
def test_a_port_that_is_bound_later_is_none_that_the_system_gives_to_connections() -> None:
    first, last = map(int, GIVEN_TO_CONNECTIONS.read_text().split())

    assert not [port for port in (free_port() for _ in range(200)) if first <= port <= last]


def test_a_port_in_use_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as used:
        used.bind((LOOPBACK, free_port()))
        used.listen()
        busy, free = used.getsockname()[1], free_port()
        answers = iter([busy, busy, free])
        monkeypatch.setattr("skeet.local.ports.secrets.choice", lambda _: next(answers))

        assert free_port() == free


def test_no_port_left_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda _: False)

    with pytest.raises(PortTaken, match="--port-base"):
        free_port()


def test_a_name_keeps_its_port(tmp_path: Path) -> None:
    chosen = PortBook(tmp_path / "ports.json").get("kafka")

    assert PortBook(tmp_path / "ports.json").get("kafka") == chosen
