"""ClickHouse's HTTP protocol as pure functions: what a request asks for, and how an error is told.

Source: https://clickhouse.com/docs/interfaces/http and what clickhouse-connect 1.12 sends.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import cramjam

from skeet.core.errors import InvalidInput

NOT_SETTINGS = frozenset(
    {
        "query",
        "database",
        "query_id",
        "session_id",
        "session_timeout",
        "session_check",
        "user",
        "password",
        "default_format",
        "compress",
        "decompress",
        "wait_end_of_query",
        "buffer_size",
        "client_protocol_version",
        "quota_key",
        "role",
        "stacktrace",
    }
)
"""URL parameters that steer the transport; every other one is an engine setting or a ``param_`` value."""

STATUS_OF_CODE = {
    **dict.fromkeys((6, 26, 27, 36, 38, 41, 53, 62, 72, 117, 386, 636), 400),  # syntax, parsing, types, arguments
    194: 401,  # REQUIRED_PASSWORD
    **dict.fromkeys((164, 192, 193, 291, 497, 516), 403),  # read-only, access denied, authentication
    **dict.fromkeys((8, 16, 46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 336), 404),  # UNKNOWN_*
    159: 408,  # TIMEOUT_EXCEEDED
    202: 429,  # TOO_MANY_SIMULTANEOUS_QUERIES
    48: 501,  # NOT_IMPLEMENTED
}
"""HTTP status per ClickHouse error code, as its server answers; the rest is 500."""

MAX_BODY_BYTES = 256 * 1024 * 1024
"""Of a request without its encoding. An insert of ours has 16 MB; a few bytes can claim to be any number."""
INFLATES_TO = 8
"""Bodies mostly inflate to less than this; where not, more room is tried."""

NOT_IMPLEMENTED = 48
AUTHENTICATION_FAILED = 516
UNKNOWN_COMPRESSION = 89

# Formats whose answer to no rows is no bytes: only of these may an empty stream be answered as it is.
HEADLESS_FORMATS = frozenset({"Native", "RowBinary", "TabSeparated", "TSV", "CSV", "JSONEachRow", "JSONCompactEachRow"})
STREAMED_FORMATS = HEADLESS_FORMATS | {
    "ArrowStream",
    "CSVWithNames",
    "CSVWithNamesAndTypes",
    "RowBinaryWithNames",
    "RowBinaryWithNamesAndTypes",
    "TabSeparatedWithNames",
    "TabSeparatedWithNamesAndTypes",
    "TSVWithNames",
    "TSVWithNamesAndTypes",
}

# Atomic and possessive: forty empty comments before a query would otherwise be tried in 2^40 ways.
_LEADING_NOISE = rb"(?>\s+|--[^\n]*\n|/\*.*?\*/)*+"
_INSERT = re.compile(_LEADING_NOISE + rb"INSERT\s+INTO\b", re.IGNORECASE | re.DOTALL)
_READ = re.compile(_LEADING_NOISE + rb"\(*\s*(SELECT|WITH)\b", re.IGNORECASE | re.DOTALL)
_KILL = re.compile(_LEADING_NOISE + rb"KILL\s+QUERY\b", re.IGNORECASE | re.DOTALL)
_FORMAT_OF_DATA = re.compile(rb"\bFORMAT\s+(\w+)[ \t]*(?:\r?\n|;|$)", re.IGNORECASE)
_FORMAT_AT_END = re.compile(rb"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_SETTINGS_AT_END = re.compile(rb"\bSETTINGS\b[^)`\"]*$", re.IGNORECASE)
"""Behind table and columns, which may be called so and are then quoted or in brackets."""
_QUERY_ID = re.compile(rb"\bquery_id\s*=\s*('(?:[^'\\]|\\.)*')", re.IGNORECASE)
_CODE = re.compile(r"Code: (\d+)\.")


class ProtocolError(InvalidInput):
    """A request refused before the engine saw it, with ClickHouse's error code."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message}")
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One request to the engine. ``block`` is not None for an insert with its rows beside it, in ``format``."""

    sql: bytes
    format: str
    block: bytes | None = None
    database: str = ""
    query_id: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_read(self) -> bool:
        """Whether this is a SELECT, which may be streamed and cancelled."""
        return self.block is None and _READ.match(self.sql) is not None


def statement_of(
    parameters: Mapping[str, str], body: bytes, *, read_only: bool = False, default_format: str = "TabSeparated"
) -> Statement:
    """What a request asks for. ``parameters`` are the URL's, ``body`` is decompressed.

    With a query in the URL the body is an insert's rows, else the rest of the query; without one it begins the body.
    ``read_only`` is what ClickHouse makes of GET.
    """
    query = parameters.get("query", "").encode(errors="replace")
    settings = {name: value for name, value in parameters.items() if name not in NOT_SETTINGS}
    query_id = parameters.get("query_id", "")
    if query_id:
        # The engine gives its own ids; the comment is how a KILL QUERY finds this one (see `killing`).
        settings.setdefault("log_comment", query_id)
    if read_only:
        settings["readonly"] = "2"
    block: bytes | None = None
    format_name = parameters.get("default_format", default_format)
    if query and body and _INSERT.match(query):
        query, format_name = _without_format(query, format_name)
        block = body
    elif _INSERT.match(query or body):
        query, format_name, block = _split_insert((query + b"\n" + body) if query else body, format_name)
    else:
        query = query + b"\n" + body if query and body else query or body
        format_name = _explicit_format(query) or format_name
    return Statement(
        sql=killing(query),
        format=format_name,
        block=block,
        database=parameters.get("database", ""),
        query_id=query_id,
        settings=settings,
    )


def killing(sql: bytes) -> bytes:
    """``KILL QUERY WHERE query_id = 'X'`` so that it also finds the query whose client named it X."""
    if _KILL.match(sql) is None:
        return sql
    return _QUERY_ID.sub(rb"(query_id = \1 OR Settings['log_comment'] = \1)", sql)


def set_statement(settings: Mapping[str, str]) -> str:
    """One SET for all settings and parameters; quoted, so that a value cannot become SQL."""
    pairs = []
    for name, value in settings.items():
        if not re.fullmatch(r"\w+", name):
            raise ProtocolError(115, f"Unknown setting {name!r}. (UNKNOWN_SETTING)")
        pairs.append(f"{name}={literal(value)}")
    return f"SET {', '.join(pairs)}"


def literal(text: str) -> str:
    """A ClickHouse string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def identifier(name: str) -> str:
    """A quoted ClickHouse identifier."""
    escaped = name.replace("\\", "\\\\").replace("`", "\\`")
    return f"`{escaped}`"


def code_of(message: str) -> int:
    """The error code in an engine's message; 1000 (POCO_EXCEPTION) when it has none."""
    match = _CODE.search(message)
    return int(match.group(1)) if match else 1000


def decoded(body: bytes, encoding: str) -> bytes:
    """A request body without its Content-Encoding; ProtocolError for an unknown or broken one, or one that inflates to more
    than :data:`MAX_BODY_BYTES`."""
    if not body or encoding in {"", "identity"}:
        return body
    if encoding not in _CODECS:
        raise ProtocolError(NOT_IMPLEMENTED, f"Content-Encoding {encoding!r} is not one of {', '.join(_CODECS)}")
    room = min(MAX_BODY_BYTES, INFLATES_TO * len(body))
    while True:
        target = bytearray(room)
        try:
            written = _CODECS[encoding].decompress_into(body, target)
            return bytes(memoryview(target)[:written])
        except cramjam.DecompressionError as error:
            if room >= MAX_BODY_BYTES or not _wants_more(error):
                raise ProtocolError(UNKNOWN_COMPRESSION, f"the body is not {encoding}: {error}") from error
        room = min(MAX_BODY_BYTES, room * INFLATES_TO)


def _wants_more(error: Exception) -> bool:
    """Whether only the room was too small; cramjam has no other way to say it."""
    return "whole buffer" in str(error)


def encoded(body: bytes, encoding: str) -> bytes:
    """A response body in an encoding that :func:`negotiated` chose."""
    return bytes(_CODECS[encoding].compress(body)) if encoding else body


def negotiated(accepted: str) -> str:
    """The first encoding of an Accept-Encoding list that we speak; empty for none."""
    names = (entry.partition(";")[0].strip().lower() for entry in accepted.split(","))
    return next((name for name in names if name in _CODECS), "")


_CODECS = {"lz4": cramjam.lz4, "zstd": cramjam.zstd, "gzip": cramjam.gzip, "br": cramjam.brotli}


def _without_format(query: bytes, otherwise: str) -> tuple[bytes, str]:
    match = _FORMAT_AT_END.search(query)
    return (query[: match.start()], match.group(1).decode()) if match else (query, otherwise)


def _split_insert(query: bytes, otherwise: str) -> tuple[bytes, str, bytes | None]:
    """An insert with its rows behind ``FORMAT X``; VALUES and SELECT stay one text for the engine."""
    match = _FORMAT_OF_DATA.search(query)
    if match is None or not query[match.end() :].strip():
        return query, otherwise, None
    return query[: match.start()], match.group(1).decode(), query[match.end() :]


def from_file(insert: bytes, path: str, format_name: str) -> bytes:
    """The insert (``INSERT INTO t [(columns)] [SETTINGS …]``) with its rows in a file of that format."""
    match = _SETTINGS_AT_END.search(insert)
    head, settings = (insert[: match.start()], insert[match.start() :]) if match else (insert, b"")
    rows = f" FROM INFILE {literal(path)} COMPRESSION 'none' ".encode()
    return head + rows + settings + f" FORMAT {format_name}".encode()


def _explicit_format(query: bytes) -> str:
    match = _FORMAT_AT_END.search(query)
    return match.group(1).decode() if match else ""
