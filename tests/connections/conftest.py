"""Certificates and servers with TLS, once per session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from certificates import Authority
from tls_kafka import Listeners, tls_broker


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who issued every server's certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority, which issued none of them."""
    return Authority(tmp_path_factory.mktemp("stranger"), "somebody else")


@pytest.fixture(scope="session")
def tls_kafka(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """A real broker with three TLS listeners beside its plain one."""
    with tls_broker(authority, tmp_path_factory.mktemp("tls-kafka")) as listeners:
        yield listeners
