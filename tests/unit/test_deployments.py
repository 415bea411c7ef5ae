"""prefect.yaml: what every deployment has."""

from typing import Any

import yaml

from flows.settings import PROJECT

DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load((PROJECT / "prefect.yaml").read_text())["deployments"]


def test_every_deployment_has_the_projects_tag_and_every_extract_that_of_its_source() -> None:
    expected = {
        entry["name"]: ["baton"]
        + ([f"source:{entry['parameters']['source']}"] if entry["entrypoint"].startswith("flows/extract.py") else [])
        for entry in DEPLOYMENTS
    }
    assert {entry["name"]: entry["tags"] for entry in DEPLOYMENTS} == expected
