"""The Compose files against the schema of the Compose specification, and against each other."""

from __future__ import annotations

import copy
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator, ValidationError

from jointsearch.dashboard.router import HEALTH

Compose = dict[str, Any]


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    """Of github.com/compose-spec, as check-jsonschema carries it."""
    path = files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    loaded = json.loads(path.read_text(encoding="utf-8"))
    assert loaded["title"] == "Compose Specification"
    return Draft202012Validator(loaded)


def test_the_files_fit_the_specification(
    schema: Draft202012Validator, compose: Compose, gpu: Compose
) -> None:
    schema.validate(compose)
    schema.validate(gpu)


@pytest.mark.parametrize(
    ("keys", "value", "reason"),
    [
        (("services", "worker", "comand"), ["worker"], "comand"),
        (("services", "worker", "depends_on", "create", "condition"), "service_done", "service_done"),
        (("services", "postgres", "healthcheck", "retries"), [12], "12"),
        (("services", "dashboard", "cap_drop"), "ALL", "ALL"),
        (("volume",), {"cache": None}, "volume"),
    ],
)
def test_a_mistake_would_be_found(
    schema: Draft202012Validator, compose: Compose, keys: tuple[str, ...], value: object, reason: str
) -> None:
    broken: Any = copy.deepcopy(compose)
    place = broken
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(ValidationError, match=reason):
        schema.validate(broken)


def test_the_gpu_file_reserves_gpus_for_the_workers_of_the_other(
    schema: Draft202012Validator, compose: Compose, gpu: Compose
) -> None:
    assert set(gpu["services"]) == set(compose["services"]) - {"postgres"}
    devices = gpu["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"]
    assert [(device["driver"], device["capabilities"]) for device in devices] == [("nvidia", ["gpu"])]
    broken = copy.deepcopy(gpu)
    del broken["services"]["worker"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
    with pytest.raises(ValidationError, match="'capabilities' is a required property"):
        schema.validate(broken)


def test_services_wait_for_services_that_end_or_are_healthy(compose: Compose) -> None:
    services = compose["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert "restart" not in services[name]
    assert services["worker"]["depends_on"].keys() == {"create"}
    assert services["create"]["depends_on"].keys() == {"postgres"}


def test_a_scaled_service_has_nothing_that_only_one_container_can_have(compose: Compose) -> None:
    assert not {"container_name", "ports", "hostname"} & set(compose["services"]["worker"])


def test_every_secret_and_volume_is_declared_and_the_password_is_where_it_is_looked_for(
    compose: Compose,
) -> None:
    for name, service in compose["services"].items():
        assert service["secrets"] == list(compose["secrets"])
        variable = "POSTGRES_PASSWORD_FILE" if name == "postgres" else "JOINTSEARCH_STORAGE_PASSWORD_FILE"
        assert service["environment"][variable] == f"/run/secrets/{service['secrets'][0]}"
        named = {volume.partition(":")[0] for volume in service["volumes"]} - {
            "${JOINTSEARCH_STUDIES"  # a folder of the host
        }
        assert named <= set(compose["volumes"])


def test_what_is_missing_is_said_before_anything_starts(folder: Path) -> None:
    """Compose puts variables in first; a secret from an unset one would fail when containers are made."""
    text = (folder / "compose.yaml").read_text()
    required = set(re.findall(r"\$\{(\w+):\?", text))
    without_default = set(re.findall(r"\$\{(\w+)\}", text))
    from_environment = {secret["environment"] for secret in yaml.safe_load(text)["secrets"].values()}
    assert required == without_default | from_environment
    made = re.search(r"printf '(.*)' .* > docker/.env", (folder / "README.md").read_text())
    assert made
    assert set(re.findall(r"([A-Z_]+)=", made[1])) == required


def test_the_dashboard_is_asked_for_its_health_where_it_answers(compose: Compose) -> None:
    dashboard = compose["services"]["dashboard"]
    port = dashboard["command"][dashboard["command"].index("--port") + 1]
    assert f"http://127.0.0.1:{port}{HEALTH}" in dashboard["healthcheck"]["test"][-1]
