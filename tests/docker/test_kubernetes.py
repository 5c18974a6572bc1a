"""The Kubernetes manifests against the schemas of Kubernetes, and against each other."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

Manifest = dict[str, Any]

VERSIONS = ("1.33", "1.37")
"""The first in which all that the manifests use is stable, and the newest that the package knows."""


def named(manifests: list[Manifest], kind: str, name: str) -> Manifest:
    found = [m for m in manifests if (m["kind"], m["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1
    return found[0]


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """The pod templates by the name of what makes them."""
    return {
        m["metadata"]["name"]: m["spec"]["template"] for m in manifests if "template" in m.get("spec", {})
    }


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_manifest_fits_its_schema(manifests: list[Manifest], version: str) -> None:
    checked = {}
    for manifest in manifests:
        checked[manifest["kind"], manifest["metadata"]["name"]] = kubernetes_validate.validate(
            manifest, version, strict=True
        )
    assert checked == dict.fromkeys(
        [
            ("StatefulSet", "postgres"),
            ("Service", "postgres"),
            ("ConfigMap", "jointsearch"),
            ("Job", "create"),
            ("Job", "workers"),
            ("Deployment", "dashboard"),
            ("Service", "dashboard"),
        ],
        version,
    )


@pytest.mark.parametrize(
    ("kind", "name", "keys", "value"),
    [
        ("Job", "workers", ("spec", "completionMod"), "Indexed"),
        ("Job", "workers", ("spec", "parallelism"), "four"),
        ("Job", "create", ("spec", "template", "spec", "containers", 0, "arg"), ["study"]),
        ("StatefulSet", "postgres", ("spec", "serviceName"), 5432),
        ("Deployment", "dashboard", ("spec", "template", "spec", "containers", 0, "ports"), 8080),
        ("Service", "dashboard", ("spec", "ports", 0, "port"), "http"),
        ("ConfigMap", "jointsearch", ("data", "JOINTSEARCH_STORAGE"), ["postgresql://postgres"]),
    ],
)
def test_a_mistake_would_be_found(
    manifests: list[Manifest], kind: str, name: str, keys: tuple[str | int, ...], value: object
) -> None:
    broken: Any = copy.deepcopy(named(manifests, kind, name))
    place = broken
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_a_kind_that_kubernetes_does_not_have_would_be_found() -> None:
    with pytest.raises(kubernetes_validate.SchemaNotFoundError):
        kubernetes_validate.validate({"apiVersion": "batch/v1", "kind": "Jobs"}, VERSIONS[-1], strict=True)


def test_selectors_choose_the_pods_that_are_made(manifests: list[Manifest]) -> None:
    labels = {name: pod["metadata"]["labels"] for name, pod in pods(manifests).items()}
    for name in ("postgres", "dashboard"):
        service = named(manifests, "Service", name)
        assert service["spec"]["selector"] == labels[name]
        ports = {port["name"] for port in pods(manifests)[name]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    assert (
        named(manifests, "Deployment", "dashboard")["spec"]["selector"]["matchLabels"] == labels["dashboard"]
    )
    postgres = named(manifests, "StatefulSet", "postgres")["spec"]
    assert postgres["selector"]["matchLabels"] == labels["postgres"]
    assert postgres["serviceName"] == "postgres"


def test_mounts_are_volumes_of_their_pod(manifests: list[Manifest]) -> None:
    for manifest in manifests:
        if "template" not in manifest.get("spec", {}):
            continue
        pod = manifest["spec"]["template"]
        volumes = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        volumes |= {claim["metadata"]["name"] for claim in manifest["spec"].get("volumeClaimTemplates", [])}
        mounted = {mount["name"] for each in containers(pod) for mount in each.get("volumeMounts", [])}
        assert mounted == volumes


def test_the_password_is_where_it_is_looked_for(manifests: list[Manifest]) -> None:
    settings = named(manifests, "ConfigMap", "jointsearch")["data"]
    readers = 0
    for pod in pods(manifests).values():
        secrets = {v["name"]: v["secret"] for v in pod["spec"]["volumes"] if "secret" in v}
        for container in containers(pod):
            environment = {entry["name"]: entry.get("value") for entry in container.get("env", [])}
            if "envFrom" in container:
                assert container["envFrom"] == [{"configMapRef": {"name": "jointsearch"}}]
                environment |= settings
            wanted = {value for name, value in environment.items() if name.endswith("PASSWORD_FILE")}
            mounted = {
                f"{mount['mountPath']}/{item['path']}"
                for mount in container.get("volumeMounts", [])
                if mount["name"] in secrets
                for item in secrets[mount["name"]]["items"]
            }
            assert mounted == wanted
            readers += len(wanted)
    assert readers == 5  # the server, the creator, the workers and who waits for them, the dashboard


def test_pods_run_as_the_image_s_user_who_may_read_the_secret(
    manifests: list[Manifest], folder: Path
) -> None:
    uid = re.search(r"^ARG UID=(\d+)$", (folder / "Dockerfile").read_text(), re.MULTILINE)
    assert uid
    for name, pod in pods(manifests).items():
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["runAsUser"] == (999 if name == "postgres" else int(uid[1]))
        # a secret is root's: it is read through the group of the pod's volumes
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert context["fsGroup"] == context["runAsGroup"]
                assert volume["secret"]["defaultMode"] == 0o440
        for container in containers(pod):
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }


def test_workers_are_as_many_as_run_at_once_with_a_gpu_each_and_time_to_drain(
    manifests: list[Manifest], compose: dict[str, Any]
) -> None:
    spec = named(manifests, "Job", "workers")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which backoffLimitPerIndex asks for
    assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert pod["shareProcessNamespace"] is True
    assert (
        f"{pod['terminationGracePeriodSeconds'] // 60}m" == compose["services"]["worker"]["stop_grace_period"]
    )
