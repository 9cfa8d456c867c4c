"""The role ``worker``: bars, reference, signals and the clock in one Faust process.

Run as many as wanted: partitions are shared out so that one instrument's records meet in one worker.
"""

from __future__ import annotations

import asyncio

from skeet.agents.bars_columns import ColumnBars
from skeet.agents.clock import run_clock
from skeet.agents.imbalance_columns import ColumnImbalance
from skeet.agents.reference_columns import ColumnReferences
from skeet.agents.restoring import TAIL_BARS, TAIL_STATUS, Restorer
from skeet.agents.signals import BarSignals
from skeet.config import Settings, SignalSettings
from skeet.process import StopSignal
from skeet.streams.batches.host import ChunkHost
from skeet.streams.faust_app import Plan
from skeet.streams.registry import registered_codec
from skeet.streams.stages import Stage
from skeet.streams.topics import CLOCK, MARKET_BARS, MARKET_QUOTES, MARKET_STATUS, MARKET_TRADES, topic_name

GROUP = "worker"
"""Equal to the role's group in :mod:`skeet.wiring`, which the watchdog follows."""


def main(settings: Settings) -> int:
    """Run until SIGTERM; returns the exit code."""
    return asyncio.run(_run(settings, StopSignal().install()))


async def _run(settings: Settings, stop: StopSignal) -> int:
    codec = registered_codec(settings)
    plan = Plan(
        role="worker",
        group=GROUP,
        stages=stages(Restorer(settings, codec), settings.signals),
        static_member=f"{GROUP}-{settings.slot}",
    )
    host = ChunkHost(settings, codec, plan)
    return await host.run(stop, run_clock(host, topic_name(CLOCK, settings.kafka)))


def stages(restorer: Restorer, signals: SignalSettings) -> tuple[Stage, ...]:
    """The worker's machines and what they read."""
    bars, reference = ColumnBars(), ColumnReferences()
    bar_signals, imbalance = BarSignals(signals), ColumnImbalance(signals)
    return (
        Stage(
            name="bars",
            machine=bars,
            inputs=(MARKET_TRADES, MARKET_STATUS),
            barriers=(CLOCK,),
            restore=bars.adopted(restorer.bars(bars, "bars")),
        ),
        Stage(
            name="reference",
            machine=reference,
            inputs=(MARKET_QUOTES, MARKET_TRADES, MARKET_STATUS),
            restore=restorer.folded(reference, MARKET_STATUS, TAIL_STATUS),
            paced=reference,
        ),
        Stage(
            name="bar-signals",
            machine=bar_signals,
            inputs=(MARKET_BARS,),
            restore=restorer.folded(bar_signals, MARKET_BARS, TAIL_BARS),
        ),
        Stage(
            name="imbalance",
            machine=imbalance,
            inputs=(MARKET_QUOTES,),
            restore=restorer.held(imbalance, "imbalance", MARKET_QUOTES),
        ),
    )
