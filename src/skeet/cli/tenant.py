"""``skeet tenant``: create, list."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from skeet.cli import arguments
from skeet.cli.arguments import Json
from skeet.cli.output import console, print_json, print_rows
from skeet.config import Settings, load_settings
from skeet.core.outside import principal_of
from skeet.streams.access import tenant_access
from skeet.streams.access_admin import grant, password_file
from skeet.streams.kafka import admin
from skeet.streams.registry import register_tenant
from skeet.streams.tenants import create_topics, tenants
from skeet.streams.topics import TENANT_COMMANDS, TENANT_EVENTS, of_tenant, topic_name

app = typer.Typer(no_args_is_help=True, help="Users with processes of their own on Kafka.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and -; the tenant's id for ever.")],
    as_json: Json = False,
) -> None:
    """A tenant's two topics, their schemas and, on a secured broker, its credential and access. Safe to repeat."""
    settings = load_settings()
    tenant = arguments.tenant_id(name)
    client = admin(settings)
    register_tenant(settings, tenant)
    if settings.kafka.sasl_username:
        grant(settings, client, tenant_access(tenant))
    create_topics(settings, client, tenant)  # last: they make the tenant exist
    row = _described(settings, tenant)
    if as_json:
        print_json(row)
        return
    console().print(f"tenant {tenant}: write to {row['commands']}, read from {row['events']}", highlight=False)
    if row["password_file"]:
        console().print(f"principal {row['principal']}, its password is in {row['password_file']}", highlight=False)
    console().print(f"next: skeet account create NAME --tenant {tenant}; docs/outsiders.md", highlight=False)


@app.command("list")
def list_tenants(as_json: Json = False) -> None:
    """Every tenant that has topics of its own."""
    settings = load_settings()
    rows = [_described(settings, tenant) for tenant in sorted(tenants(settings, admin(settings)))]
    print_rows("", rows, as_json=as_json, empty="no tenants yet: `skeet tenant create NAME`")


def _described(settings: Settings, tenant: str) -> dict[str, Any]:
    secured = bool(settings.kafka.sasl_username)
    return {
        "tenant": tenant,
        "commands": topic_name(of_tenant(TENANT_COMMANDS, tenant), settings.kafka),
        "events": topic_name(of_tenant(TENANT_EVENTS, tenant), settings.kafka),
        "principal": principal_of(tenant),
        "password_file": str(password_file(settings, principal_of(tenant))) if secured else "",
    }
