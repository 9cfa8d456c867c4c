"""``skeet run gateway``: the gateway agent joined with the venues' execution."""

from __future__ import annotations

import asyncio
from typing import Any

from skeet.agents.gateway import Gateway
from skeet.agents.gateway_log import GatewayLog
from skeet.config import Settings
from skeet.core.errors import InfrastructureError
from skeet.health import HEALTH
from skeet.process import DRAIN_DEADLINE_S, StopSignal, announce_ready, configure_logging, logger
from skeet.streams.ports import SendGuard, Venue
from skeet.streams.registry import registered_codec
from skeet.venues.execution.accounts import accounts_with_keys, venue_of
from skeet.venues.execution.binance import load_library


def main(settings: Settings) -> int:
    """Run until asked to stop: 0. A failure ends the process with 1; its successor recovers from the log."""
    configure_logging("gateway", settings.log_level)
    return asyncio.run(_run(settings, StopSignal().install()))


async def _run(settings: Settings, stop: StopSignal) -> int:
    def connect(account_id: str, guard: SendGuard) -> Venue:
        return venue_of(settings, account_id, guard)

    asyncio.get_running_loop().set_exception_handler(_loop_trouble)
    beats = asyncio.create_task(HEALTH.beat_regularly())
    await asyncio.to_thread(load_library)
    log = GatewayLog(settings, await asyncio.to_thread(registered_codec, settings))
    gateway = Gateway(settings, log, connect)
    await gateway.start(lambda: accounts_with_keys(settings))
    ended: set[asyncio.Future[Any]] = {asyncio.ensure_future(stop.wait_async()), log.failed}
    recovered: asyncio.Future[Any] = asyncio.ensure_future(gateway.recovered.wait())
    await asyncio.wait({recovered, *ended}, return_when=asyncio.FIRST_COMPLETED)
    if recovered.done():
        announce_ready()
    await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
    beats.cancel()
    return await _end(gateway, log)


async def _end(gateway: Gateway, log: GatewayLog) -> int:
    error = log.failed.exception() if log.failed.done() else None
    if error is not None:
        logger().error("gateway ends", error=f"{type(error).__name__}: {error}", fault=_fault(error))
        return 1
    try:
        await asyncio.wait_for(gateway.close(), DRAIN_DEADLINE_S - 2)
    except TimeoutError:
        logger().warning("not drained in time; the next start asks the venue")
    return 0


def _loop_trouble(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """ccxt leaves a rejected future behind for each lost connection; the session reports the loss itself."""
    logger().debug(
        "left behind in the event loop", message=context.get("message"), error=repr(context.get("exception"))
    )


def _fault(error: BaseException) -> str:
    return "infrastructure" if isinstance(error, InfrastructureError) else "ours"
