"""What the project is built and checked with fits together: dependencies, tested versions, hooks, CI."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

WORKFLOW = ROOT / ".github" / "workflows" / "ci.yaml"


def requirements() -> Iterator[Requirement]:
    extras = PROJECT["optional-dependencies"].values()
    for line in (*PROJECT["dependencies"], *(line for lines in extras for line in lines)):
        found = Requirement(line)
        if found.name != PROJECT["name"]:
            yield found


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


def test_every_dependency_has_a_tested_version_in_its_range() -> None:
    versions = pinned()
    for found in requirements():
        assert canonicalize_name(found.name) in versions, found
        assert found.specifier.contains(versions[canonicalize_name(found.name)]), found


def test_tested_versions_stand_once_and_in_order() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[1:]
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(set(names))


def test_ci_runs_on_the_versions_that_are_claimed() -> None:
    job = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]["ci"]
    claimed = [
        found[1]
        for line in PROJECT["classifiers"]
        if (found := re.fullmatch(r"Programming Language :: Python :: (3\.\d+)", line))
    ]
    assert job["strategy"]["matrix"]["python"] == claimed
    assert PROJECT["requires-python"] == f">={claimed[0]}"
    assert {"run": ".ci/run"} in job["steps"]


def check(*words: str) -> None:
    finished = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr


def test_the_workflow_is_one() -> None:
    check("check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(WORKFLOW))


def test_the_hooks_are_hooks_of_installed_tools() -> None:
    check("pre_commit", "validate-config")
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    tools = {hook["entry"].split()[0] for hook in repository["hooks"]}
    assert tools == {".venv/bin/ruff", ".venv/bin/mypy"}
