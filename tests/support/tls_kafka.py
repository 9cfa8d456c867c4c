"""A real broker with TLS listeners beside its plain one, and settings of clients that reach them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from certificates import Authority

from skeet.config import KafkaSettings
from skeet.local import kafka as local_kafka
from skeet.local.kafka import KafkaBroker, KafkaPaths
from skeet.local.ports import free_port

USER, PASSWORD = "desk", "a-password-of-the-desk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """Addresses of one broker: encrypted, asking for a client's certificate, logging in over TLS."""

    ssl: str
    mutual: str
    sasl: str


@contextmanager
def tls_broker(authority: Authority, home: Path) -> Iterator[Listeners]:
    """The broker, running; PEM files as Kafka takes them."""
    ports = {name: free_port() for name in ("SSL", "MUTUAL", "LOGIN")}
    certificate, key = authority.issue("broker")
    keystore = home / "broker.pem"
    keystore.write_bytes(key.read_bytes() + certificate.read_bytes())
    plain = local_kafka.server_properties

    def properties(paths: KafkaPaths) -> str:
        return _with_tls(plain(paths), ports, keystore, authority.ca)

    broker = KafkaBroker(home)
    try:
        with mock.patch.object(local_kafka, "server_properties", properties):
            broker.start()
        ssl, mutual, sasl = (f"127.0.0.1:{ports[name]}" for name in ("SSL", "MUTUAL", "LOGIN"))
        yield Listeners(ssl=ssl, mutual=mutual, sasl=sasl)
    finally:
        broker.stop()


def _with_tls(properties: str, ports: dict[str, int], keystore: Path, ca: Path) -> str:
    lines = dict(line.split("=", 1) for line in properties.splitlines())
    addresses = "".join(f",{name}://127.0.0.1:{port}" for name, port in ports.items())
    lines["listeners"] += addresses
    lines["advertised.listeners"] += addresses
    lines["listener.security.protocol.map"] += ",SSL:SSL,MUTUAL:SSL,LOGIN:SASL_SSL"
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    lines |= {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(keystore),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(ca),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.login.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.login.plain.sasl.jaas.config": f'{login} user_{USER}="{PASSWORD}";',
    }
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def encrypted(bootstrap: str, ca: Path, **more: object) -> KafkaSettings:
    """Settings of a client of an encrypted listener."""
    return KafkaSettings.model_validate(
        {"bootstrap": bootstrap, "security_protocol": "SSL", "ssl_ca": ca, "topic_prefix": "tls.", **more}
    )


def login(bootstrap: str, ca: Path, password: str = PASSWORD) -> KafkaSettings:
    """Settings of a client that logs in over TLS."""
    return encrypted(
        bootstrap, ca, security_protocol="SASL_SSL", sasl_mechanism="PLAIN", sasl_username=USER, sasl_password=password
    )
