"""docker/docker-compose.yml: who can reach what, and what is no default value."""

from typing import Any

import yaml

from tests.support.paths import COMPOSE_FILE

COMPOSE: dict[str, Any] = yaml.safe_load(COMPOSE_FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ROLES = ["server-0", "server-1", "worker-0", "worker-1"]


def test_kafka_and_the_jobs_parts_are_in_a_network_that_leads_nowhere_else() -> None:
    assert COMPOSE["networks"]["job"] == {"internal": True}
    inside = {name for name, service in SERVICES.items() if service["networks"] == ["job"]}
    assert inside == set(SERVICES) - {"serve"}


def test_each_part_is_asked_for_its_health() -> None:
    for role in ROLES:
        assert SERVICES[role]["healthcheck"]["test"][:3] == ["CMD", "streamtrain", "health"]
    assert SERVICES["bridge"]["healthcheck"]["test"][-2:] == ["--part", "bridge"]


def test_serve_alone_is_published_and_cannot_reach_the_job() -> None:
    assert {name for name, service in SERVICES.items() if "ports" in service} == {"serve"}
    assert SERVICES["serve"]["networks"] == ["outside"]
    assert SERVICES["serve"]["ports"] == ["${STREAMTRAIN_SERVE:-127.0.0.1:8000}:8000"]


def test_every_role_and_nothing_else_gets_the_secret_which_has_no_default() -> None:
    given = {name for name, service in SERVICES.items() if "STREAMTRAIN_SECRET" in service.get("environment", {})}
    assert given == set(ROLES)
    for role in ROLES:
        assert SERVICES[role]["environment"]["STREAMTRAIN_SECRET"].startswith("${STREAMTRAIN_SECRET:?")
    example = (COMPOSE_FILE.parent / ".env.example").read_text().splitlines()
    assert "STREAMTRAIN_SECRET=" in example
