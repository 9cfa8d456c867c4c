"""The schema registry: settings of Confluent's client and of a plain request, and its refusals as ours."""

from __future__ import annotations

import ssl
from typing import Any
from urllib.request import Request

from skeet.config import RegistrySettings
from skeet.connections.tls import basic_auth, present, tls_context, whole_story
from skeet.core.errors import CredentialError, InvalidInput


def registry_options(registry: RegistrySettings) -> dict[str, Any]:
    """Address, TLS and login as settings of Confluent's registry client.

    Raises
    ------
    InvalidInput
        no address; CredentialError: the PEM file is missing.
    """
    if not registry.url:
        raise InvalidInput("SKEET_REGISTRY__URL is empty: start the platform with `skeet up`, or name your registry")
    options: dict[str, Any] = {"url": registry.url}
    if present("SKEET_REGISTRY__SSL_", {"ca": registry.ssl_ca}):
        options["ssl.ca.location"] = str(registry.ssl_ca)
    if registry.user:
        options["basic.auth.user.info"] = f"{registry.user}:{registry.password.get_secret_value()}"
    return options


def registry_request(registry: RegistrySettings, path: str) -> tuple[Request, ssl.SSLContext | None]:
    """A request for the standard library's ``urlopen``, and the context to open it with."""
    request = Request(
        registry.url.rstrip("/") + path, headers=basic_auth(registry.user, registry.password.get_secret_value())
    )
    encrypted = registry.url.startswith("https:")
    return request, tls_context(registry.ssl_ca, setting="SKEET_REGISTRY__SSL_CA") if encrypted else None


def raise_registry_refusal(error: BaseException, status: int = 0) -> None:
    """Raise CredentialError when the error of a registry client is one of trust; else return."""
    if "certificate verify failed" in whole_story(error).lower():
        raise CredentialError(
            "the registry's certificate is not trusted: SKEET_REGISTRY__SSL_CA must name the PEM file of its authority"
        ) from None
    if status in (401, 403):
        raise CredentialError(
            f"the registry refuses the login (HTTP {status}): check SKEET_REGISTRY__USER and SKEET_REGISTRY__PASSWORD"
        ) from None
