"""Numbered SQL files of a store, split into statements and checked against what was applied before.

A file never changes once it is released: its checksum is stored when it is applied, and a start refuses a file that says
something else now. Statements end with a semicolon at the end of a line.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files

from skeet.core.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Migration:
    """One numbered file: ``0001_accounts.sql`` is version 1. ``checksum`` is the SHA-256 of its text."""

    version: int
    name: str
    checksum: str
    statements: tuple[str, ...]


def migrations_of(store: str) -> tuple[Migration, ...]:
    """The store's numbered files (``postgres`` or ``clickhouse``), in order."""
    folder = files("skeet.projections") / "migrations" / store
    names = sorted(entry.name for entry in folder.iterdir() if entry.name[:4].isdigit() and entry.name.endswith(".sql"))
    return tuple(_migration(name, (folder / name).read_text()) for name in names)


def statements_of(store: str, name: str) -> tuple[str, ...]:
    """Statements of one file that is not numbered (views, which are replaced at every start)."""
    return split_statements((files("skeet.projections") / "migrations" / store / name).read_text())


def pending(all_of_them: tuple[Migration, ...], applied: dict[int, str]) -> tuple[Migration, ...]:
    """Those still to apply. ``applied`` maps versions to the checksums stored with them.

    Raises
    ------
    InvalidInput
        a file changed after it was applied, or the store is newer than this version of SKEET.
    """
    for migration in all_of_them:
        stored = applied.get(migration.version)
        if stored is not None and stored != migration.checksum:
            raise InvalidInput(f"migration {migration.name} changed after it was applied; add a new file instead")
    unknown = sorted(set(applied) - {migration.version for migration in all_of_them})
    if unknown:
        raise InvalidInput(
            f"the store has migrations {unknown} that this version of SKEET does not know; "
            "install the newer version, or `skeet projection rebuild NAME --in-place`"
        )
    return tuple(migration for migration in all_of_them if migration.version not in applied)


def split_statements(text: str) -> tuple[str, ...]:
    """Statements of a file, without comment lines; each ends with a semicolon at the end of a line."""
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("--"))
    statements = "\n".join(lines).split(";\n")
    return tuple(stripped for statement in statements if (stripped := statement.strip().removesuffix(";").strip()))


def _migration(name: str, text: str) -> Migration:
    return Migration(
        version=int(name[:4]),
        name=name,
        checksum=sha256(text.encode()).hexdigest(),
        statements=split_statements(text),
    )
