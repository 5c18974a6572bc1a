"""The Kubernetes manifests against the schemas of Kubernetes, and against each other."""

from __future__ import annotations

import copy
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from jointsearch.dashboard.router import HEALTH

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
            ("PersistentVolumeClaim", "cache"),
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
            environment = {entry["name"]: entry.get("value") or "" for entry in container.get("env", [])}
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


def test_workers_are_as_many_as_run_at_once_with_time_to_drain(
    manifests: list[Manifest], compose: dict[str, Any]
) -> None:
    spec = named(manifests, "Job", "workers")["spec"]
    assert spec["completionMode"] == "Indexed"
    assert spec["completions"] == spec["parallelism"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # which backoffLimitPerIndex asks for
    assert pod["shareProcessNamespace"] is True
    assert (
        f"{pod['terminationGracePeriodSeconds'] // 60}m" == compose["services"]["worker"]["stop_grace_period"]
    )


def test_all_that_uses_the_hub_shares_a_cache_and_may_have_a_token(manifests: list[Manifest]) -> None:
    cached = {
        name
        for name, pod in pods(manifests).items()
        if {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}} in pod["spec"]["volumes"]
    }
    assert cached == {"create", "workers"}
    for name in cached:
        [token] = pods(manifests)[name]["spec"]["containers"][0]["env"]
        wanted = {"name": "jointsearch", "key": "hf-token", "optional": True}
        assert (token["name"], token["valueFrom"]["secretKeyRef"]) == ("HF_TOKEN", wanted)
    claim = named(manifests, "PersistentVolumeClaim", "cache")["spec"]
    assert claim["accessModes"] == ["ReadWriteMany"]


def test_the_dashboard_is_asked_for_its_health_where_it_answers(manifests: list[Manifest]) -> None:
    [container] = pods(manifests)["dashboard"]["spec"]["containers"]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert container[probe]["httpGet"] == {"path": HEALTH, "port": "http"}


def kustomization(folder: Path, name: str) -> Manifest:
    loaded: Manifest = yaml.safe_load((folder / "kubernetes" / name / "kustomization.yaml").read_text())
    return loaded


def test_the_base_is_made_of_all_its_files(folder: Path) -> None:
    files = {path.name for path in (folder / "kubernetes" / "base").glob("*.yaml")}
    assert {*kustomization(folder, "base")["resources"], "kustomization.yaml"} == files


@pytest.mark.skipif(not shutil.which("kubectl"), reason="needs kubectl")
@pytest.mark.parametrize(("overlay", "gpus"), [("cpu", None), ("cuda", 1)])
def test_overlays_name_the_image_once_and_give_gpus(folder: Path, overlay: str, gpus: int | None) -> None:
    command = ["kubectl", "kustomize", str(folder / "kubernetes" / overlay)]
    built = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    made = list(yaml.safe_load_all(built))
    for manifest in made:
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
    images = {c["image"] for pod in pods(made).values() for c in containers(pod)}
    assert {image for image in images if "postgres" not in image} == {f"jointsearch:{overlay}"}
    limits = pods(made)["workers"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits.get("nvidia.com/gpu") == gpus
