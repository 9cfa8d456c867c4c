"""``python -m skeet.cli.reference > docs/reference.md``: every command, setting and topic, from the code itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from pydantic import ByteSize

from skeet.cli.config import leaves
from skeet.cli.main import COMMANDS, app
from skeet.cli.topics import retention_text
from skeet.config import Settings
from skeet.streams.access import SERVICES, tenant_access
from skeet.streams.topics import TENANT_TOPICS, TOPICS, PartitionedBy
from skeet.wiring import ROLES

INTRODUCTION = """# Reference

Written by `python -m skeet.cli.reference > docs/reference.md` from the code; a test keeps it current.
"""

COUNTS = {
    PartitionedBy.ACCOUNT: "`SKEET_KAFKA__ACCOUNT_PARTITIONS`",
    PartitionedBy.MARKET: "`SKEET_KAFKA__MARKET_PARTITIONS`",
    PartitionedBy.SINGLE: "1",
}
SECRET_NOTE = " (secret)"


def render() -> str:
    """The whole document."""
    return "\n".join([INTRODUCTION, *_commands(), *_settings(), *_topics(), *_access(), *_roles()])


def tree() -> Iterator[tuple[str, Any]]:
    """Every command of the command line with its full name, groups before their members."""
    for entry in COMMANDS:
        yield from _walk(f"skeet {entry.name}", entry.load())


def _walk(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    entries = getattr(command, "entries", ())
    for entry in entries:
        yield from _walk(f"{name} {entry.name}", entry.load())
    for member, child in getattr(command, "commands", {}).items():
        yield from _walk(f"{name} {member}", child)


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    yield f"`skeet` — {_first(str(app.registered_callback.callback.__doc__))}\n" if app.registered_callback else ""
    for name, command in tree():
        yield f"### `{name}`\n"
        yield f"{_paragraphs(command.help)}\n"
        rows = [_parameter(parameter) for parameter in command.params if parameter.name != "help"]
        if rows:
            yield "| argument or option | meaning |\n|---|---|"
            yield from rows
            yield ""


def _parameter(parameter: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name or '').upper()}`"
    return f"| {names} | {_cell(getattr(parameter, 'help', '') or '')} |"


def _settings() -> Iterator[str]:
    yield "## Settings\n"
    yield (
        "Environment variables, or the same names in lower case as files in the secrets directory, or `skeet.toml` "
        "(`[kafka]` and so on). `skeet config show` prints what is in force and where it comes from.\n"
    )
    yield "| setting | default | meaning |\n|---|---|---|"
    for setting in leaves(Settings.model_construct()):
        yield f"| `{setting.variable}` | {_default(setting.path)} | {_cell(setting.description)} |"
    yield ""


def _default(path: tuple[str, ...]) -> str:
    """The default in the code, not the value in force here."""
    model: Any = Settings
    for name in path[:-1]:
        model = model.model_fields[name].annotation
    field = model.model_fields[path[-1]]
    if field.default_factory is not None:
        return "the user's data directory"
    value = field.default
    if hasattr(value, "get_secret_value"):
        return SECRET_NOTE.strip()
    if value in (None, "", ()):
        return ""
    if isinstance(value, ByteSize):
        return f"`{value.human_readable()}`"
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


def _topics() -> Iterator[str]:
    yield "## Topics\n"
    yield "Names carry the prefix `SKEET_KAFKA__TOPIC_PREFIX` (`skeet.`). Kept: how long, and why.\n"
    yield "| topic | key | partitions | writer | kept | in ClickHouse | records |\n|---|---|---|---|---|---|---|"
    for topic in (*TOPICS, *TENANT_TOPICS):
        records = ", ".join(f"`{event.__name__}`" for event in topic.events)
        yield (
            f"| `{topic.name}` | {topic.key or '-'} | {COUNTS[topic.partitioned_by]} | {topic.writer} "
            f"| {retention_text(topic)}: {topic.reason} | {'yes' if topic.history else 'no'} | {records} |"
        )
    yield ""


def _access() -> Iterator[str]:
    yield "## Access\n"
    yield (
        "What a secured Kafka (`skeet up --secure`) allows each principal; it refuses the rest. The operator (`admin`) may do "
        "everything.\n"
    )
    yield "| principal | reads | writes | deletes old records of |\n|---|---|---|---|"
    for line in (*SERVICES, *tenant_access("TENANT")):
        columns = (line.reads, line.writes, line.expires)
        reads, writes, deletes = (", ".join(f"`{topic.name}`" for topic in topics) for topics in columns)
        own = "`_schemas`" if line.schemas else "-"
        yield f"| `{line.principal}` | {reads or own} | {writes or own} | {deletes or '-'} |"
    yield ""


def _roles() -> Iterator[str]:
    yield "## Roles\n"
    yield "`skeet run ROLE` runs one in the foreground.\n"
    yield "| role | what it does | after | consumer group |\n|---|---|---|---|"
    for role in ROLES.values():
        yield f"| `{role.name}` | {role.summary} | {', '.join(role.after) or '-'} | {role.group or '-'} |"


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _first(text: str) -> str:
    return _paragraphs(text).split("\n\n", maxsplit=1)[0].replace("[b]", "`").replace("[/b]", "`")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render() + "\n")
