"""TLS from PEM files, HTTP's basic authentication, and the whole story of a wrapped error."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Mapping
from pathlib import Path

from skeet.core.errors import CredentialError


def basic_auth(user: str, password: str) -> Mapping[str, str]:
    """The header of HTTP's basic authentication; none without a user."""
    if not user:
        return {}
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


def tls_context(ca: Path | None, *, setting: str, verify: bool = True) -> ssl.SSLContext:
    """A client's context that trusts one authority (default: the system's)."""
    present(setting.removesuffix("CA"), {"CA": ca})
    try:
        context = ssl.create_default_context(cafile=ca)
    except ssl.SSLError:
        raise CredentialError(f"{setting} is {ca}: no certificate can be read from it; expected a PEM file") from None
    if not verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def present(prefix: str, files: Mapping[str, Path | None]) -> dict[str, Path]:
    """The files that are set, by the end of their setting's name; CredentialError when one does not exist."""
    given = {name: path for name, path in files.items() if path is not None}
    for name, path in given.items():
        if not path.is_file():
            raise CredentialError(f"{prefix}{name.upper()} is {path}: no such file; expected a PEM file")
    return given


def whole_story(error: BaseException) -> str:
    """The texts of an error and of what caused it."""
    texts, seen = [], set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        texts.append(str(current))
        reason = getattr(current, "reason", None)
        current = reason if isinstance(reason, BaseException) else current.__cause__ or current.__context__
    return " | ".join(texts)
