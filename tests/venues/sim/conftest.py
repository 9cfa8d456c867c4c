"""The simulated exchange as its own process, and accounts on it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import pytest

from skeet.venues.sim.ccxt_settings import ccxt_settings

TOKEN = "test-admin-token"
START_DEADLINE_S = 30.0


class SimProcess:
    """``skeet run sim`` on a free port; can be killed and started again on the same data directory."""

    def __init__(self, data: Path, **settings: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.data = data
        self._environment = os.environ | {
            "SKEET_DATA": str(data),
            "SKEET_SIM__URL": self.url,
            "SKEET_SIM__ADMIN_TOKEN": TOKEN,
            "SKEET_SIM__HISTORY_DAYS": "0",
            "SKEET_SIM__HISTORY_TRADES_MINUTES": "0",
            **settings,
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> SimProcess:
        """Start and wait until it answers."""
        with (self.data / "sim.log").open("ab") as log:
            command = [sys.executable, "-m", "skeet", "run", "sim"]
            self._process = subprocess.Popen(command, env=self._environment, stderr=log, stdout=log)
        deadline = time.monotonic() + START_DEADLINE_S
        while time.monotonic() < deadline:
            assert self._process.poll() is None, (self.data / "sim.log").read_text()
            try:
                self.get("/api/v3/ping")
                return self
            except URLError:
                time.sleep(0.02)
        raise AssertionError(f"the exchange does not answer within {START_DEADLINE_S} s")

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        code = self._process.wait(20)
        self._process = None
        return code

    def get(self, path: str) -> Any:
        """A GET without authentication, or with the admin token for ``/sim/v1``."""
        return self._call(Request(self.url + path, headers={"Authorization": f"Bearer {TOKEN}"}))

    def admin(self, route: str, **body: Any) -> dict[str, Any]:
        """A POST to the administration."""
        request = Request(f"{self.url}/sim/v1/{route}", json.dumps(body).encode(), {"Authorization": f"Bearer {TOKEN}"})
        answer: dict[str, Any] = self._call(request)
        return answer

    def settings(self, account: str, **funds: str) -> dict[str, Any]:
        """ccxt's settings for an account that is created and funded on the way."""
        keys = self.admin("accounts", account=account)
        for asset, amount in funds.items():
            self.admin("transfers", account=account, asset=asset, amount=amount, client_key=f"first-{asset}")
        addresses = ccxt_settings(self.url, self.url.replace("http", "ws"))
        return {**addresses, "apiKey": keys["api_key"], "secret": keys["secret"], "enableRateLimit": False}

    @staticmethod
    def _call(request: Request) -> Any:
        try:
            with urlopen(request, timeout=10) as answer:
                return json.load(answer)
        except HTTPError as error:
            return {"status": error.code, **json.load(error)}


@pytest.fixture(scope="module")
def sim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimProcess]:
    """One lively exchange per test module."""
    process = SimProcess(
        tmp_path_factory.mktemp("sim"), SKEET_SIM__SPEED="20", SKEET_SIM__HISTORY_TRADES_MINUTES="3"
    ).start()
    yield process
    process.stop()
