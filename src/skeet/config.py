"""Every setting of SKEET, in one place.

Read from, strongest first: arguments, environment (``SKEET_KAFKA__BOOTSTRAP``), the file named by ``SKEET_CONFIG`` or
``skeet.toml`` in the data directory, secret files (``SKEET_SECRETS_DIR`` or ``secrets/`` in the data directory, one file
a setting, named like the environment variable in lower case: ``skeet_postgres__dsn``), ``endpoints.toml`` in the data
directory (the addresses of what ``skeet up`` started; written by the supervisor), defaults. Nothing else in SKEET reads the environment.
"""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from tomllib import TOMLDecodeError
from typing import Annotated, Any, Literal

import platformdirs
from pydantic import AfterValidator, BaseModel, ByteSize, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, NestedSecretsSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError
from pydantic_settings.sources import TomlConfigSettingsSource

from skeet.core.errors import Damaged, InvalidInput

MIB = 1024 * 1024


def _plain_decimal(text: str) -> str:
    """A limit is text, so that no float ever touches it."""
    if not re.fullmatch(r"[0-9]{1,18}(\.[0-9]{1,18})?", text):
        raise ValueError("expected a plain decimal number such as 1000 or 0.25")
    return text


PlainDecimal = Annotated[str, AfterValidator(_plain_decimal)]


def default_data_dir() -> Path:
    """The data directory when none is named: ``SKEET_DATA``, else the user's data directory."""
    return Path(os.environ.get("SKEET_DATA") or platformdirs.user_data_path("skeet"))


class Section(BaseModel):
    """A group of settings; an unknown name is an error, not a silently ignored typing mistake."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KafkaSettings(Section):
    bootstrap: str = Field("", description="host:port list of the Kafka brokers; empty: a local broker is started")
    topic_prefix: str = Field("skeet.", description="prefix of every topic and consumer group name")
    account_partitions: int = Field(
        8, ge=1, le=1024, description="partitions of account-keyed topics, fixed at genesis"
    )
    market_partitions: int = Field(
        8, ge=1, le=1024, description="partitions of instrument-keyed topics, fixed at genesis"
    )
    replication_factor: int = Field(1, ge=1, le=9, description="copies of each partition")
    # Small batches first: an order path is made of hops of one record. Throughput paths (feed replay, projections) pass their own.
    linger_ms: float = Field(0.0, ge=0, description="how long a producer waits to fill a batch, in ms")
    secure: bool = Field(
        False, description="the local broker asks for credentials and checks access (`skeet up --secure`)"
    )
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to talk to the brokers: SSL encrypts, SASL logs in"
    )
    ssl_ca: Path | None = Field(None, description="PEM file of the authority of the brokers' certificates")
    ssl_certificate: Path | None = Field(None, description="PEM file of our certificate, where brokers ask for one")
    ssl_key: Path | None = Field(None, description="PEM file of the key of SKEET_KAFKA__SSL_CERTIFICATE")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how SASL logs in"
    )
    sasl_username: str = Field("", description="SASL user, the principal that this process is to the brokers")
    sasl_password: SecretStr = Field(
        SecretStr(""), description="password of the SASL user; empty: the file secrets/kafka/USER of the data directory"
    )


class RegistrySettings(Section):
    url: str = Field("", description="schema registry address, http(s); empty: the built-in registry is started")
    user: str = Field("", description="user of the registry (basic authentication); empty: none")
    password: SecretStr = Field(SecretStr(""), description="password of the registry's user")
    ssl_ca: Path | None = Field(None, description="PEM file of the authority of the registry's certificate")
    listen: str = Field(
        "", description="host:port where `skeet run registry` listens; empty: the address, which must be loopback then"
    )
    tls_certificate: Path | None = Field(None, description="PEM file of the certificate `skeet run registry` serves")
    tls_key: Path | None = Field(None, description="PEM file of the key of SKEET_REGISTRY__TLS_CERTIFICATE")


class PostgresSettings(Section):
    dsn: SecretStr = Field(SecretStr(""), description="read tables' database; empty: a local server is started")
    schema_name: str = Field(
        "skeet", pattern=r"^[a-z_][a-z0-9_]{0,40}$", description="PostgreSQL schema of the read tables"
    )
    password: SecretStr = Field(SecretStr(""), description="password of the DSN's user, where the DSN holds none")
    ssl_mode: Literal["", "disable", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "", description="TLS to PostgreSQL, as libpq's sslmode; empty: what the DSN says"
    )
    ssl_ca: Path | None = Field(None, description="PEM file of the authority of the server's certificate")
    ssl_certificate: Path | None = Field(None, description="PEM file of our certificate, where the server asks for one")
    ssl_key: Path | None = Field(None, description="PEM file of the key of SKEET_POSTGRES__SSL_CERTIFICATE")


class ClickhouseSettings(Section):
    url: str = Field("", description="http(s)://host:port of ClickHouse; empty: the embedded engine is started")
    user: str = Field("default", description="ClickHouse user")
    password: SecretStr = Field(SecretStr(""), description="ClickHouse password (the embedded engine's token)")
    database: str = Field("skeet", description="ClickHouse database")
    ssl_ca: Path | None = Field(None, description="PEM file of the authority of ClickHouse's certificate")
    ssl_verify: bool = Field(True, description="check ClickHouse's certificate; false only for a test")


class SimSettings(Section):
    """The simulated exchange."""

    url: str = Field("", description="http://host:port where the simulated exchange listens; set by the supervisor")
    seed: int = Field(7, description="seed of the order flow and of the history")
    speed: float = Field(1.0, gt=0, le=10_000, description="multiplies arrivals; timestamps stay wall clock")
    admin_token: SecretStr = Field(SecretStr(""), description="token of the administration routes")
    history_days: int = Field(30, ge=0, le=366, description="days of 1-minute bars that a fresh exchange starts with")
    history_trades_minutes: int = Field(
        120, ge=0, le=1_440, description="minutes of trades a fresh exchange starts with"
    )
    commission: Literal["quote", "received"] = Field("quote", description="asset of commissions: quote, or as Binance")
    duplicate_client_ids: Literal["all", "open", "none"] = Field(
        "open", description="among which orders a fresh start wants client order ids unique; Binance: open ones"
    )
    fsync: bool = Field(False, description="flush the exchange's journal to disk per command: survives a power cut")


class FeedSettings(Section):
    venue: str = Field("sim", description="which venue's market data to read: sim, binance")
    symbols: tuple[str, ...] = Field(("BTC/USDT", "ETH/USDT"), description="unified symbols to subscribe to")
    stale_after_ms: int = Field(5_000, ge=100, description="silence on an instrument after which its data is stale")
    reconnect_after_silence_s: float = Field(
        60.0,
        ge=1,
        description="silence on all instruments after which the connection is made anew, however healthy it looks",
    )
    api_key: SecretStr = Field(SecretStr(""), description="key for public requests that a venue asks one for; optional")
    history_days: int = Field(
        30, ge=0, le=365, description="days of 1-minute bars fetched at first start; 0: no history"
    )
    history_trades_hours: float = Field(2.0, ge=0, le=24, description="hours of trades fetched at first start")


class GatewaySettings(Section):
    external_orders: Literal["leave", "cancel"] = Field(
        "leave",
        description="what to do about an open order at the venue that nobody here commanded: leave or cancel it",
    )


class SignalSettings(Section):
    """Which indicators the worker computes on every instrument and bar interval."""

    ema_pairs: tuple[tuple[int, int], ...] = Field(
        ((2, 4), (12, 26)), description="fast and slow periods of the EMA crosses, in bars"
    )
    rsi_periods: tuple[int, ...] = Field((14,), description="periods of the relative strength indexes, in bars")
    imbalance_interval_ms: int = Field(
        100, ge=10, description="shortest time between two book imbalance signals, in ms"
    )
    flow_window_ms: int = Field(250, ge=1, description="length of a trade flow window of the role trade-flow, in ms")
    flow_step_ms: int = Field(50, ge=1, description="from one trade flow window's beginning to the next's, in ms")
    flow_grace_ms: int = Field(
        500, ge=0, description="how late a trade may be and still count in its flow windows, in ms"
    )


class StrategyLimits(Section):
    """What one strategy instance may take of the machine; more halts it. See docs/strategies.md."""

    event_ms: int = Field(1_000, ge=10, description="longest time a handler may take for one event, in ms")
    memory_mb: int = Field(512, ge=128, description="largest resident memory of an instance, in MiB")
    cpu_percent: int = Field(90, ge=1, le=100, description="largest share of one core over the window, in percent")
    cpu_window_s: int = Field(30, ge=2, description="how long the share of a core is averaged over, in s")
    threads: int = Field(64, ge=16, description="threads of an instance that has a user of its own; forks are refused")
    open_files: int = Field(256, ge=64, description="open files and sockets of an instance")
    file_mb: int = Field(64, ge=1, description="largest file an instance may write, in MiB")
    commands_per_event: int = Field(20, ge=1, description="commands a handler may ask for at one event")
    commands_per_second: int = Field(50, ge=1, description="commands an instance may ask for in a second of log time")
    unexplained_ends: int = Field(
        10,
        ge=1,
        description="ends of its process that nothing explains, without a steady minute between, before a halt",
    )
    separate_user: bool = Field(
        True, description="give each instance a user id of its own where the platform runs as root"
    )
    first_uid: int = Field(74_000, ge=1_000, description="first of those user ids; nobody else may use them")


class StrategySettings(Section):
    instance: str = Field(
        "", description="which strategy instance `skeet run strategy` runs; set by the strategies role"
    )
    uid: int = Field(0, ge=0, description="user id the instance takes (0: keeps its own); set by the strategies role")
    ports: tuple[int, ...] = Field(
        (), description="TCP ports the instance may connect to: brokers, registry; set by the strategies role"
    )
    report_fd: int = Field(-1, description="open file that the instance reports to; set by the strategies role")
    parent: int = Field(
        0,
        ge=0,
        description="process that the instance does not outlive (0: whichever started it); set by the strategies role",
    )
    limits: StrategyLimits = StrategyLimits()


class RiskSettings(Section):
    """Defaults for accounts without limits of their own (``skeet limits set``)."""

    max_quantity: PlainDecimal = Field("1000", description="largest order quantity in base units")
    max_notional: PlainDecimal = Field("1000000", description="largest order value in quote units")
    reference_max_age_ms: int = Field(5_000, ge=1, description="older reference data denies orders")
    collar_bps: int = Field(200, ge=1, le=10_000, description="market orders become limits this far from the reference")


class DeskSettings(Section):
    """The single writer of accounts."""

    snapshot_every: int = Field(5_000, ge=1, description="account events of a partition between two snapshots")


class ChaosSettings(Section):
    """Faults on purpose; refused where orders may go to a live venue."""

    enabled: bool = Field(False, description="let crash points be armed while the platform runs (`skeet chaos run`)")
    crash_at: str = Field(
        "",
        description="crash points armed from the start, each fires once per data directory: "
        "NAME or NAME:N (the Nth passage), separated by commas; `skeet chaos points` lists them",
    )
    directory: Path | None = Field(
        None, description="where crash points are armed; default: chaos/ in the data directory"
    )


class ScaleSettings(Section):
    """How many processes of each role ``skeet up`` keeps running. Consumer groups share the partitions out among them."""

    desk: int = Field(1, ge=1, le=64, description="desks; with a second one, another takes over in under 10 s")
    gateway: int = Field(1, ge=1, le=64, description="gateways; an account's venue session follows its partition")
    worker: int = Field(1, ge=1, le=64, description="Faust workers: bars, reference, signals")
    trade_flow: int = Field(0, ge=0, le=64, description="workers with windows over trades; 0: none, nobody needs them")
    projection_postgres: int = Field(1, ge=1, le=64, description="writers of the read tables")
    projection_clickhouse: int = Field(1, ge=1, le=64, description="writers of the history")

    def of(self, role: str) -> int:
        """How many of a role; 1 of what cannot be scaled."""
        return int(getattr(self, role.replace("-", "_"), 1))


class HealthSettings(Section):
    """Where each process answers ``/livez``, ``/readyz`` and ``/metrics``."""

    host: str = Field("127.0.0.1", description="address to listen on; loopback unless something else must scrape")
    port: int = Field(
        0, ge=0, le=65_535, description="0: a free one for each process; else the first, counted up by `skeet up`"
    )


class WatchdogSettings(Section):
    """The supervisor's outside look at consumer groups and processes."""

    lag_limit: int = Field(
        50_000, ge=1, description="offsets a group may be behind; more is an event, below half of it another"
    )
    silent_after_s: float = Field(
        20.0, ge=5, description="a process whose `/livez` is 503 or unanswered for so long is restarted"
    )


class ArchiveSettings(Section):
    """Where market records go before the disk budget lets them leave the log."""

    dir: Path | None = Field(None, description="directory of sealed segments; default: archive/ in the data directory")
    segment_size: ByteSize = Field(
        ByteSize(64 * MIB), ge=1024, description="bytes of records in one sealed segment, before compression"
    )
    seal_after_s: float = Field(
        600.0, ge=0, description="records that wait this long are sealed though they fill no segment, in seconds"
    )
    keep_minutes: float = Field(
        60.0, ge=0, description="market records this young stay in the log whatever the budget says: readers catch up"
    )
    interval_s: float = Field(5.0, gt=0, description="how often the disks are looked at, in seconds")


class KafkaPasswordSource(PydanticBaseSettingsSource):
    """The password of the Kafka principal that stronger sources named, from its own file in the data directory.

    A process is told who it is by one setting; its secret is in no environment and on no command line.
    """

    def __init__(self, settings_cls: type[BaseSettings], folder: Path) -> None:
        super().__init__(settings_cls)
        self._folder = folder

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:
        """Unused: the one value is found in :meth:`__call__`."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        kafka = self.current_state.get("kafka")
        username = kafka.get("sasl_username", "") if isinstance(kafka, dict) else getattr(kafka, "sasl_username", "")
        file = self._folder / str(username)
        if not username or file.parent != self._folder or not file.is_file():
            return {}
        return {"kafka": {"sasl_password": file.read_text().strip()}}


class Settings(BaseSettings):
    """All settings of one SKEET process. Frozen: a process is restarted to change one."""

    model_config = SettingsConfigDict(
        env_prefix="SKEET_", env_nested_delimiter="__", extra="ignore", frozen=True, validate_default=True
    )

    data: Path = Field(default_factory=default_data_dir, description="data directory of this installation")
    slot: int = Field(
        0,
        ge=0,
        le=63,
        description="number of this process among those of its role; set by `skeet up` where there are more",
    )
    tenant: str = Field("main", pattern=r"^[a-z0-9][a-z0-9-]{0,31}$", description="tenant that the CLI acts for")
    principal: str = Field("operator", description="who the CLI acts as, recorded in commands")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="DEBUG, INFO, WARNING or ERROR")
    allow_live: bool = Field(False, description="SKEET_ALLOW_LIVE=1 lets orders go to hosts that are not loopback")
    disk_budget: ByteSize = Field(
        ByteSize(20 * 1024 * MIB),
        gt=0,
        description="what this installation may keep on this machine's disk (20GiB, 500MB): from 80 % on sealed market "
        "records leave the log, at 90 % market ingest stops",
    )
    disk_reserve: ByteSize = Field(
        ByteSize(512 * MIB),
        description="free space that must be left on every file system the parts write to; with less, market ingest stops",
    )
    strategies_dir: Path | None = Field(
        None, description="folder of the user's own strategies; default: strategies/ in the data directory"
    )

    kafka: KafkaSettings = KafkaSettings()
    registry: RegistrySettings = RegistrySettings()
    postgres: PostgresSettings = PostgresSettings()
    clickhouse: ClickhouseSettings = ClickhouseSettings()
    sim: SimSettings = SimSettings()
    feed: FeedSettings = FeedSettings()
    risk: RiskSettings = RiskSettings()
    desk: DeskSettings = DeskSettings()
    gateway: GatewaySettings = GatewaySettings()
    signals: SignalSettings = SignalSettings()
    strategy: StrategySettings = StrategySettings()
    chaos: ChaosSettings = ChaosSettings()
    health: HealthSettings = HealthSettings()
    scale: ScaleSettings = ScaleSettings()
    watchdog: WatchdogSettings = WatchdogSettings()
    archive: ArchiveSettings = ArchiveSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        data = Path(init_settings().get("data") or default_data_dir())
        toml = Path(os.environ.get("SKEET_CONFIG") or data / "skeet.toml")
        sources: list[PydanticBaseSettingsSource] = [init_settings, env_settings]
        if toml.is_file():
            sources.append(TomlConfigSettingsSource(settings_cls, toml))
        secrets = Path(os.environ.get("SKEET_SECRETS_DIR") or data / "secrets")
        if secrets.is_dir():
            sources.append(
                NestedSecretsSettingsSource(
                    file_secret_settings, secrets_dir=secrets, secrets_prefix="skeet_", secrets_nested_delimiter="__"
                )
            )
        endpoints = data / "endpoints.toml"
        if endpoints.is_file():
            sources.append(TomlConfigSettingsSource(settings_cls, endpoints))
        sources.append(KafkaPasswordSource(settings_cls, data / "secrets" / "kafka"))
        return tuple(sources)

    @property
    def archive_dir(self) -> Path:
        """Where sealed segments lie."""
        return self.archive.dir or self.data / "archive"

    @property
    def secrets_dir(self) -> Path:
        """Directory (0700) of generated passwords, tokens and venue keys."""
        return self.data / "secrets"


def load_settings(**overrides: Any) -> Settings:
    """Settings of this process.

    Raises
    ------
    InvalidInput
        names the setting, the value it had and what was expected; or the file of the user's that is no TOML.
    Damaged
        ``endpoints.toml``, which the supervisor writes, is no TOML.
    """
    _check_toml(Path(overrides.get("data") or default_data_dir()))
    try:
        return Settings(**overrides)
    except (TOMLDecodeError, SettingsError, UnicodeDecodeError, OSError) as error:
        raise InvalidInput(_what_was_wrong(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        name = "SKEET_" + "__".join(str(part) for part in first["loc"]).upper()
        raise InvalidInput(f"{name} is {first.get('input')!r}: {first['msg']}; see `skeet config show`") from error


def _check_toml(data: Path) -> None:
    """Name a file that cannot be parsed; the library behind the settings does not say which it was."""
    ours, users = data / "endpoints.toml", Path(os.environ.get("SKEET_CONFIG") or data / "skeet.toml")
    for path in (users, ours):
        try:
            if path.is_file():
                tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            if path == users:
                raise InvalidInput(f"{path} cannot be read: {error}; correct it, or move it away") from error
            raise Damaged(f"{path} cannot be read: {error}; delete it, `skeet up` writes it anew") from error


_SECRET = re.compile("DSN|PASSWORD|TOKEN|KEY|SECRET")
"""Variables of these names are never printed."""


def _what_was_wrong(error: Exception) -> str:
    """A variable whose text is no JSON where a list or an object is expected."""
    found = re.search(r'value for field "(\w+)"', str(error))
    section = f"SKEET_{found[1].upper()}" if found else "SKEET_"
    near = sorted(name for name in os.environ if name.startswith(section) and not _SECRET.search(name))
    listed = ", ".join(f"{name} is {os.environ[name]!r}" for name in near) or str(error)
    return f'{listed}: expected JSON where it is a list or an object, such as ["BTC/USDT"]; see `skeet config show`'
