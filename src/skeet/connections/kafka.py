"""Kafka: options of confluent-kafka and of aiokafka, and a first word with the brokers."""

from __future__ import annotations

import time
from typing import Any

from skeet.config import KafkaSettings, RegistrySettings
from skeet.connections.tls import present, tls_context
from skeet.core.errors import CredentialError, InvalidInput

ANSWER_S = 3.0
"""A broker that neither lets us in nor refuses us within this time is away, which is for the clients to wait out."""
TRY_S = 0.5

_accepted: set[KafkaSettings] = set()


def kafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """Addresses, TLS and login as librdkafka's settings.

    Raises
    ------
    InvalidInput
        no address; CredentialError: a PEM file is missing, or SASL has no user.
    """
    if not kafka.bootstrap:
        raise InvalidInput("SKEET_KAFKA__BOOTSTRAP is empty: start the platform with `skeet up`, or name your brokers")
    options: dict[str, Any] = {"bootstrap.servers": kafka.bootstrap}
    if kafka.security_protocol == "PLAINTEXT":
        return options
    options["security.protocol"] = kafka.security_protocol
    if kafka.security_protocol.endswith("SSL"):
        files = {"ca": kafka.ssl_ca, "certificate": kafka.ssl_certificate, "key": kafka.ssl_key}
        for name, path in present("SKEET_KAFKA__SSL_", files).items():
            options[f"ssl.{name}.location"] = str(path)
    if kafka.security_protocol.startswith("SASL"):
        options |= {
            "sasl.mechanism": kafka.sasl_mechanism,
            "sasl.username": _sasl_user(kafka),
            "sasl.password": kafka.sasl_password.get_secret_value(),
        }
    return options


def aiokafka_options(kafka: KafkaSettings) -> dict[str, Any]:
    """TLS and login as aiokafka's (and so Faust's) arguments; the addresses are given separately."""
    options: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.endswith("SSL"):
        files = {"CA": kafka.ssl_ca, "CERTIFICATE": kafka.ssl_certificate, "KEY": kafka.ssl_key}
        present("SKEET_KAFKA__SSL_", files)
        context = tls_context(kafka.ssl_ca, setting="SKEET_KAFKA__SSL_CA")
        if kafka.ssl_certificate is not None:
            context.load_cert_chain(kafka.ssl_certificate, kafka.ssl_key)
        options["ssl_context"] = context
    if kafka.security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": kafka.sasl_mechanism,
            "sasl_plain_username": _sasl_user(kafka),
            "sasl_plain_password": kafka.sasl_password.get_secret_value(),
        }
    return options


def require_kafka(kafka: KafkaSettings) -> None:
    """Make sure, once per process, that brokers with TLS or login let us in; without either nothing is asked.

    The clients themselves would retry a refusal for ever, silently. A broker that is away is no refusal.

    Raises
    ------
    CredentialError
        the brokers refuse us, or we their certificate; names the setting.
    """
    if kafka.security_protocol == "PLAINTEXT" or kafka in _accepted:
        return
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    refusals: list[Any] = []
    client: Any = AdminClient(kafka_options(kafka) | {"error_cb": refusals.append, "log_level": 0})
    until = time.monotonic() + ANSWER_S
    while time.monotonic() < until:
        try:
            client.list_topics(timeout=TRY_S)
        except KafkaException:
            client.poll(0)
        else:
            _accepted.add(kafka)
            return
        for refusal in refusals:
            raise_kafka_refusal(refusal)
    # A broker that is just going down looks the same, so this is said only of one that never answered otherwise.
    if any("PLAINTEXT broker listener" in refusal.str() for refusal in refusals):
        raise CredentialError(
            f"no TLS at {kafka.bootstrap}: SKEET_KAFKA__SECURITY_PROTOCOL is {kafka.security_protocol}, the listener plain"
        )


def raise_kafka_refusal(error: Any) -> None:
    """Raise CredentialError when the client's error is one of trust; else return."""
    from confluent_kafka import KafkaError

    text = str(error.str())
    if error.code() == KafkaError._AUTHENTICATION:
        raise CredentialError(
            f"Kafka refuses the login of SKEET_KAFKA__SASL_USERNAME ({text}): check SKEET_KAFKA__SASL_PASSWORD and"
            " SKEET_KAFKA__SASL_MECHANISM"
        )
    # With TLS 1.3 a broker refuses a client's certificate after the handshake: a lost connection with an alert in its text.
    if error.code() != KafkaError._SSL and "alert" not in text:
        return
    if "certificate verify failed" in text:
        raise CredentialError(
            f"Kafka's certificate is not trusted ({text}): SKEET_KAFKA__SSL_CA must name the PEM file of its authority"
        )
    if "alert" in text and "certificate" in text:
        raise CredentialError(
            f"Kafka refuses our certificate ({text}): check SKEET_KAFKA__SSL_CERTIFICATE and SKEET_KAFKA__SSL_KEY"
        )
    raise CredentialError(f"no TLS with Kafka ({text}): check SKEET_KAFKA__SECURITY_PROTOCOL and the port")


def connection_environment(kafka: KafkaSettings, registry: RegistrySettings) -> dict[str, str]:
    """TLS and credentials of Kafka and the registry as environment variables, for a process that inherits nothing."""
    names = ("security_protocol", "ssl_ca", "ssl_certificate", "ssl_key", "sasl_mechanism", "sasl_username")
    found = {f"SKEET_KAFKA__{name.upper()}": getattr(kafka, name) for name in names}
    found |= {f"SKEET_REGISTRY__{name.upper()}": getattr(registry, name) for name in ("user", "ssl_ca")}
    found["SKEET_KAFKA__SASL_PASSWORD"] = kafka.sasl_password.get_secret_value()
    found["SKEET_REGISTRY__PASSWORD"] = registry.password.get_secret_value()
    return {name: str(value) for name, value in found.items() if value}


def _sasl_user(kafka: KafkaSettings) -> str:
    if not kafka.sasl_username:
        raise CredentialError(
            f"SKEET_KAFKA__SASL_USERNAME is empty: {kafka.security_protocol} logs in; name the user, and its password"
        )
    return kafka.sasl_username
