"""What a request asks for, without a server."""

from __future__ import annotations

import gzip
import multiprocessing

import pytest

from skeet.local import clickhouse_protocol
from skeet.local.clickhouse_protocol import (
    ProtocolError,
    code_of,
    decoded,
    encoded,
    from_file,
    literal,
    negotiated,
    set_statement,
    statement_of,
)


def test_insert_in_url_takes_the_body_as_rows() -> None:
    statement = statement_of({"query": "INSERT INTO t (a) FORMAT Native"}, b"\x00FORMAT")
    assert (statement.sql, statement.format, statement.block) == (b"INSERT INTO t (a) ", "Native", b"\x00FORMAT")


def test_insert_with_rows_behind_its_format_is_split() -> None:
    statement = statement_of({}, b"INSERT INTO t FORMAT RowBinary\n\x01\xff\n")
    assert (statement.sql, statement.format, statement.block) == (b"INSERT INTO t ", "RowBinary", b"\x01\xff\n")


@pytest.mark.parametrize(
    ("insert", "expected"),
    [
        (b"INSERT INTO t", b"INSERT INTO t FROM INFILE '/x' COMPRESSION 'none'  FORMAT Native"),
        (
            b"INSERT INTO t (a) SETTINGS async_insert=0",
            b"INSERT INTO t (a)  FROM INFILE '/x' COMPRESSION 'none' SETTINGS async_insert=0 FORMAT Native",
        ),
        (
            b"INSERT INTO `settings` (settings)",
            b"INSERT INTO `settings` (settings) FROM INFILE '/x' COMPRESSION 'none'  FORMAT Native",
        ),
    ],
)
def test_rows_of_an_insert_are_named_as_a_file_before_its_settings(insert: bytes, expected: bytes) -> None:
    assert from_file(insert, "/x", "Native") == expected


@pytest.mark.parametrize("sql", [b"INSERT INTO t VALUES (1, 'FORMAT x')", b"insert into t select 1"])
def test_insert_without_rows_stays_one_text(sql: bytes) -> None:
    statement = statement_of({}, sql)
    assert (statement.sql, statement.block) == (sql, None)


def test_query_begun_in_the_url_goes_on_in_the_body() -> None:
    assert statement_of({"query": "SELECT"}, b"1 FORMAT JSON").sql == b"SELECT\n1 FORMAT JSON"
    assert statement_of({"query": "SELECT"}, b"1 FORMAT JSON").format == "JSON"


def test_unknown_parameters_are_settings_and_transport_ones_are_not() -> None:
    statement = statement_of(
        {"database": "d", "max_threads": "1", "param_x": "y", "wait_end_of_query": "1"}, b"SELECT 1"
    )
    assert statement.settings == {"max_threads": "1", "param_x": "y"}


def test_setting_cannot_carry_sql() -> None:
    assert set_statement({"a": "1', b='2"}) == "SET a='1\\', b=\\'2'"
    with pytest.raises(ProtocolError, match="Unknown setting"):
        set_statement({"a=1, b": "2"})


def test_kill_by_query_id_also_finds_the_clients_own_id() -> None:
    sql = statement_of({}, b"KILL QUERY WHERE query_id = 'it\\'s'").sql
    assert sql == b"KILL QUERY WHERE (query_id = 'it\\'s' OR Settings['log_comment'] = 'it\\'s')"


def test_comment_before_a_select_hides_nothing() -> None:
    assert statement_of({}, b"-- why\n/* and */ (SELECT 1)").is_read
    assert not statement_of({}, b"/* SELECT */ DROP TABLE t").is_read


@pytest.mark.parametrize("encoding", ["lz4", "zstd", "gzip", "br"])
def test_encodings_round_trip(encoding: str) -> None:
    assert decoded(encoded(b"rows" * 1000, encoding), encoding) == b"rows" * 1000


def test_broken_or_unknown_encodings_are_refused() -> None:
    with pytest.raises(ProtocolError, match="not zstd"):
        decoded(b"rows", "zstd")
    with pytest.raises(ProtocolError, match="'snappy' is not one of"):
        decoded(b"rows", "snappy")


def test_first_known_encoding_is_chosen() -> None:
    assert negotiated("deflate, zstd;q=0.5, gzip") == "zstd"
    assert negotiated("") == ""


def test_code_is_read_from_the_message() -> None:
    assert code_of("Code: 60. DB::Exception: Table x does not exist. (UNKNOWN_TABLE)") == 60
    assert code_of("something else") == 1000


def test_literal_is_escaped() -> None:
    assert literal("a'b\\") == "'a\\'b\\\\'"


def _read_comments() -> None:
    statement_of({}, b"/**/" * 60 + b"x")


def test_comments_before_a_query_are_read_once() -> None:
    """Tried in every way, sixty of them would take longer than the machine lasts: so another process tries."""
    process = multiprocessing.get_context("fork").Process(target=_read_comments, daemon=True)
    process.start()
    process.join(20)
    alive = process.is_alive()
    process.kill()
    assert not alive, "still reading"


def test_a_body_that_inflates_beyond_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clickhouse_protocol, "MAX_BODY_BYTES", 100_000)
    assert len(decoded(gzip.compress(b"0" * 100_000), "gzip")) == 100_000
    with pytest.raises(ProtocolError, match="gzip"):
        decoded(gzip.compress(b"0" * 100_001), "gzip")
