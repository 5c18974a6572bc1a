"""The embedded model is no path: a study of it is the same in another checkout, and in another Python."""

from __future__ import annotations

from pathlib import Path

import pytest

import jointsearch
from jointsearch.assemble import EMBEDDED
from jointsearch.config.study import EMBEDDED_MODEL, ModelSettings, StudyConfig, model_source
from jointsearch.config.yaml_file import read_study
from jointsearch.plan.layout import ModelLayout
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.study import check_unchanged, create_study, find_study

PLACES = (
    "/usr/lib/python3.13/site-packages/jointsearch/quickstart/model",
    "/home/someone/jointsearch/jointsearch/quickstart/model",
)


def test_the_embedded_study_holds_no_path() -> None:
    config = read_study(EMBEDDED["quickstart"])
    assert config.model.id == "jointsearch:quickstart/model"
    assert str(Path(jointsearch.__file__).parent) not in config.model_dump_json()


def test_its_model_is_found_where_this_python_has_it() -> None:
    folder = Path(model_source(EMBEDDED_MODEL))
    assert folder == Path(jointsearch.__file__).parent / "quickstart" / "model"
    assert (folder / "model.safetensors").is_file()
    for other in ("openai-community/gpt2", "/models/mine", "./quickstart/model"):
        assert ModelSettings(id=other).id == model_source(other) == other


@pytest.mark.parametrize("place", PLACES)
def test_a_study_of_another_place_is_gone_on_with(url: str, layout: ModelLayout, place: str) -> None:
    """As 0.1.0 has stored it: with the path of its machine."""
    config = read_study(EMBEDDED["quickstart"])
    assert (
        StudyConfig.model_validate({**config.model_dump(mode="json"), "model": {"id": place}}).digest
        == config.digest
    )
    storage = open_storage(url, create=True)
    study = create_study(storage, config, layout).optuna_study
    stored = study.user_attrs["config"]
    study.set_user_attr("config", {**stored, "model": {**stored["model"], "id": place}})
    found = find_study(storage, config.name)
    assert found is not None
    check_unchanged(found, config)
    assert found.config.model.id == EMBEDDED_MODEL
