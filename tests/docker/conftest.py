"""The files of docker/, read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

import jointsearch

ROOT = Path(jointsearch.__file__).parents[1]


@pytest.fixture(scope="session")
def folder() -> Path:
    return ROOT / "docker"


@pytest.fixture(scope="session")
def compose(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "compose.yaml").read_text())
    return loaded


@pytest.fixture(scope="session")
def gpu(folder: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((folder / "compose.gpu.yaml").read_text())
    return loaded


@pytest.fixture(scope="session")
def manifests(folder: Path) -> list[dict[str, Any]]:
    """Every Kubernetes object of the base."""
    base = folder / "kubernetes" / "base"
    files = sorted(set(base.glob("*.yaml")) - {base / "kustomization.yaml"})
    return [loaded for file in files for loaded in yaml.safe_load_all(file.read_text())]
