"""Users' own processes trade on a secured platform, from environments without skeet; a second tenant gets nowhere."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from installation import Installation, eventually

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EXAMPLES = Path(__file__).parents[2] / "examples"
ORDERS = 4
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def secured() -> Iterator[Installation]:
    """A secured platform with two tenants; acme's account bob has money."""
    data = Path(tempfile.mkdtemp(prefix="skeet-e2e-secured-"))
    data.chmod(0o755)
    installed = Installation(data)
    try:
        installed.skeet("up", "--secure")
        for tenant in ("acme", "globex"):
            installed.skeet("tenant", "create", tenant)
        installed.skeet("account", "create", "bob", "--tenant", "acme")
        installed.skeet("account", "deposit", "bob", "USDT", "100000", "--tenant", "acme")
        yield installed
    finally:
        installed.skeet("down", expect=None)
        shutil.rmtree(data, ignore_errors=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """A Python of its own that has a Kafka client and an Avro library, and no skeet."""
    home = tmp_path_factory.mktemp("external") / "venv"
    venv.create(home, with_pip=True)
    own = str(home / "bin" / "python")
    subprocess.run(
        [own, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "confluent-kafka", "fastavro"],
        check=True,
        timeout=120,
    )
    assert subprocess.run([own, "-I", "-c", "import skeet"], capture_output=True, check=False).returncode == 1
    return [own, "-I", str(EXAMPLES / "external_strategy.py")]


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The JavaScript example with what its lock file names, in a folder of its own."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("no Node.js on this machine")
    home = tmp_path_factory.mktemp("external-js")
    for name in ("external_strategy.mjs", "package.json", "package-lock.json"):
        shutil.copy(EXAMPLES / name, home)
    subprocess.run(["npm", "ci", "--silent"], cwd=home, check=True, timeout=120)
    return ["node", str(home / "external_strategy.mjs")]


def arguments(installed: Installation, tenant: str) -> list[str]:
    """What a user of the tenant is given: addresses, and the file of its password."""
    kafka = installed.json("connect", "kafka")
    (row,) = [row for row in installed.json("tenant", "list") if row["tenant"] == tenant]
    return [
        *("--bootstrap", kafka["bootstrap"], "--registry", kafka["registry"], "--tenant", tenant, "--account", "bob"),
        *("--password-file", row["password_file"], "--orders", str(ORDERS)),
    ]


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("language", ["python", "node"])
def test_a_process_without_skeet_trades(secured: Installation, language: str, request: pytest.FixtureRequest) -> None:
    command: list[str] = request.getfixturevalue(language)
    # Nothing of this environment: no PYTHONPATH, no SKEET_ variable.
    done = subprocess.run(
        [*command, *arguments(secured, "acme"), "--seconds", str(PATIENCE_S)],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = lines(done.stdout)
    filled = [line for line in printed if line["what"] == "filled"]
    forwarded = {line["order"] for line in printed if line["what"] == "forwarded"}
    assert len({line["order"] for line in filled}) >= ORDERS
    assert {line["order"] for line in filled} <= forwarded
    assert {line["side"] for line in filled} == {"BUY", "SELL"}


def test_a_second_tenant_is_refused_with_an_event_and_trades_nothing(secured: Installation, python: list[str]) -> None:
    before = orders_of_bob(secured)
    with subprocess.Popen([*python, *arguments(secured, "globex")], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        refused = next(line for line in map(json.loads, process.stdout) if line["what"] == "refused")
        process.kill()
    assert refused["reasons"] == ["account: the account is not open"]
    assert orders_of_bob(secured) == before


def test_a_tenant_that_names_another_topic_is_stopped_by_the_broker(secured: Installation, python: list[str]) -> None:
    """The second tenant's credential, the first tenant's topics."""
    words = arguments(secured, "globex")
    kafka, password = words[1], words[words.index("--password-file") + 1]
    script = f"""
from pathlib import Path
from confluent_kafka import Producer
said = []
client = Producer({{"bootstrap.servers": "{kafka}", "security.protocol": "SASL_PLAINTEXT",
    "sasl.mechanisms": "SCRAM-SHA-512", "sasl.username": "t.globex", "sasl.password": Path("{password}").read_text()}})
for topic in ("skeet.t.acme.commands.v1", "skeet.venue.reports.v1", "skeet.accounts.events.v1"):
    client.produce(topic, b"forged", key=b"bob", on_delivery=lambda error, _: said.append(error.name()))
client.flush(20)
print(*said)
"""
    done = subprocess.run([python[0], "-I", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == ["TOPIC_AUTHORIZATION_FAILED"] * 3


def test_no_password_is_in_a_command_line_a_log_or_what_the_cli_prints(secured: Installation) -> None:
    passwords = [path.read_text() for path in (secured.data / "secrets" / "kafka").iterdir()]
    assert len(passwords) > 10
    shown = secured.skeet("connect", "kafka").stdout + secured.skeet("config", "show").stdout
    logs = "".join(path.read_text(errors="replace") for path in (secured.data / "logs").iterdir())
    ours = subprocess.run(["ps", "-eo", "args", "-ww"], capture_output=True, text=True, check=True).stdout
    assert not [place for place, text in (("cli", shown), ("logs", logs), ("ps", ours)) for p in passwords if p in text]


@pytest.mark.acceptance
def test_the_demo_runs_secured_and_everything_agrees(secured: Installation) -> None:
    report = secured.json("demo", "--for", "20")
    assert report["complaints"] == []
    assert all(int(book["orders"]) for book in report["books"])


def orders_of_bob(installed: Installation) -> Any:
    """What Postgres knows of the account's orders, once it stands still."""
    seen: list[Any] = []

    def still() -> Any:
        rows = installed.json("account", "show", "bob")
        seen.append(rows)
        return len(seen) > 1 and seen[-1] == seen[-2] and rows

    return eventually(still, PATIENCE_S, "an account at rest")
