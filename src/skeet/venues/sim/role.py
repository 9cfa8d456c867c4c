"""``skeet run sim``: the simulated exchange as a process."""

from __future__ import annotations

import asyncio
import time
from urllib.parse import urlsplit

from skeet.config import Settings
from skeet.health import HEALTH
from skeet.metrics import declare
from skeet.process import StopSignal, announce_ready, logger
from skeet.venues.sim.exchange import Exchange, ExchangeOptions
from skeet.venues.sim.instruments import CommissionAsset
from skeet.venues.sim.orders import UniqueAmong
from skeet.venues.sim.server import REQUEST_KINDS, Server

DEFAULT_HOST = "127.0.0.1"


def main(settings: Settings) -> int:
    """Serve until asked to stop; the exit code. Its files are in ``sim/`` of the data directory."""
    stop = StopSignal().install()
    options = ExchangeOptions(
        seed=settings.sim.seed,
        commission=CommissionAsset(settings.sim.commission),
        history_days=settings.sim.history_days,
        history_trades_s=settings.sim.history_trades_minutes * 60,
        fsync=settings.sim.fsync,
    )
    exchange = Exchange(settings.data / "sim", time.time_ns, options)
    asyncio.run(_serve(settings, exchange, stop))
    return 0


async def _serve(settings: Settings, exchange: Exchange, stop: StopSignal) -> None:
    address = urlsplit(settings.sim.url)
    server = Server(
        exchange,
        admin_token=settings.sim.admin_token.get_secret_value(),
        speed=settings.sim.speed,
        unique_among=UniqueAmong(settings.sim.duplicate_client_ids),
    )
    port = await server.start(address.hostname or DEFAULT_HOST, address.port or 0)
    logger().info("listening", url=f"http://{address.hostname or DEFAULT_HOST}:{port}", speed=settings.sim.speed)
    declare("skeet_venue_requests_total", REQUEST_KINDS)
    beats = asyncio.create_task(HEALTH.beat_regularly())
    announce_ready()
    try:
        await server.run_until(asyncio.ensure_future(stop.wait_async()))
    finally:
        beats.cancel()
        await server.stop()
