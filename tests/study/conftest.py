from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages import RDBStorage

from jointsearch.config import StudyConfig, load_study
from jointsearch.layout import ModelLayout
from jointsearch.study.storage import open_storage
from jointsearch.study.studies import JointStudy, create_study

FIXTURES = Path(__file__).parents[1] / "domain_fixtures"

Configure = Callable[..., StudyConfig]
Create = Callable[..., JointStudy]


@pytest.fixture(scope="session")
def layout() -> ModelLayout:
    return ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())


@pytest.fixture
def configure() -> Configure:
    """The small study's config (4 baselines, 10 trials, random), with other values for some sections."""
    config = load_study(FIXTURES / "study.yaml").model_dump(mode="json")

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
