"""A stop that comes before the group has given partitions: Faust's start would wait for them, and the brokers may be away."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from skeet.core.errors import InfrastructureError
from skeet.process import StopSignal
from skeet.streams.batches import running
from skeet.streams.batches.running import run_app
from skeet.streams.faust_app import FaustHost

DEADLINE_S = 10.0


class Joining:
    """An application whose group never gives partitions."""

    _crash_reason = None

    def __init__(self) -> None:
        self._crashed = asyncio.Event()
        self.stopped = False

    async def start(self) -> None:
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.stopped = True


class Broken(Joining):
    """One that cannot start."""

    async def start(self) -> None:
        raise InfrastructureError("no broker")


class Host(FaustHost):
    """A host with nothing but its application."""

    def __init__(self, app: Joining) -> None:
        self._app = app
        self._failed = asyncio.get_running_loop().create_future()

    def _jobs(self, side_tasks: Any) -> Any:
        return side_tasks

    async def _announce(self) -> None:
        """Never: it has no partitions."""

    async def _finish(self) -> None:
        """Nothing was begun."""


def app_runs(app: Joining, stop: StopSignal) -> Any:
    return run_app(app, stop)


def host_runs(app: Joining, stop: StopSignal) -> Any:
    return Host(app).run(stop)


@pytest.mark.parametrize("run", [app_runs, host_runs])
async def test_a_stop_does_not_wait_for_partitions(run: Any) -> None:
    app, stop = Joining(), StopSignal()
    going = asyncio.ensure_future(run(app, stop))
    await asyncio.sleep(0)
    assert not going.done()
    stop.stop()
    assert await asyncio.wait_for(going, DEADLINE_S) == 0
    assert app.stopped


@pytest.mark.parametrize("run", [app_runs, host_runs])
async def test_what_cannot_start_ends_with_its_error(run: Any) -> None:
    app = Broken()
    with pytest.raises(InfrastructureError, match="no broker"):
        await asyncio.wait_for(run(app, StopSignal()), DEADLINE_S)
    assert app.stopped


async def test_a_group_that_gives_no_partitions_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "JOIN_DEADLINE_S", 0.01)
    with pytest.raises(InfrastructureError, match="no partitions were assigned"):
        await asyncio.wait_for(run_app(Joining(), StopSignal()), DEADLINE_S)
