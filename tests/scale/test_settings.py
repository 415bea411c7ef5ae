"""The env files, the Compose file and the charts' values name existing settings, and agree with each other."""

import json
import re
from pathlib import Path

import compose_spec
import pytest
import yaml
from prefect.settings import Settings
from prefect.settings.legacy import _get_valid_setting_names
from prefect_redis.client import RedisMessagingSettings
from prefect_redis.messaging import RedisMessagingPublisherSettings

from flows.settings import PROJECT
from flows.settings import Settings as BatonSettings

STACK = PROJECT / "stack"
FILES = (STACK / "deploy" / "settings.env", STACK / "deploy" / "server.env", STACK / "deploy" / "client.env")
COMPOSE = (STACK / "deploy" / "compose.yaml").read_text()


def names_in(file: Path) -> set[str]:
    return {line.partition("=")[0] for line in file.read_text().splitlines() if line and not line.startswith("#")}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_name_in_an_env_file_is_a_setting(file: Path) -> None:
    known = _get_valid_setting_names(Settings)
    known |= {f"PREFECT_REDIS_MESSAGING_{name.upper()}" for name in RedisMessagingSettings.model_fields}
    known |= {
        f"PREFECT_REDIS_MESSAGING_PUBLISHER_{name.upper()}" for name in RedisMessagingPublisherSettings.model_fields
    }
    known |= {f"BATON_{name.upper()}" for name in BatonSettings.model_fields}
    known |= {"AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "DO_NOT_TRACK"}
    assert names_in(file) - known == set()


def test_every_setting_for_the_servers_has_its_reason_above_it() -> None:
    lines = FILES[1].read_text().splitlines()
    bare = [line for before, line in zip(["", *lines], lines, strict=False) if "=" in line and before == ""]
    assert [line for line in bare if not line.startswith("#")] == []


def test_the_compose_file_is_one_and_what_it_names_is_there() -> None:
    content = yaml.safe_load(COMPOSE)
    compose = compose_spec.PyCompose.from_json(json.dumps(content))
    compose.validate()
    services = content["services"]
    assert services.keys() >= {"postgres", "redis", "objects", "migrate", "server", "services", "worker"}
    assert (services["server"]["deploy"]["replicas"], services["worker"]["deploy"]["replicas"]) == (2, 4)
    for name, service in services.items():
        assert set(service.get("depends_on", [])) <= services.keys(), name
        assert all((STACK / "deploy" / file).exists() for file in service.get("env_file", [])), name
        assert {volume.split(":")[0] for volume in service.get("volumes", [])} <= content["volumes"].keys(), name
    assert (PROJECT / content["x-baton"]["build"]["dockerfile"]).exists()


def test_what_the_compose_file_has_to_be_told_is_in_the_example_of_its_env_file() -> None:
    texts = [COMPOSE, *(file.read_text() for file in FILES)]
    wanted = {name for text in texts for name in re.findall(r"\$\{(\w+)", text)}
    example = STACK / "deploy" / ".env.example"
    assert wanted <= names_in(example) | {"names"}
    # Users fill in the four passwords, and everything else follows from them; no password is shipped.
    filled = dict(line.split("=", 1) for line in example.read_text().splitlines() if "=" in line and line[0] != "#")
    assert [filled[name] for name in ("POSTGRES_PASSWORD", "REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY")] == ["", "", ""]
    assert filled["PREFECT_API_AUTH_STRING"] == "baton:"


def test_the_charts_values_are_for_the_same_servers_and_workers() -> None:
    server = yaml.safe_load((STACK / "deploy" / "helm" / "prefect-server.yaml").read_text())
    worker = yaml.safe_load((STACK / "deploy" / "helm" / "prefect-worker.yaml").read_text())["worker"]
    assert (server["server"]["replicaCount"], server["backgroundServices"]["replicaCount"]) == (2, 1)
    assert server["backgroundServices"]["runAsSeparateDeployment"] is True
    assert (worker["replicaCount"], worker["config"]["type"], worker["config"]["workPool"]) == (4, "process", "baton")


def test_every_file_and_variable_of_the_page_exists() -> None:
    page = (PROJECT / "docs" / "scale.md").read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)", page) if "://" not in link]
    assert links
    assert [link for link in links if not (PROJECT / "docs" / link).exists()] == []
    ours = {f"BATON_{name.upper()}" for name in BatonSettings.model_fields}
    assert set(re.findall(r"BATON_[A-Z_]+", page)) <= ours | {"BATON_POSTGRES_URL", "BATON_REDIS_URL"}
