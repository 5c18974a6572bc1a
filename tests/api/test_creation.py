"""What a study is made of, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

import jointsearch as js
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyError, StudyFileError

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_sources_of_a_study(url: str, tmp_path: Path) -> None:
    runner = js.testing.FakeRunner(js.testing.small_layout())
    embedded = js.create_study("quickstart", url, runner=runner)
    assert (embedded.name, embedded.config.task.type) == ("quickstart", "causal-lm")
    assert (Path(embedded.config.model.source) / "model.safetensors").is_file()
    path = tmp_path / "mine.yaml"
    path.write_text("model: {id: some/model}\ntask: {type: causal-lm, data: {package: json}}\n")
    assert js.create_study(path, url, runner=runner).config == read_study(path)
    again = js.create_study(read_study(path), url, runner=runner, name="again")
    assert again.config == read_study(path).model_copy(update={"name": "again"})
    values = {
        "name": "dict",
        "model": {"id": "some/model"},
        "task": {"type": "causal-lm", "data": {"package": "json"}},
    }
    assert js.create_study(values, url, runner=runner).config.model.id == "some/model"
    assert js.load_study("dict", url).config.model.source == "some/model"
    assert js.get_all_study_names(url) == ["quickstart", "mine", "again", "dict"]


def test_the_space_and_the_objectives_can_be_given_beside_the_source(url: str) -> None:
    study = js.create_study(
        "quickstart",
        url,
        runner=js.testing.FakeRunner(js.testing.small_layout()),
        objectives=["perplexity", "model_bytes"],
        search_space=js.SearchSpace(formats=("int8", "nf4"), ranks=(0, 8)),
    )
    study.optimize(4)
    assert study.config.objectives == ("perplexity", "model_bytes")
    found = {(c.format, c.rank) for t in study.trials[:4] for c in study.plan(t.number).modules.values()}
    assert found == {("nf4", 0), ("nf4", 8), ("int8", 0), ("int8", 8)}


def test_load_if_exists(url: str) -> None:
    runner = js.testing.FakeRunner()
    js.create_study({"name": "s"}, url, runner=runner).optimize(2)
    with pytest.raises(StudyError, match="load_if_exists=True"):
        js.create_study({"name": "s"}, url, runner=runner)
    again = js.create_study({"name": "s"}, url, runner=runner, load_if_exists=True)
    assert len(again.get_trials(states=[TrialState.COMPLETE])) == 2
    with pytest.raises(StudyError, match=r"calibration\.steps: 60 -> 7"):
        js.create_study({"name": "s", "calibration": {"steps": 7}}, url, runner=runner, load_if_exists=True)
    other = js.testing.FakeRunner(js.testing.small_layout(num_blocks=3))
    with pytest.raises(StudyError, match="made for another model"):
        js.create_study({"name": "s"}, url, runner=other, load_if_exists=True)
    js.delete_study("s", url)
    assert js.get_all_study_names(url) == []


def test_a_study_that_cannot_run_leaves_no_storage(url: str, tmp_path: Path) -> None:
    with pytest.raises(StudyFileError, match="matches none"):
        js.create_study(
            {"name": "s"}, url, runner=js.testing.FakeRunner(), search_space={"include": ["no.such"]}
        )
    assert not (tmp_path / "studies.db").exists()


def test_the_storage_of_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOINTSEARCH_STORAGE", url)
    js.create_study({"name": "s"}, runner=js.testing.FakeRunner())
    assert js.get_all_study_names(url) == ["s"]


def test_mistakes_of_a_dict_are_one_line(url: str) -> None:
    with pytest.raises(StudyFileError) as found:
        js.create_study({"name": "s", "serach": {"trials": 3}}, url, runner=js.testing.FakeRunner())
    assert str(found.value).startswith("unknown key 'serach'; did you mean 'search'?")
    with pytest.raises(StudyFileError, match="can measure wer"):
        js.create_study("quickstart", url, objectives=[js.Objective("wer", "minimize"), "model_bytes"])
    with pytest.raises(StudyError, match="needs a source"):
        js.create_study(storage=url)
