"""What most tests share: a small stored study without torch."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from optuna.storages import RDBStorage

from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study

if TYPE_CHECKING:
    pass

pytest_plugins = (
    "fixtures.commands",
    "fixtures.disks",
    "fixtures.families",
    "fixtures.postgres",
    "fixtures.processes",
)

# Tests run beside each other and beside their processes: threads that spin would starve these.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("JOINTSEARCH_STORAGE", None)  # a person's own


def pytest_configure(config: pytest.Config) -> None:
    """Nothing of what the tests tokenize and quantize stays, and nothing is there that another run left."""
    cache = tempfile.TemporaryDirectory()
    os.environ["HF_DATASETS_CACHE"] = os.environ["JOINTSEARCH_CACHE"] = cache.name
    config.add_cleanup(cache.cleanup)


def pytest_sessionstart() -> None:
    gc.disable()  # importing makes millions of objects that stay


def pytest_collection_finish() -> None:
    """A trial collects garbage: without what the tests import, which takes 0.4 s each time."""
    gc.collect()
    gc.freeze()
    gc.enable()


FIXTURES = Path(__file__).parent / "fixtures"

Configure = Callable[..., StudyConfig]
Create = Callable[..., StoredStudy]


@pytest.fixture(scope="session")
def layout() -> ModelLayout:
    return ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())


@pytest.fixture
def configure() -> Configure:
    """The small study's config (4 baselines, 10 trials, random), with other values for some sections."""
    config = read_study(FIXTURES / "study.yaml").model_dump(mode="json")

    def changed(**sections: Any) -> StudyConfig:
        values = dict(config)
        for name, value in sections.items():
            values[name] = {**values[name], **value} if isinstance(value, dict) else value
        return StudyConfig.model_validate(values)

    return changed


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/studies.db"


@pytest.fixture
def storage(url: str) -> Iterator[RDBStorage]:
    opened = open_storage(url, create=True)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def create(storage: RDBStorage, configure: Configure, layout: ModelLayout) -> Create:
    """A stored study of the small config with other values for some sections."""
    return lambda **sections: create_study(storage, configure(**sections), layout)


@pytest.fixture(scope="session")
def tensor_bytes() -> Callable[[Path], int]:
    """Bytes of every tensor in a folder's safetensors files, but the texts of NF4 modules."""
    from safetensors import safe_open

    def count(folder: Path) -> int:
        total = 0
        for path in folder.glob("*.safetensors"):
            with safe_open(path, "pt") as file:
                for name in file.keys():  # noqa: SIM118  not a mapping
                    if "quant_state" not in name:
                        tensor = file.get_tensor(name)
                        total += tensor.numel() * tensor.element_size()
        return total

    return count
