"""The data directory of one installation: where things lie, which ports and secrets it has, what was given by address.

Ports are chosen free once and kept; secrets are generated once, readable by their owner only. What the supervisor starts is
written to ``endpoints.toml``, from where every process of this data directory takes its addresses.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from skeet.config import Settings
from skeet.core.errors import DiskFull, InvalidInput, NotWritable
from skeet.local.disks import FULL_ERRORS, no_space
from skeet.local.ports import LOOPBACK, PortBook
from skeet.local.postgres import PostgresCluster

PORT_NAMES = ("kafka", "kafka-controller", "registry", "postgres", "clickhouse", "sim")
"""In this order from ``--port-base`` on."""

SECURED = 'secure = true\nsecurity_protocol = "SASL_PLAINTEXT"\nsasl_username = "admin"\n'
"""What ``endpoints.toml`` says beside the address of a broker that asks for credentials."""

KEPT_BY_RESET = frozenset({"skeet.toml", "strategies", "lock"})
GENERATED_SECRETS = (
    "postgres_owner_password",
    "postgres_superuser_password",
    "skeet_clickhouse__password",
    "skeet_sim__admin_token",
)


@dataclass(frozen=True, slots=True)
class Installation:
    """Paths below one data directory."""

    data: Path

    @property
    def state_file(self) -> Path:
        """What the supervisor last wrote about its processes."""
        return self.data / "state.json"

    @property
    def lock(self) -> Path:
        """Held by the one supervisor of this directory."""
        return self.data / "lock"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.data / "logs"

    @property
    def ready(self) -> Path:
        """One file per process that is ready."""
        return self.data / "run"

    @property
    def watch_report(self) -> Path:
        """The lag of each group and the newest incident, as the supervisor's watchdog last wrote them."""
        return self.ready / "watchdog.json"

    @property
    def secrets(self) -> Path:
        """Generated passwords and tokens, 0600 each."""
        return self.data / "secrets"

    @property
    def endpoints(self) -> Path:
        """Addresses of what was started here."""
        return self.data / "endpoints.toml"

    @property
    def ports_file(self) -> Path:
        """The chosen ports."""
        return self.data / "ports.json"

    def ports(self) -> PortBook:
        """The ports of this installation."""
        return PortBook(self.ports_file)

    def create(self) -> None:
        """Make the directories; the data directory is closed to others, except to pass through.

        Raises
        ------
        NotWritable
            this user cannot write there, or the file system is read-only.
        DiskFull
            not even small files fit.
        """
        try:
            self.data.mkdir(parents=True, exist_ok=True, mode=0o711)
            for folder in (self.logs, self.ready, self.secrets):
                folder.mkdir(exist_ok=True, mode=0o700)
            probe = self.ready / "writable"
            probe.write_bytes(b"x" * 4096)  # an empty file fits on a full disk
            probe.unlink()
        except OSError as error:
            if error.errno in FULL_ERRORS:
                raise DiskFull(no_space("the data directory", self.data)) from error
            raise NotWritable(
                f"the data directory {self.data} cannot be written ({error.strerror}: {error.filename}); "
                "make it writable for you, or choose another with --data DIR"
            ) from error

    def secret(self, name: str) -> str:
        """A generated secret, made on the first call and kept in ``secrets/NAME``."""
        path = self.secrets / name
        if not path.exists():
            self.secrets.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.write_secret(name, secrets.token_urlsafe(24))
        return path.read_text().strip()

    def write_secret(self, name: str, value: str) -> None:
        """Put a secret into its file, never readable by others, not even for a moment."""
        with os.fdopen(os.open(self.secrets / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(value)

    def cluster(self) -> PostgresCluster:
        """The embedded Postgres of this installation."""
        return PostgresCluster(
            home=self.data / "postgres",
            port=self.ports().get("postgres"),
            password=self.secret("postgres_owner_password"),
            superuser_password=self.secret("postgres_superuser_password"),
        )

    def delete_content(self) -> list[str]:
        """Delete what the platform wrote, also where a link leads; keep the user's files. Returns the names."""
        if self.data.exists() and not self.ports_file.exists():
            raise InvalidInput(f"{self.data} holds no SKEET installation (no ports.json); nothing was deleted")
        deleted = []
        # Backwards, secrets before ports.json: the ports tell our own DSN from one that the user wrote.
        for path in sorted(self.data.iterdir(), reverse=True) if self.data.exists() else []:
            if path.name in KEPT_BY_RESET or (path == self.secrets and not self._delete_secrets()):
                continue
            if path.is_symlink():
                shutil.rmtree(path.resolve(), ignore_errors=True)
                path.unlink()
            elif path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
            deleted.append(path.name)
        return sorted(deleted)

    def _delete_secrets(self) -> bool:
        """Delete generated secrets and the keys of the simulated exchange; whether nothing of the user's is left."""
        generated = [self.secrets / name for name in GENERATED_SECRETS]
        dsn = self.secrets / "skeet_postgres__dsn"
        if dsn.exists() and dsn.read_text() == self.cluster().dsn:
            generated.append(dsn)
        generated += [path for path in self.secrets.glob("venue-keys/*.json") if _is_simulated(path)]
        generated += self.secrets.glob("kafka/*")
        for path in generated:
            path.unlink(missing_ok=True)
        return not any(path.is_file() for path in self.secrets.rglob("*"))


def _is_simulated(key_file: Path) -> bool:
    try:
        return bool(json.loads(key_file.read_text())["venue"] == "sim")
    except (OSError, ValueError, KeyError, TypeError):
        return False


def external_parts(settings: Settings, installation: Installation) -> frozenset[str]:
    """The embedded parts that are replaced by an address in the settings, and so are not started.

    An address that we wrote into the data directory ourselves, at an earlier start, is none.
    """
    ours = tomllib.loads(installation.endpoints.read_text()) if installation.endpoints.exists() else {}
    given = {
        "kafka": (settings.kafka.bootstrap, ours.get("kafka", {}).get("bootstrap")),
        "registry": (settings.registry.url, ours.get("registry", {}).get("url")),
        "clickhouse": (settings.clickhouse.url, ours.get("clickhouse", {}).get("url")),
        "sim": (settings.sim.url, ours.get("sim", {}).get("url")),
        "postgres": (settings.postgres.dsn.get_secret_value(), _our_dsn(installation)),
    }
    return frozenset(name for name, (address, own) in given.items() if address and address != own)


def write_endpoints(
    installation: Installation, external: frozenset[str], port_base: int | None, *, secured: bool = False
) -> dict[str, int]:
    """Choose ports, generate secrets, and write the addresses of the parts that are started here.

    ``secured``: who names no principal is the operator. Returns the port of each embedded part.
    """
    book = installation.ports()
    if port_base is not None:
        kept = book.get("kafka-controller") if (installation.data / "kafka" / "logs").exists() else None
        book.rebase(port_base, PORT_NAMES)
        if kept is not None:
            book.set("kafka-controller", kept)  # stands in the metadata log of a formatted broker
    ports = {name: book.get(name) for name in PORT_NAMES}
    lines = {
        "kafka": f'[kafka]\nbootstrap = "{LOOPBACK}:{ports["kafka"]}"\n' + (SECURED if secured else ""),
        "registry": f'[registry]\nurl = "http://{LOOPBACK}:{ports["registry"]}"\n',
        "clickhouse": f'[clickhouse]\nurl = "http://{LOOPBACK}:{ports["clickhouse"]}"\n',
        "sim": f'[sim]\nurl = "http://{LOOPBACK}:{ports["sim"]}"\n',
    }
    text = "".join(section for name, section in lines.items() if name not in external)
    installation.endpoints.write_text("# Written by `skeet up`; change skeet.toml instead.\n" + text)
    if "postgres" not in external:
        installation.write_secret("skeet_postgres__dsn", installation.cluster().dsn)
    if "clickhouse" not in external:
        installation.secret("skeet_clickhouse__password")
    installation.secret("skeet_sim__admin_token")
    if "kafka" in external:
        ports.pop("kafka-controller")
    return {name: port for name, port in ports.items() if name not in external}


def _our_dsn(installation: Installation) -> str | None:
    return installation.cluster().dsn if installation.ports_file.exists() else None
