"""The first thing an instance's process does: give up its rights, start the watch, and say why it ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from skeet.agents.strategy_loading import user_folder
from skeet.agents.strategy_watch import Reporter, Watch
from skeet.config import Settings
from skeet.confinement.process import Confinement, code_paths, confine
from skeet.core.errors import InvalidInput, SkeetError
from skeet.probes import serve
from skeet.process import logger

HOME = "home"
"""The folder, in the instance's own data directory, that it may write to. The rest of that directory is read with all
rights before they are given up, and so is not the user's code's to write."""


def guarded(settings: Settings, run: Callable[[Watch], int]) -> int:
    """Run with what is left; the role learns why it ended where that was not the strategy's doing."""
    reporter = Reporter(settings.strategy.report_fd)
    try:
        layers = confine(confinement_of(settings))
        logger().info("confined", layers=layers)
        serve(settings, "strategy")
        watch = Watch(reporter, settings.strategy.limits.event_ms, settings.strategy.parent or os.getppid())
        watch.start()
        return run(watch)
    except SkeetError as error:
        reporter.ending(str(error))
        raise


def confinement_of(settings: Settings) -> Confinement:
    """What the settings leave to this instance.

    Raises
    ------
    InvalidInput
        the folder of the user's strategies contains the platform's secrets, and so cannot be shown to them.
    """
    home = settings.data / HOME
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    secrets, own = platform_secrets(settings.data), user_folder(settings)
    if secrets.resolve().is_relative_to(own.resolve()):
        raise InvalidInput(f"SKEET_STRATEGIES_DIR is {own}, which contains {secrets}: choose a folder of its own")
    limits, kafka = settings.strategy.limits, settings.kafka
    certificates = (kafka.ssl_ca, kafka.ssl_certificate, kafka.ssl_key, settings.registry.ssl_ca)
    return Confinement(
        home=home,
        readable=(*code_paths(secrets), own, *(path for path in certificates if path is not None)),
        writable=(settings.chaos.directory,) if settings.chaos.directory is not None else (),
        ports=settings.strategy.ports or named_ports(settings),
        uid=settings.strategy.uid,
        memory_mb=limits.memory_mb,
        threads=limits.threads,
        open_files=limits.open_files,
        file_mb=limits.file_mb,
    )


def instance_data(settings: Settings, instance_id: str) -> Path:
    """The data directory of an instance, below the platform's."""
    return settings.data / "instances" / instance_id


def platform_secrets(data: Path) -> Path:
    """Where the secrets of the platform are whose instance has this data directory."""
    return data.parent.parent / "secrets"


def named_ports(settings: Settings) -> tuple[int, ...]:
    """Ports of the brokers and the registry as the settings name them."""
    brokers = (address.rpartition(":")[2] for address in settings.kafka.bootstrap.split(",") if address)
    registry = urlsplit(settings.registry.url)
    found = {int(port) for port in brokers if port.isdigit()}
    if registry.hostname:
        found.add(registry.port or (443 if registry.scheme == "https" else 80))
    return tuple(sorted(found))
