"""ClickHouse: arguments of its stock client, and its refusals as ours."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from skeet.config import ClickhouseSettings
from skeet.connections.tls import present, whole_story
from skeet.core.errors import CredentialError, InvalidInput

PORTS: Final = {"https": 8443, "http": 8123}
LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def clickhouse_options(clickhouse: ClickhouseSettings) -> dict[str, Any]:
    """Address, TLS and login as arguments of ``clickhouse_connect.get_client``.

    Raises
    ------
    InvalidInput
        no address; CredentialError: the PEM file is missing.
    """
    if not clickhouse.url:
        raise InvalidInput(
            "SKEET_CLICKHOUSE__URL is empty: start the platform with `skeet up`, or name your ClickHouse"
        )
    address = urlsplit(clickhouse.url)
    files = present("SKEET_CLICKHOUSE__SSL_", {"ca": clickhouse.ssl_ca})
    return {
        "interface": address.scheme,
        "host": address.hostname,
        "port": address.port or PORTS.get(address.scheme, 8123),
        "username": clickhouse.user,
        "password": clickhouse.password.get_secret_value(),
        "verify": clickhouse.ssl_verify,
        **({"ca_cert": str(files["ca"])} if files else {}),
    }


def is_near(clickhouse: ClickhouseSettings) -> bool:
    """Whether ClickHouse is on this machine: compressing for it costs more than it saves."""
    return urlsplit(clickhouse.url).hostname in LOOPBACK


def raise_clickhouse_refusal(error: BaseException) -> None:
    """Raise CredentialError when the error of a ClickHouse client is one of trust; else return."""
    text = " ".join(str(error).split())[:300]
    if "certificate verify failed" in whole_story(error):
        raise CredentialError(
            "ClickHouse's certificate is not trusted: SKEET_CLICKHOUSE__SSL_CA must name the PEM file of its authority"
        ) from None
    if "AUTHENTICATION_FAILED" in text or "Authentication failed" in text:
        raise CredentialError(
            "ClickHouse refuses the login: check SKEET_CLICKHOUSE__USER and SKEET_CLICKHOUSE__PASSWORD"
        ) from None
