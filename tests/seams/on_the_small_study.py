"""What the processes of these tests share: the small study, searched without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

from jointsearch.config.study import StudyConfig
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import create_study
from jointsearch.study.worker.trials import Worker
from jointsearch.testing import FakeRunner

FIXTURES = Path(__file__).parents[1] / "fixtures"
LAYOUT = ModelLayout.model_validate_json((FIXTURES / "layout.json").read_text())
URL = f"sqlite:///{Path.cwd()}/studies.db"


def study_file(**sections: Any) -> StudyConfig:
    """The small study with other values for some sections, written to a file and read from there."""
    values = yaml.safe_load((FIXTURES / "study.yaml").read_text())
    for name, value in sections.items():
        values[name] = {**values.get(name, {}), **value} if isinstance(value, dict) else value
    path = Path("small.yaml")
    path.write_text(yaml.safe_dump(values))
    return read_study(path)


def new_study(**sections: Any) -> StoredStudy:
    os.environ["JOINTSEARCH_STORAGE"] = URL
    return create_study(open_storage(URL, create=True), study_file(**sections), LAYOUT)


def searched(**sections: Any) -> StoredStudy:
    """The small study with all of its trials."""
    study = new_study(**sections)
    Worker(study, FakeRunner(LAYOUT)).run()
    return study
