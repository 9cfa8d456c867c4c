"""What a schema registry knows, folded from the records of ``_schemas`` (Confluent's layout), and what it may accept.

Pure: no Kafka, no HTTP. A change is first made into a record (``plan_schema``, ``plan_config``); only after that record is
acknowledged is it applied here, so that nothing is answered that a restart would forget.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import avro.schema
from avro.compatibility import ReaderWriterCompatibilityChecker, SchemaCompatibilityType

from skeet.core.errors import InvalidInput

DEFAULT_LEVEL = "FULL_TRANSITIVE"
LEVELS = (
    "NONE",
    "BACKWARD",
    "BACKWARD_TRANSITIVE",
    "FORWARD",
    "FORWARD_TRANSITIVE",
    "FULL",
    "FULL_TRANSITIVE",
)

MAX_DIGITS = 10

Json = dict[str, Any]


class RegistryError(InvalidInput):
    """A refusal in Confluent's terms: HTTP status, error code and message."""

    def __init__(self, status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of one subject."""

    subject: str
    version: int
    schema_id: int
    schema: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogRecord:
    """A record of ``_schemas``: JSON key and value; a value of None deletes."""

    key: str
    value: str | None


@dataclass(slots=True)
class RegistryState:
    """Subjects, versions, global ids and compatibility levels."""

    subjects: dict[str, dict[int, Version]] = field(default_factory=dict)
    schemas: dict[int, str] = field(default_factory=dict)
    ids: dict[str, int] = field(default_factory=dict)
    levels: dict[str | None, str] = field(default_factory=dict)

    def apply(self, record: LogRecord) -> None:
        """Fold one record; later records win, unknown key types change nothing (Confluent writes NOOPs)."""
        key = json.loads(record.key)
        value = json.loads(record.value) if record.value else None
        match key.get("keytype"):
            case "SCHEMA":
                self._apply_schema(key, value)
            case "CONFIG":
                self._apply_config(key, value)
            case "DELETE_SUBJECT" if value is not None:
                kept = self.subjects.get(value["subject"], {})
                self._keep(value["subject"], {number: v for number, v in kept.items() if number > value["version"]})

    def _apply_schema(self, key: Json, value: Json | None) -> None:
        versions = dict(self.subjects.get(key["subject"], {}))
        versions.pop(key["version"], None)
        if value is not None:
            # An id lives on after its subject was deleted: the bytes that name it are still in the log.
            self.schemas[value["id"]] = value["schema"]
            self.ids.setdefault(canonical(value["schema"]), value["id"])
            if not value.get("deleted", False):
                versions[key["version"]] = Version(
                    subject=key["subject"], version=key["version"], schema_id=value["id"], schema=value["schema"]
                )
        self._keep(key["subject"], versions)

    def _apply_config(self, key: Json, value: Json | None) -> None:
        self.levels.pop(key.get("subject"), None)
        if value is not None:
            self.levels[key.get("subject")] = value["compatibilityLevel"]

    def _keep(self, subject: str, versions: dict[int, Version]) -> None:
        self.subjects.pop(subject, None)
        if versions:
            self.subjects[subject] = dict(sorted(versions.items()))

    def level(self, subject: str) -> str:
        """The compatibility level in force for a subject."""
        return self.levels.get(subject) or self.levels.get(None) or DEFAULT_LEVEL

    def versions(self, subject: str) -> dict[int, Version]:
        """Versions of a subject in order; RegistryError 40401 when it is unknown."""
        try:
            return self.subjects[subject]
        except KeyError:
            raise RegistryError(404, 40401, f"Subject '{subject}' not found.") from None

    def version(self, subject: str, number: str) -> Version:
        """One version by number or ``latest``; RegistryError 40401, 40402 or 42202."""
        versions = self.versions(subject)
        if number in {"latest", "-1"}:
            return versions[max(versions)]
        if not is_number(number) or int(number) < 1:
            raise RegistryError(422, 42202, f"The specified version '{number}' is not a valid version id.")
        if int(number) not in versions:
            raise RegistryError(404, 40402, f"Version {number} not found.")
        return versions[int(number)]

    def find(self, subject: str, schema: str) -> Version | None:
        """The version of a subject that holds this very schema."""
        wanted = canonical(schema)
        held = self.subjects.get(subject, {}).values()
        return next((version for version in held if canonical(version.schema) == wanted), None)

    def plan_schema(self, subject: str, schema: str) -> LogRecord:
        """The record that adds a schema to a subject as its next version.

        Raises
        ------
        RegistryError
            422 when it is not Avro, 409 with every reason when the subject's compatibility level forbids it.
        """
        reasons = self.incompatibilities(subject, schema)
        if reasons:
            raise RegistryError(
                409, 409, f"Schema being registered is incompatible with an earlier schema: {'; '.join(reasons)}"
            )
        text = canonical(schema)
        number = max(self.subjects.get(subject, {}), default=0) + 1
        schema_id = self.ids.get(text) or max(self.schemas, default=0) + 1
        key = {"keytype": "SCHEMA", "subject": subject, "version": number, "magic": 1}
        value = {"subject": subject, "version": number, "id": schema_id, "schema": text, "deleted": False}
        return LogRecord(key=compact(key), value=compact(value))

    def plan_config(self, subject: str | None, level: str) -> LogRecord:
        """The record that sets a compatibility level (``subject`` None: the default of all)."""
        if level not in LEVELS:
            raise RegistryError(422, 42203, f"Invalid compatibility level '{level}'. Use one of {', '.join(LEVELS)}.")
        key = {"keytype": "CONFIG", "subject": subject, "magic": 0}
        return LogRecord(key=compact(key), value=compact({"compatibilityLevel": level}))

    def incompatibilities(self, subject: str, schema: str, against: list[Version] | None = None) -> list[str]:
        """Every reason why the subject's level forbids this schema; empty when it is allowed."""
        level = self.level(subject)
        parse(schema)
        if level == "NONE":
            return []
        held = against if against is not None else list(self.subjects.get(subject, {}).values())
        if against is None and not level.endswith("_TRANSITIVE"):
            held = held[-1:]
        return [
            f"version {version.version}: {reason}"
            for version in held
            for reason in reasons_between(old=version.schema, new=schema, level=level)
        ]


def is_number(text: str) -> bool:
    """Whether the text is a version or an id: other digits than ASCII's, or thousands of them, are none."""
    return text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS


def canonical(schema: str) -> str:
    """The schema's JSON without insignificant whitespace: two texts of one schema get one id."""
    try:
        return compact(json.loads(schema))
    except (ValueError, RecursionError) as error:
        raise RegistryError(422, 42201, f"Invalid schema: not JSON: {error}") from error


def compact(value: Any) -> str:
    """JSON as Confluent writes it: no spaces, members in the order given (compaction compares the bytes)."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def parse(schema: str) -> avro.schema.Schema:
    """The schema as Avro's own library understands it; RegistryError 42201 otherwise."""
    text = canonical(schema)
    try:
        return avro.schema.parse(text)
    except Exception as error:  # Avro's library raises whatever the JSON led it to
        raise RegistryError(422, 42201, f"Invalid schema: {type(error).__name__}: {error}") from error


def reasons_between(*, old: str, new: str, level: str) -> list[str]:
    """Why a pair breaks a level. BACKWARD: new readers read old records; FORWARD: old readers read new ones."""
    before, after = parse(old), parse(new)
    reasons: list[str] = []
    if level.startswith(("BACKWARD", "FULL")):
        reasons += [f"new reader, old record: {text}" for text in _cannot_read(reader=after, writer=before)]
    if level.startswith(("FORWARD", "FULL")):
        reasons += [f"old reader, new record: {text}" for text in _cannot_read(reader=before, writer=after)]
    return reasons + list(_logical_differences(json.loads(canonical(old)), json.loads(canonical(new)), "/"))


def _cannot_read(*, reader: avro.schema.Schema, writer: avro.schema.Schema) -> list[str]:
    result = ReaderWriterCompatibilityChecker().get_compatibility(reader, writer)
    if result.compatibility is SchemaCompatibilityType.compatible:
        return []
    kinds = ", ".join(sorted(str(kind).rpartition(".")[2] for kind in result.incompatibilities))
    places = ", ".join(sorted(result.locations))
    return [f"{kinds} at {places}: {', '.join(sorted(result.messages))}"]


def _logical_differences(old: Any, new: Any, path: str) -> Iterator[str]:
    """Changed decimals and times: Avro's checker looks only at the bytes beneath, and would move every amount's point."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return
    meaning = ("logicalType", "precision", "scale")
    was, becomes = [old.get(name) for name in meaning], [new.get(name) for name in meaning]
    if was != becomes:
        yield f"logical type at {path}: {was} became {becomes}"
    for member in ("type", "items", "values"):
        yield from _logical_differences(old.get(member), new.get(member), path)
    fields = {one["name"]: one for one in new.get("fields", ())}
    for one in old.get("fields", ()):
        if one["name"] in fields:
            yield from _logical_differences(one, fields[one["name"]], f"{path}{one['name']}/")
