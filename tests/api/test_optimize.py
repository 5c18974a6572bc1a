"""``Study.optimize``: how many trials run, what is told of them, and how it ends."""

from __future__ import annotations

import os
import signal
import threading

import pytest
from optuna.study import MaxTrialsCallback
from optuna.trial import FrozenTrial, TrialState

import jointsearch as js
from jointsearch.errors import StudyError


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


def test_several_jobs_need_a_study_that_a_file_describes(study: js.Study) -> None:
    with pytest.raises(StudyError, match="n_jobs must be 1 where Python objects run the trials, but got 2"):
        study.optimize(2, n_jobs=2)
