"""``skeet config show``: every setting, its value, where it came from. Secrets are masked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from pydantic import BaseModel, SecretStr

from skeet.cli.arguments import Json
from skeet.cli.output import MASK, console, print_rows
from skeet.config import Settings, load_settings

app = typer.Typer(no_args_is_help=True, help="The settings in force.")

_PASSWORD_IN_URL = re.compile(r"(?<=://)([^:/@\s]*):[^@/\s]+@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One leaf: dotted path, environment variable, value as shown, description."""

    path: tuple[str, ...]
    value: Any
    description: str

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "SKEET_" + "__".join(self.path).upper()


@app.callback()
def group() -> None:
    """The settings in force."""


@app.command()
def show(as_json: Json = False) -> None:
    """Every setting with its value and its source. Secrets are shown as set or empty, never as they are."""
    settings = load_settings()
    origin = Origins(settings)
    rows = [
        {"setting": s.variable, "value": shown(s.value), "from": origin.of(s.path), "meaning": s.description}
        for s in leaves(settings)
    ]
    if not as_json:
        rows = [{name: row[name] for name in ("setting", "value", "from")} for row in rows]
    print_rows("", rows, as_json=as_json)
    if not as_json:
        console().print("meaning of each: docs/reference.md, or --json", style="dim")


def leaves(model: BaseModel, path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting below the model, in the order of its classes."""
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from leaves(value, (*path, name))
        else:
            yield Setting(path=(*path, name), value=value, description=field.description or "")


def shown(value: Any) -> str:
    """The value as text; a secret only says whether it is set, and a password inside an address is masked."""
    match value:
        case SecretStr():
            return MASK if value.get_secret_value() else ""
        case tuple() | list():
            return ",".join(str(item) for item in value)
        case None:
            return ""
        case _:
            return _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", str(value))


class Origins:
    """Which source gave each setting, asked in the order in which they win."""

    def __init__(self, settings: Settings) -> None:
        data = settings.data
        self._files = [
            ("config file", Path(os.environ.get("SKEET_CONFIG") or data / "skeet.toml")),
            ("endpoints.toml", data / "endpoints.toml"),
        ]
        self._secrets = Path(os.environ.get("SKEET_SECRETS_DIR") or data / "secrets")
        self._tables = [(name, _toml(path)) for name, path in self._files]

    def of(self, path: tuple[str, ...]) -> str:
        """``environment``, ``config file``, ``secret file``, ``endpoints.toml`` or ``default``."""
        variable = "SKEET_" + "__".join(path).upper()
        if variable in os.environ:
            return "environment"
        (file_name, file_table), (endpoints_name, endpoints) = self._tables
        if _holds(file_table, path):
            return file_name
        if (self._secrets / variable.lower()).is_file():
            return "secret file"
        return endpoints_name if _holds(endpoints, path) else "default"


def _toml(path: Path) -> dict[str, Any]:
    import tomllib

    return tomllib.loads(path.read_text()) if path.is_file() else {}


def _holds(table: Any, path: tuple[str, ...]) -> bool:
    for name in path:
        if not isinstance(table, dict) or name not in table:
            return False
        table = table[name]
    return True
