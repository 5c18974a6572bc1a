"""Studies as objects: what Optuna's users know, and what jointsearch adds."""

from __future__ import annotations

import os
import signal
import statistics
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

import jointsearch as js
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyError, StudyFileError, UnsupportedError

FIXTURES = Path(__file__).parents[1] / "fixtures"


class Counting(js.testing.FakeRunner):
    """Keeps the plans and the trials that it is told of."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[js.Plan, js.Trial]] = []

    def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
        self.told.append((plan, trial))
        return super().run(plan, trial)


def test_optimize_runs_so_many_more_trials(url: str) -> None:
    runner = Counting()
    study = js.create_study({"name": "s"}, url, runner=runner)
    study.optimize(4)
    study.optimize(n_trials=3)
    assert [trial.number for _, trial in runner.told] == list(range(7))
    assert [trial.state for trial in study.trials[:7]] == [TrialState.COMPLETE] * 7
    for (plan, _), frozen in zip(runner.told, study.trials, strict=False):
        assert frozen.user_attrs["digest"] == plan.digest


def test_optimize_without_a_number_runs_what_the_settings_leave(url: str) -> None:
    study = js.create_study({"name": "s", "search": {"trials": 5}}, url, runner=js.testing.FakeRunner())
    study.optimize(2)
    study.optimize()
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 5
    study.optimize(3)
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 8
    assert study.config.search.trials == 8
    assert js.load_study("s", url).config.search.trials == 8


def test_a_plan_knows_what_it_is_for(url: str) -> None:
    runner = Counting()
    study = js.create_study({"name": "s"}, url, runner=runner)
    study.optimize(1)
    context = runner.told[0][0].known_context
    assert context.layout == study.layout == js.testing.small_layout()
    assert context.study == study.config


def test_callbacks_are_those_of_optuna(url: str) -> None:
    study = js.create_study({"name": "s"}, url, runner=js.testing.FakeRunner())
    seen: list[FrozenTrial] = []
    study.optimize(3, callbacks=[lambda told, trial: seen.append(trial)])
    assert [trial.number for trial in seen] == [0, 1, 2]
    assert all(trial.state == TrialState.COMPLETE and trial.params for trial in seen)
    assert [trial.values for trial in seen] == [trial.values for trial in study.trials[:3]]
    study.optimize(9, callbacks=[MaxTrialsCallback(5, states=(TrialState.COMPLETE,))])  # type: ignore[list-item]
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 5


def test_stop_lets_the_running_trial_end(url: str) -> None:
    study = js.create_study({"name": "s"}, url, runner=js.testing.FakeRunner())

    def third(told: js.Study, trial: FrozenTrial) -> None:
        assert told is study
        if trial.number == 2:
            told.stop()

    study.optimize(10, callbacks=[third])
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 3
    assert not study.get_trials(states=[TrialState.FAIL, TrialState.RUNNING])


def test_no_trial_begins_after_the_timeout(url: str) -> None:
    study = js.create_study({"name": "s"}, url, runner=js.testing.FakeRunner())
    study.optimize(10, timeout=0)
    assert not study.get_trials(states=[TrialState.COMPLETE, TrialState.FAIL, TrialState.RUNNING])


def test_ctrl_c_gives_the_trial_back_and_is_passed_on(url: str) -> None:
    class Interrupted(js.testing.FakeRunner):
        def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
            if trial.number == 1:
                os.kill(os.getpid(), signal.SIGINT)
                assert trial.should_stop()
                from jointsearch.errors import TrialInterrupted

                raise TrialInterrupted("stopped")
            return super().run(plan, trial)

    study = js.create_study({"name": "s"}, url, runner=Interrupted())
    waiting = len(study.get_trials(states=[TrialState.WAITING]))
    with pytest.raises(KeyboardInterrupt):
        study.optimize(5)
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 1
    assert len(study.get_trials(states=[TrialState.WAITING])) == waiting - 1


def test_optimize_runs_in_another_thread(url: str) -> None:
    study = js.create_study({"name": "s"}, url, runner=js.testing.FakeRunner())
    thread = threading.Thread(target=study.optimize, args=(2,))
    thread.start()
    thread.join()
    assert len(study.get_trials(states=[TrialState.COMPLETE])) == 2


def test_a_callback_that_fails_ends_optimize(url: str) -> None:
    study = js.create_study({"name": "s"}, url, runner=js.testing.FakeRunner())

    def fail(told: js.Study, trial: FrozenTrial) -> None:
        raise RuntimeError("of the callback")

    with pytest.raises(RuntimeError, match="of the callback"):
        study.optimize(3, callbacks=[fail])
    assert not study.get_trials(states=[TrialState.RUNNING])


def test_a_study_is_the_optuna_study_of_its_storage(study: js.Study, url: str) -> None:
    loaded = optuna.load_study(study_name="small", storage=study.optuna_study._storage)
    assert [t.number for t in study.best_trials] == [t.number for t in loaded.best_trials]
    assert study.directions == [optuna.study.StudyDirection.MINIMIZE] * 2
    table = study.trials_dataframe()
    assert list(table["values_loss"][:16]) == [t.values[0] for t in loaded.trials[:16]]
    assert not [column for column in table.columns if column.startswith("user_attrs")]


def test_the_front_is_what_no_plan_dominates(study: js.Study) -> None:
    table = study.front()
    points = [(t.number, *t.values) for t in study.trials if t.state == TrialState.COMPLETE]
    expected = {
        number
        for number, loss, size in points
        if not any(a <= loss and b <= size and (a, b) != (loss, size) for _, a, b in points)
    }
    assert set(table["trial"]) == expected
    assert list(table["model_bytes"]) == sorted(table["model_bytes"])


def test_selecting(study: js.Study) -> None:
    points = sorted((t.values[1], t.values[0], t.number) for t in study.best_trials)
    size, loss, number = points[2]
    chosen = study.select(max_bytes=int(size))
    assert chosen.trial == number
    assert chosen.values == pytest.approx({"loss": loss, "model_bytes": size})
    assert chosen.plan == study.plan(number)
    assert chosen.plan.digest == study.trials[number].user_attrs["digest"]
    assert study.select(max_bytes=f"{size / 1000}kB").trial == number
    assert study.select(quality=loss).trial == number
    assert study.select(trial=0).trial == 0
    assert study.select().trial == study.select(knee=True).trial


def test_a_selection_is_trained_in_full_only_on_request(study: js.Study) -> None:
    from jointsearch.study.full_runs import full_runs

    chosen = study.select()
    assert full_runs(study.optuna_study.user_attrs) == {}
    chosen.request_full_run("for the phone")
    assert full_runs(study.optuna_study.user_attrs)[chosen.trial].selection.note == "for the phone"


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"max_bytes": "1.5MB", "knee": True}, StudyError, "by one of max_bytes, knee"),
        ({"max_bytes": "1.5 parsecs"}, StudyError, "max_bytes: a size is a number"),
        ({"max_bytes": 3}, StudyError, "no point of the front has at most 3 B"),
        ({"quality": 0.1}, StudyError, "as good as 0.1"),
        ({"trial": 99}, StudyError, "but got 99"),
        ({"max_training_memory": "8GB"}, UnsupportedError, "max_training_memory"),
    ],
)
def test_a_point_that_is_not_there(
    study: js.Study, wanted: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words) as found:
        study.select(**wanted)
    assert "\n" not in str(found.value)


def test_a_plan_is_saved_and_loaded(study: js.Study, tmp_path: Path) -> None:
    plan = study.select().plan
    plan.save(tmp_path / "plan.json")
    loaded = js.Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert loaded.known_context.layout == study.layout
    assert loaded.known_context.study == study.config


def test_refining_measures_and_the_verdict_follows(study: js.Study) -> None:
    before = {trial.number for trial in study.trials if trial.state == TrialState.COMPLETE}
    verdict = study.refine(seeds=2)
    more = [t for t in study.trials if t.state == TrialState.COMPLETE and t.number not in before]
    first = study.config.calibration.seed
    assert {trial.user_attrs["seed"] for trial in more} == {first + 1, first + 2}
    assert verdict.sentence == study.verdict().sentence
    assert study.verdict().paid in (True, False)
    # the rows of the front are means over the seeds
    table = study.front()
    row = next(row for row in table.to_dict("records") if row["num_seeds"] == 3 and row["origin"] != "x")
    values = [
        t.values[1]
        for t in study.trials
        if t.state == TrialState.COMPLETE
        and t.user_attrs["digest"] == study.trials[row["trial"]].user_attrs["digest"]
    ]
    assert len(values) == 3
    assert row["model_bytes"] == statistics.fmean(values)


def test_an_enqueued_plan_is_measured_next(study: js.Study) -> None:
    plan = study.plan(0)
    modules = {
        name: choice.model_copy(update={"rank": choice.rank and 5}) for name, choice in plan.modules.items()
    }
    modules["model.layers.0.mlp.up_proj"] = js.ModuleChoice(format="int8", rank=5)
    asked = plan.model_copy(update={"modules": modules})
    study.enqueue(asked)
    study.optimize(0)
    last = next(t for t in study.trials if t.user_attrs.get("digest") == asked.digest)
    assert last.state == TrialState.COMPLETE


def test_comparing_named_strategies(study: js.Study) -> None:
    found = study.compare(["qlora", "lora"], seeds=2)
    assert {"qlora", "lora"} <= {row.name for row in found.rows}
    assert all(len(row.qualities) == 2 for row in found.rows)


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


def test_several_jobs_need_a_study_that_a_file_describes(study: js.Study) -> None:
    with pytest.raises(StudyError, match="n_jobs must be 1 where Python objects run the trials, but got 2"):
        study.optimize(2, n_jobs=2)


class OwnMetric(js.Runner):
    """Says a metric of its own and nothing else."""

    def layout(self, config: js.StudyConfig) -> js.ModelLayout:
        return js.testing.small_layout()

    def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
        return js.Measurement(metrics={"own_score": float(sum(plan.ranks.values()))})


def test_a_metric_of_ones_own_is_read_without_its_code(url: str) -> None:
    from jointsearch.plan.cost import plan_cost

    study = js.create_study(
        runner=OwnMetric(),
        storage=url,
        name="own",
        objectives=[js.Objective("own_score", "maximize"), "model_bytes"],
    )
    study.optimize(12)
    read = js.load_study("own", url)
    assert read.directions == [optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE]
    best = read.front().iloc[-1]
    assert best["own_score"] == max(t.values[0] for t in read.trials if t.values)
    plan = read.plan(int(best["trial"]))
    assert best["model_bytes"] == plan_cost(read.layout, plan).model_bytes
    with pytest.raises(StudyError, match=r"run by its own Python code.*load_study"):
        read.optimize(1)
    with pytest.raises(StudyError, match="own Python code"):
        js.train(plan, url.removeprefix("sqlite:///") + ".run")


def test_one_name_has_one_direction(url: str) -> None:
    with pytest.raises(StudyFileError, match="'accuracy' must be maximized"):
        js.create_study(
            runner=OwnMetric(),
            storage=url,
            objectives=[js.Objective("accuracy", "minimize"), "model_bytes"],
        )


def test_a_runner_without_a_layout_needs_a_model(url: str) -> None:
    class NoLayout(js.Runner):
        def run(self, plan: js.Plan, trial: js.Trial) -> js.Measurement:
            raise AssertionError

    with pytest.raises(StudyError, match=r"NoLayout.*model: \{id"):
        js.create_study({"name": "s"}, url, runner=NoLayout())
    with pytest.raises(TypeError, match="abstract"):
        js.Runner()  # type: ignore[abstract]


def test_commands_read_a_study_of_ones_own_runner(url: str, command: Any) -> None:
    study = js.create_study(
        runner=OwnMetric(),
        storage=url,
        name="own",
        objectives=[js.Objective("own_score", "maximize"), "model_bytes"],
    )
    study.optimize(6)
    assert "own_score" in command("front", "own", "--storage", url).stdout
    refused = command("worker", "own", "--storage", url, status=2).stderr
    assert "is run by its own Python code" in refused
    assert refused.count("\n") == 1
