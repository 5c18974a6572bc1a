"""What the files of docker/ name exists: commands, extras, images, databases; and no password is in them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from sqlalchemy.engine import make_url

from fixtures.pages import check_command, command_lines
from jointsearch.cli import cli

Manifest = dict[str, Any]

SECRET_NAME = re.compile(r"PASSWORD|TOKEN|SECRET|KEY", re.IGNORECASE)
DEFAULT = re.compile(r"\$\{\w+:-([^}]*)\}")
"""A variable of Compose with its default."""
FROM_OUTSIDE = re.compile(r"\$\{\w+(:-)?\}")
"""A variable of Compose without a default."""
VARIABLE = re.compile(r"\$\(?(JOINTSEARCH_\w+)\)?")
"""A variable of a container, as Kubernetes or its shell puts it in."""


def pods(manifests: list[Manifest]) -> list[Manifest]:
    return [m["spec"]["template"]["spec"] for m in manifests if "template" in m.get("spec", {})]


def containers(manifests: list[Manifest]) -> list[Manifest]:
    return [c for pod in pods(manifests) for c in (*pod.get("initContainers", []), *pod["containers"])]


def test_commands_of_compose(compose: Manifest) -> None:
    commands = {
        name: service["command"] for name, service in compose["services"].items() if name != "postgres"
    }
    assert commands.keys() == {"create", "worker", "dashboard"}
    for words in commands.values():
        check_command([DEFAULT.sub(r"\1", word) for word in words])


def test_commands_of_kubernetes(manifests: list[Manifest]) -> None:
    ours = [c for c in containers(manifests) if c["image"].startswith("jointsearch")]
    arguments = [c["args"] for c in ours if "args" in c]
    scripts = [line for c in ours if "command" in c for line in command_lines(c["command"][-1])]
    assert len(arguments) == 3
    assert len(scripts) == 1
    [settings] = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    for words in (*arguments, *scripts):
        check_command([VARIABLE.sub(lambda found: settings[found[1]], word) for word in words])
    assert settings["JOINTSEARCH_STUDY"] == settings["JOINTSEARCH_STUDY_FILE"] == "quickstart"


def test_commands_of_the_dockerfile_the_script_and_the_page(folder: Path) -> None:
    dockerfile = (folder / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["jointsearch"]' in dockerfile
    assert 'CMD ["--help"]' in dockerfile
    script = command_lines((folder / "try-image.sh").read_text())
    assert ["doctor"] in script
    page = command_lines((folder / "README.md").read_text())
    assert page
    for words in (*script, *page):
        check_command(words)


@pytest.mark.parametrize(
    "words", ["worker", "worker quickstart --gpus 2", "study make quickstart", "work", "study create a b"]
)
def test_a_command_that_does_not_exist_would_be_found(words: str) -> None:
    with pytest.raises(click.UsageError):
        check_command(words.split())


def test_the_extras_of_the_image_exist(folder: Path) -> None:
    extras = re.search(r"^ARG EXTRAS=(\S+)$", (folder / "Dockerfile").read_text(), re.MULTILINE)
    assert extras
    project = tomllib.loads((folder.parent / "pyproject.toml").read_text())["project"]
    wanted = set(extras[1].split(","))
    if "dashboard" not in cli.commands:
        wanted.remove("dashboard")
    assert "postgres" in wanted
    assert wanted <= set(project["optional-dependencies"])


def test_what_the_image_copies_is_in_its_context(folder: Path) -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (folder / "Dockerfile").read_text(), re.MULTILINE)
    allowed = re.findall(r"^!(.+)$", (folder.parent / ".dockerignore").read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == set(allowed)
    assert all((folder.parent / source).exists() for source in sources)


def test_images_have_the_names_that_are_built(
    folder: Path, compose: Manifest, gpu: Manifest, manifests: list[Manifest]
) -> None:
    built = set(re.findall(r"^#.*docker build .*-t (\S+)", (folder / "Dockerfile").read_text(), re.MULTILINE))
    assert built == {"jointsearch:cpu", "jointsearch:cuda"}
    services = compose["services"]
    assert {services[name]["image"] for name in services if name != "postgres"} == {"jointsearch:cpu"}
    assert {service["image"] for service in gpu["services"].values()} == {"jointsearch:cuda"}
    kubernetes = {container["image"] for container in containers(manifests)}
    assert kubernetes == {"jointsearch", services["postgres"]["image"]}
    tags = {}
    for path in (folder / "kubernetes").glob("*/kustomization.yaml"):
        for image in yaml.safe_load(path.read_text()).get("images", []):
            tags[path.parent.name] = f"{image['name']}:{image['newTag']}"
    assert tags == {"cpu": "jointsearch:cpu", "cuda": "jointsearch:cuda"}


def test_the_storage_is_the_server_s_database(compose: Manifest, manifests: list[Manifest]) -> None:
    services = compose["services"]
    [settings] = [m["data"] for m in manifests if m["kind"] == "ConfigMap"]
    [stateful] = [m for m in manifests if m["kind"] == "StatefulSet"]
    server = stateful["spec"]["template"]["spec"]["containers"][0]
    sides = [
        (services[name]["environment"], services["postgres"]["environment"])
        for name in ("create", "worker", "dashboard")
    ]
    sides.append((settings, {entry["name"]: entry["value"] for entry in server["env"]}))
    for client, of_server in sides:
        url = make_url(client["JOINTSEARCH_STORAGE"])
        assert (url.drivername, url.host) == ("postgresql", "postgres")
        assert url.username == of_server["POSTGRES_USER"]
        assert url.database == of_server["POSTGRES_DB"]


def secrets_in(loaded: object, name: str = "") -> Iterator[str]:
    """Values that stand under a secret's name, or in a URL, anywhere in a file."""
    if isinstance(loaded, dict):
        if loaded.get("kind") == "Secret":
            yield str(loaded)
        for key, value in loaded.items():
            # env: [{name: X, value: Y}]
            yield from secrets_in(value, loaded["name"] if key == "value" and "name" in loaded else str(key))
    elif isinstance(loaded, list):
        for value in loaded:
            pair = str(value).partition("=")
            yield from secrets_in(pair[2], pair[0]) if pair[1] and SECRET_NAME.search(pair[0]) else ()
            yield from secrets_in(value, name)
    elif isinstance(loaded, str):
        if re.search(r"://[^/@\s]*:[^/@\s]+@", loaded):
            yield loaded
        # a path, the name of a key and the name of a secret are no secrets
        is_variable = SECRET_NAME.search(name) and name.isupper() and not name.endswith("_FILE")
        if is_variable and loaded and not FROM_OUTSIDE.fullmatch(loaded):
            yield loaded


def test_no_password_stands_in_a_file(
    folder: Path, compose: Manifest, gpu: Manifest, manifests: list[Manifest]
) -> None:
    assert list(secrets_in([compose, gpu, *manifests])) == []
    for line in (folder / "Dockerfile").read_text().splitlines():
        if line.startswith(("ENV", "ARG")):
            assert not SECRET_NAME.search(line), line
    assert "docker/.env" in (folder.parent / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(
    "broken",
    [
        {"environment": {"POSTGRES_PASSWORD": "hush"}},
        {"environment": ["JOINTSEARCH_DASHBOARD_TOKEN=hush"]},
        {"env": [{"name": "POSTGRES_PASSWORD", "value": "hush"}]},
        {"data": {"JOINTSEARCH_STORAGE": "postgresql://jointsearch:hush@postgres/jointsearch"}},
        {"kind": "Secret", "data": {"postgres-password": "aHVzaA=="}},
    ],
)
def test_a_password_in_a_file_would_be_found(broken: object) -> None:
    assert list(secrets_in([broken]))
