"""``skeet account``: create, deposit, show, list."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from skeet.cli import arguments
from skeet.cli.arguments import Json
from skeet.cli.desk import Desk, command_meta, fresh_key, validity
from skeet.cli.exchange_admin import VENUE, ExchangeAdmin, save_venue_keys
from skeet.cli.output import console, plain, print_json, print_rows, table, time_text
from skeet.config import Settings, load_settings
from skeet.core.accounts import CommandDenied
from skeet.core.commands import Deposit, OpenAccount
from skeet.core.errors import InvalidInput
from skeet.core.record import Record
from skeet.streams.kafka import admin
from skeet.streams.tenants import tenants

app = typer.Typer(no_args_is_help=True, help="Create accounts, deposit, show.")

Account = Annotated[str, typer.Argument(help="Account name.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose account it is; SKEET_TENANT when not given.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="a-z, 0-9 and -; the account's id for ever.")],
    venue: Annotated[str, typer.Option("--venue", help="Venue it trades at; only sim as yet.")] = VENUE,
    label: Annotated[str, typer.Option("--label", help="Name shown to people; no personal data.")] = "",
    tenant: Tenant = "",
    as_json: Json = False,
) -> None:
    """Open an account: a key pair at the venue, stored for the gateway, and the account in the log."""
    if venue != VENUE:
        raise InvalidInput(f"--venue is {venue!r}; expected {VENUE} (other venues' keys cannot be added yet)")
    settings = _acting_for(tenant)
    account = arguments.account_id(name)
    save_venue_keys(settings, account, *ExchangeAdmin(settings).key_pair(account))
    now_ns = time.time_ns()
    command = OpenAccount(venue=venue, label=label or account, **validity(now_ns))
    with Desk(settings) as desk:
        record = desk.ask(command, command_meta(settings, account, fresh_key(), now_ns))
    _report(record, f"account {account} is open at {venue}", as_json=as_json)


@app.command()
def deposit(
    account: Account,
    asset: Annotated[str, typer.Argument(help="Such as USDT.")],
    amount: Annotated[str, typer.Argument(help="A plain decimal.")],
    key: Annotated[str, typer.Option("--key", help="Client key of an earlier call: pays once, however often.")] = "",
    tenant: Tenant = "",
    as_json: Json = False,
) -> None:
    """Pay in at the simulated exchange, then book it here under the exchange's transfer id."""
    settings = _acting_for(tenant)
    owner, value, code = arguments.account_id(account), arguments.amount("AMOUNT", amount), arguments.asset(asset)
    client_key, now_ns = key or fresh_key(), time.time_ns()
    # The venue first: if we die in between, repeating with the key books what is there, and nothing twice.
    transfer_id = ExchangeAdmin(settings).transfer(owner, code, value, client_key)
    command = Deposit(asset=code, amount=value, external_ref=f"{VENUE}:{transfer_id}", **validity(now_ns))
    with Desk(settings) as desk:
        record = desk.ask(command, command_meta(settings, owner, client_key, now_ns))
    _report(record, f"{amount} {asset} on {owner}, transfer {transfer_id}, key {client_key}", as_json=as_json)


@app.command("list")
def list_accounts(as_json: Json = False) -> None:
    """Every account, with its last event."""
    from skeet.projections import queries

    rows = queries.accounts(load_settings())
    for row in rows:
        row["last_event"] = time_text(row.pop("last_event_at") or 0)
    print_rows("", rows, as_json=as_json, empty="no accounts yet: `skeet account create NAME`")


@app.command()
def show(account: Account, as_json: Json = False) -> None:
    """Balances, positions and open orders of an account, as Postgres holds them."""
    from skeet.projections import queries

    settings = load_settings()
    name = arguments.account_id(account)
    if not any(row["account_id"] == name for row in queries.accounts(settings)):
        raise InvalidInput(f"account is {name!r}, which Postgres does not know; `skeet account list` shows all")
    parts = {
        "balances": queries.balances(settings, name),
        "positions": queries.positions(settings, name),
        "open_orders": queries.orders(settings, account_id=name, only_open=True),
    }
    if as_json:
        print_json({"account_id": name} | parts)
        return
    for title, rows in parts.items():
        columns = list(rows[0]) if rows else []
        heading = f"{title.replace('_', ' ')} of {name}"
        console().print(
            table(heading, columns, ([row[c] for c in columns] for row in rows)) if rows else f"{heading}: none"
        )


def _acting_for(tenant: str) -> Settings:
    """The settings, acting for another tenant where one is named; it must have topics for its processes."""
    settings = load_settings()
    if not tenant or tenant == settings.tenant:
        return settings
    if arguments.tenant_id(tenant) not in tenants(settings, admin(settings)):
        raise InvalidInput(f"--tenant is {tenant!r}, which does not exist: `skeet tenant create {tenant}` makes it")
    return settings.model_copy(update={"tenant": tenant})


def _report(record: Record[Any], done: str, *, as_json: bool) -> None:
    event = record.event
    if as_json:
        print_json({"type": type(event).__name__, "at": str(record.at), "event": plain(event)})
    elif not isinstance(event, CommandDenied):
        console().print(done, highlight=False)
    if isinstance(event, CommandDenied):
        for breach in event.breaches:
            typer.echo(
                f"denied by {breach.control}: {breach.detail} (observed {breach.observed}, allowed {breach.allowed})",
                err=True,
            )
        raise typer.Exit(1)
