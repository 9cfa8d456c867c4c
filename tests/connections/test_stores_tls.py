"""Postgres, ClickHouse and the registry over TLS with real servers: the right files work, wrong ones name their setting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from certificates import Authority
from tls_terminator import TlsTerminator

from skeet.cli.sql import sql
from skeet.config import Settings, load_settings
from skeet.connections.registry import registry_request
from skeet.core.errors import CredentialError
from skeet.local import postgres as local_postgres
from skeet.local.kafka import KafkaBroker
from skeet.local.ports import free_port
from skeet.local.postgres import PostgresServer
from skeet.local.server import ChildServer
from skeet.projections.clickhouse_store import HistoryStore
from skeet.projections.postgres_store import AccountStore
from skeet.projections.queries import accounts
from skeet.streams import topics_admin
from skeet.streams.registry import registered_codec
from skeet.verify.avro import Decoder
from skeet.verify.history import History
from skeet.verify.log import Log
from skeet.verify.read_tables import ReadTables

pytestmark = pytest.mark.integration

SECRET = "a-password-of-the-registry"


@pytest.fixture(scope="module")
def tls_postgres(authority: Authority) -> Iterator[dict[str, Any]]:
    """A real server that speaks TLS only; its settings, with the password apart from the DSN."""
    with tempfile.TemporaryDirectory(prefix="skeet-postgres-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o711)
        certificate, key = authority.issue("postgres")
        server = PostgresServer(Path(folder) / "cluster")
        for path in (certificate, key):
            shutil.copy(path, folder)
        user = local_postgres.program().user
        with pytest.MonkeyPatch.context() as patch:
            if user is not None:
                shutil.chown(Path(folder) / key.name, user.uid, user.gid)
            files = {"ssl_cert_file": f"{folder}/{certificate.name}", "ssl_key_file": f"{folder}/{key.name}"}
            patch.setattr(local_postgres, "SETTINGS", {**local_postgres.SETTINGS, "ssl": "on", **files})
            dsn = server.start()
        try:
            password = server.cluster.password
            yield {"dsn": dsn.replace(f":{password}@", "@"), "password": password}
        finally:
            server.stop()


@pytest.fixture(scope="module")
def tls_clickhouse(clickhouse: tuple[str, str], authority: Authority) -> Iterator[dict[str, Any]]:
    """The engine behind TLS."""
    url, token = clickhouse
    terminator = TlsTerminator(int(url.rpartition(":")[2]), *authority.issue("clickhouse"))
    try:
        yield {"url": terminator.start(), "password": token, "database": "tls"}
    finally:
        terminator.stop()


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker of its own: a registry fences the one before it, and that of the session is needed by others."""
    broker = KafkaBroker(tmp_path_factory.mktemp("registry-kafka"))
    try:
        yield broker.start()
    finally:
        broker.stop()


@pytest.fixture(scope="module")
def tls_registry(
    own_kafka: str, authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """Our registry with TLS and a password, on an address of its own."""
    certificate, key = authority.issue("registry")
    port, home = free_port(), tmp_path_factory.mktemp("registry")
    environment = {
        "SKEET_DATA": str(home),
        "SKEET_KAFKA__BOOTSTRAP": own_kafka,
        "SKEET_REGISTRY__LISTEN": f"127.0.0.1:{port}",
        "SKEET_REGISTRY__USER": "desk",
        "SKEET_REGISTRY__PASSWORD": SECRET,
        "SKEET_REGISTRY__TLS_CERTIFICATE": str(certificate),
        "SKEET_REGISTRY__TLS_KEY": str(key),
    }
    server = ChildServer("skeet", ["run", "registry"], home, environment)
    try:
        server.start()
        yield {"url": f"https://127.0.0.1:{port}", "user": "desk", "password": SECRET}
    finally:
        server.stop()


@pytest.fixture
def settings_with(
    fresh_settings: Callable[[], Settings],
    tls_postgres: dict[str, Any],
    tls_clickhouse: dict[str, Any],
    tls_registry: dict[str, Any],
    authority: Authority,
) -> Callable[..., Settings]:
    """Settings of a client of all three; each argument adds to or replaces what one section says."""
    kafka = fresh_settings().kafka.model_dump()

    def make(**more: dict[str, Any]) -> Settings:
        sections = {"postgres": tls_postgres, "clickhouse": tls_clickhouse, "registry": tls_registry}
        modes = {"postgres": {"ssl_mode": "verify-full"}}
        given = {
            name: {**section, **modes.get(name, {}), "ssl_ca": authority.ca, **more.get(name, {})}
            for name, section in sections.items()
        }
        return load_settings(kafka=kafka, **given)

    return make


def test_every_client_works_over_tls(
    settings_with: Callable[..., Settings], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_with()
    topics_admin.apply(settings)
    AccountStore(settings).migrate()
    HistoryStore(settings).migrate()
    assert accounts(settings) == []
    assert registered_codec(settings) is not None
    # verify's own clients
    History(settings, Log(settings))
    ReadTables(settings)
    with pytest.raises(ValueError, match="schema id 99999"):
        Decoder(settings.registry).decode(b"\0\0\1\x86\x9f")
    monkeypatch.setattr("skeet.cli.sql.load_settings", lambda: settings)
    sql("SELECT 6 * 7 AS answer", as_json=True)
    assert "42" in capsys.readouterr().out


USES: dict[str, tuple[Callable[[Settings], object], ...]] = {
    "postgres": (AccountStore, accounts, ReadTables),
    "clickhouse": (HistoryStore, lambda settings: History(settings, Log(settings))),
    "registry": (
        topics_admin.apply,
        registered_codec,
        lambda settings: Decoder(settings.registry).decode(b"\0\0\0\0\1"),
    ),
}


def said(settings: Settings, section: str) -> str:
    """What every client of the section says; all must name the same."""
    texts = []
    for use in USES[section]:
        with pytest.raises(CredentialError) as refused:
            use(settings)
        assert refused.value.__cause__ is None
        texts.append(str(refused.value))
    assert len(set(texts)) == 1, texts
    return texts[0]


@pytest.mark.parametrize("section", USES)
def test_a_wrong_authority_is_named(section: str, settings_with: Callable[..., Settings], stranger: Authority) -> None:
    settings = settings_with(**{section: {"ssl_ca": stranger.ca}})
    assert f"SKEET_{section.upper()}__SSL_CA" in said(settings, section)


@pytest.mark.parametrize("section", USES)
def test_a_wrong_password_is_named_and_not_shown(section: str, settings_with: Callable[..., Settings]) -> None:
    settings = settings_with(**{section: {"password": "not-the-password"}})
    text = said(settings, section)
    assert f"SKEET_{section.upper()}__PASSWORD" in text
    assert "not-the-password" not in text


def test_a_wrong_password_in_skeet_sql(
    settings_with: Callable[..., Settings], stranger: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    for change, setting in (({"password": "x"}, "PASSWORD"), ({"ssl_ca": stranger.ca}, "SSL_CA")):
        settings = settings_with(clickhouse=change)
        monkeypatch.setattr("skeet.cli.sql.load_settings", lambda chosen=settings: chosen)
        with pytest.raises(CredentialError, match=f"SKEET_CLICKHOUSE__{setting}"):
            sql("SELECT 1")


def test_a_registry_answers_nobody_without_the_password(settings_with: Callable[..., Settings]) -> None:
    settings = settings_with(registry={"user": ""})
    request, context = registry_request(settings.registry, "/subjects")
    with pytest.raises(OSError, match="401"):
        urlopen(request, timeout=10, context=context)
