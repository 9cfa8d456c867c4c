"""An append-only file of JSON lines, each with a checksum chained to the line before.

Format of one line (UTF-8, ``\\n`` at its end)::

    {"n":<line number from 1>, ...the record's own members... ,"crc":"<8 hex digits>"}

``crc`` is always the last member. It is CRC-32 (zlib) of the line's bytes before ``,"crc":"``, started with the previous
line's crc as value (the first line starts with 0). So an altered, swapped or missing line shows at its own number. A
last line without its newline is what a killed process leaves: it was never answered, and is cut off on opening.

Durability: each append is one ``write`` before anyone hears of it, so it survives the death of the process (the kernel
holds it). It survives a power cut only with ``fsync=True``, which costs a disk flush per append.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from skeet.core.errors import InfrastructureError

_MARK = b',"crc":"'


def encode_line(record: dict[str, Any], number: int, previous_crc: int) -> tuple[bytes, int]:
    """One line and its crc."""
    body = orjson.dumps({"n": number, **record})[:-1]
    crc = zlib.crc32(body, previous_crc)
    return body + _MARK + b'%08x"}\n' % crc, crc


def decode_line(line: bytes, number: int, previous_crc: int) -> tuple[dict[str, Any], int]:
    """The record of a line (without ``n`` and ``crc``) and its crc.

    Raises
    ------
    ValueError
        what is wrong with the line.
    """
    body, mark, tail = line.rpartition(_MARK)
    if not mark or len(tail) != 11 or tail[8:] != b'"}\n':
        raise ValueError("it does not end with a checksum")
    crc = int(tail[:8], 16)
    if zlib.crc32(body, previous_crc) != crc:
        raise ValueError("its checksum does not match its content and the line before it")
    record = orjson.loads(body + b"}")
    if record.pop("n", None) != number:
        raise ValueError(f"its number is not {number}")
    return record, crc


def read_lines(path: Path) -> Iterator[tuple[dict[str, Any], int, int]]:
    """(record, crc, bytes up to and with it) of every whole line of a file. A torn last line is left out.

    Raises
    ------
    InfrastructureError
        a line is broken; names file and line.
    """
    crc, end = 0, 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                record, crc = decode_line(line, number, crc)
            except ValueError as error:
                raise InfrastructureError(
                    f"{path} line {number}: {error}; restore the file, or move it away to start a fresh exchange"
                ) from error
            end += len(line)
            yield record, crc, end


class LineFile:
    """Appends records to one file; knows its last line number and crc."""

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self.lines = 0
        self._crc = 0
        self._fsync = fsync
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def read(self) -> Iterator[dict[str, Any]]:
        """Every record, oldest first; then the file is ready for appending after the last whole line."""
        end = 0
        for record, crc, upto in read_lines(self.path):
            self._crc, end = crc, upto
            self.lines += 1
            yield record
        os.ftruncate(self._file, end)

    def append(self, records: Sequence[dict[str, Any]]) -> None:
        """Write records in one go. They are durable as the module docstring says when this returns."""
        chunks = []
        for record in records:
            self.lines += 1
            line, self._crc = encode_line(record, self.lines, self._crc)
            chunks.append(line)
        whole = b"".join(chunks)
        written = os.write(self._file, whole)
        if written != len(whole):
            raise InfrastructureError(f"{self.path}: only {written} of {len(whole)} bytes written; is the disk full?")
        if self._fsync:
            os.fdatasync(self._file)

    def close(self) -> None:
        """Close the file; nothing is lost, everything was written before."""
        os.close(self._file)
