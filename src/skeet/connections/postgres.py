"""PostgreSQL: arguments of ``psycopg.connect``, and its refusals as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from skeet.config import PostgresSettings
from skeet.connections.tls import present
from skeet.core.errors import CredentialError, InvalidInput


def postgres_options(postgres: PostgresSettings) -> dict[str, Any]:
    """Address, TLS and password as arguments of ``psycopg.connect``; what is set here wins over the DSN.

    Raises
    ------
    InvalidInput
        no address; CredentialError: a PEM file is missing.
    """
    dsn = postgres.dsn.get_secret_value()
    if not dsn:
        raise InvalidInput("SKEET_POSTGRES__DSN is empty: start the platform with `skeet up`, or name your PostgreSQL")
    files = {"ca": postgres.ssl_ca, "certificate": postgres.ssl_certificate, "key": postgres.ssl_key}
    names = {"ca": "sslrootcert", "certificate": "sslcert", "key": "sslkey"}
    options = {names[name]: str(path) for name, path in present("SKEET_POSTGRES__SSL_", files).items()}
    if postgres.password.get_secret_value():
        options["password"] = postgres.password.get_secret_value()
    if postgres.ssl_mode:
        options["sslmode"] = postgres.ssl_mode
    return {"conninfo": dsn, **options}


POSTGRES_REFUSALS: Final = (
    ("password authentication failed", "refuses the password: check SKEET_POSTGRES__PASSWORD, or SKEET_POSTGRES__DSN"),
    ("no password supplied", "asks for a password: set SKEET_POSTGRES__PASSWORD"),
    ("certificate verify failed", "has a certificate that is not trusted: SKEET_POSTGRES__SSL_CA must name its authority"),
    ("does not match host name", "has a certificate for another host: check SKEET_POSTGRES__DSN"),
    ("does not support SSL", "has no TLS, which SKEET_POSTGRES__SSL_MODE (or the DSN) asks for"),
    ("no pg_hba.conf entry", "does not let this user in from here so: check SKEET_POSTGRES__SSL_MODE and the server's pg_hba.conf"),
    ("root certificate file", "cannot be checked without an authority: set SKEET_POSTGRES__SSL_CA"),
)  # fmt: skip
"""What libpq says, and what to do about it."""


@contextmanager
def postgres_refusals() -> Iterator[None]:
    """Turns psycopg's errors of trust, while connecting, into CredentialError; others pass."""
    import psycopg

    try:
        yield
    except psycopg.ProgrammingError:
        # libpq quotes the connection string, password included.
        raise CredentialError("SKEET_POSTGRES__DSN is no connection string: expected postgresql://…") from None
    except psycopg.OperationalError as error:
        text = str(error)
        for sign, remedy in POSTGRES_REFUSALS:
            if sign in text:
                raise CredentialError(f"PostgreSQL {remedy} ({' '.join(text.split())[:300]})") from None
        raise
