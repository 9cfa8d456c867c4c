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

A business refusal is none of these: it is an event with all its reasons.
"""


class SkeetError(Exception):
    """Root of everything SKEET raises on purpose."""


class BugError(SkeetError):
    """An invariant of ours does not hold. Never caught to go on."""


class InvalidInput(SkeetError):
    """What the caller gave cannot be used. The message names the field, the value and the remedy."""


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
