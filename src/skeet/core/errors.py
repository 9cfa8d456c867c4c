"""The error tree, split by whose fault it is.

SkeetError
├── BugError             ours: an invariant does not hold; the process ends and is restarted
├── InvalidInput         the caller's: a bad flag, setting, command or record; the message names field, value, remedy
│   ├── DecodeError      bytes that are no record of ours (goes to the dead-letter topic with its bytes)
│   ├── UnknownEvent     a record type this version does not know
│   ├── MisplacedRecord  a record that can be read and does not belong where it stands (its type, key, partition, content)
│   └── CredentialError  a server refuses our certificate, name or password, or we its certificate
├── VenueError           the venue's: it refused, or its answer makes no sense
└── InfrastructureError  a broker, store, disk or network that is away: retried with a limit
    ├── DiskFull             a part's file system has no space left
    ├── NotWritable          a directory of ours cannot be written
    ├── Damaged              a file of ours cannot be read back
    ├── NewerFormat          a file of ours was written by a newer version
    ├── JavaUnfit            no Java, or one that is too old
    ├── DownloadFailed       a download broke off, or is not what was published
    └── PortTaken            somebody else listens where one of our servers should

Each carries the exit code of the command that it ends (``docs/exit-codes.md``). A business refusal is none of these: it is
an event with all its reasons.
"""

from typing import ClassVar


class SkeetError(Exception):
    """Root of everything SKEET raises on purpose."""

    exit_code: ClassVar[int] = 1


class BugError(SkeetError):
    """An invariant of ours does not hold. Never caught to go on."""


class InvalidInput(SkeetError):
    """What the caller gave cannot be used. The message names the field, the value and the remedy."""

    exit_code: ClassVar[int] = 2


class DecodeError(InvalidInput):
    """Bytes that cannot be read as the record they claim to be."""


class UnknownEvent(InvalidInput):
    """A well-formed record of a type that this version does not know."""


class CredentialError(InvalidInput):
    """A server and we do not trust each other. The message names the setting to correct, and never holds a secret."""


class MisplacedRecord(InvalidInput):
    """A record of ours that does not belong where it stands: by its type, key, partition, or what its fields hold."""


class VenueError(SkeetError):
    """The venue refused, or answered what its own rules forbid."""


class InfrastructureError(SkeetError):
    """A broker, store, disk or network that should be there is not. Retried within a named limit."""


class DiskFull(InfrastructureError):
    """No space is left where a part writes. The message names part, path and what is free."""

    exit_code: ClassVar[int] = 10


class NotWritable(InfrastructureError):
    """A directory of ours cannot be written: read-only, or of another user."""

    exit_code: ClassVar[int] = 11


class Damaged(InfrastructureError):
    """A file of ours is not what was written. The message names it and what may be deleted without loss."""

    exit_code: ClassVar[int] = 12


class NewerFormat(InfrastructureError):
    """A file of ours was written by a newer version, which must be used to go on."""

    exit_code: ClassVar[int] = 13


class JavaUnfit(InfrastructureError):
    """There is no Java that can run the broker."""

    exit_code: ClassVar[int] = 14


class DownloadFailed(InfrastructureError):
    """A download broke off, or is not what was published. Nothing of it is used."""

    exit_code: ClassVar[int] = 15


class PortTaken(InfrastructureError):
    """Another process listens on a port of ours. The message names it; nothing is killed."""

    exit_code: ClassVar[int] = 16
