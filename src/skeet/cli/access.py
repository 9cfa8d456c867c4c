"""``skeet access``: the table of who may read and write what, and a secured broker made to agree with it."""

from __future__ import annotations

import typer

from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, print_rows
from skeet.config import load_settings
from skeet.core.errors import InvalidInput
from skeet.streams.access import SERVICES, Access, tenant_access
from skeet.streams.access_admin import apply_access
from skeet.streams.kafka import admin
from skeet.streams.tenants import tenants

app = typer.Typer(no_args_is_help=True, help="Who may read and write which topic.")


@app.command("list")
def list_access(as_json: Json = False) -> None:
    """The declared table: each principal with its topics, and the tenants that exist. The operator may do everything."""
    settings = load_settings()
    found = sorted(tenants(settings, admin(settings))) if settings.kafka.bootstrap else []
    lines = [*SERVICES, *(line for tenant in found for line in tenant_access(tenant))]
    if as_json:
        print_json([_row(line) for line in lines])
    else:
        print_rows("", [{name: _text(value) for name, value in _row(line).items()} for line in lines], as_json=False)


@app.command()
def apply() -> None:
    """Give a secured broker a credential and the ACLs of every principal. Safe to repeat; takes nothing away."""
    settings = load_settings()
    if not settings.kafka.sasl_username:
        raise InvalidInput(
            "SKEET_KAFKA__SASL_USERNAME is empty: this Kafka asks for no credentials (`skeet up --secure`)"
        )
    apply_access(settings)
    console().print("credentials and access are in place")


def _row(line: Access) -> dict[str, str | list[str]]:
    return {
        "principal": line.principal,
        "reads": [topic.name for topic in line.reads],
        "writes": [topic.name for topic in line.writes],
        "deletes": [topic.name for topic in line.expires],
        "groups": list(line.groups),
        "transactional ids": list(line.transactional_ids),
    }


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "\n".join(value)
