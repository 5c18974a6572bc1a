"""Figures of a study have the numbers of its trials."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from optuna.trial import TrialState

import jointsearch as js
from jointsearch.errors import StudyError


def traces(figure: Any) -> dict[str, Any]:
    return {trace.name: trace for trace in figure.data}


def test_the_front_has_the_best_trials(study: js.Study) -> None:
    drawn = traces(js.plot_front(study))
    best = sorted(study.best_trials, key=lambda trial: trial.values[1])
    assert list(drawn["front"].customdata) == [trial.number for trial in best]
    assert list(drawn["front"].y) == pytest.approx([trial.values[0] for trial in best])
    texts = [note.text for note in js.plot_front(study).layout.annotations]
    (unit,) = [size for name, size in (("kB", 1e3), ("MB", 1e6)) if f"model size ({name}) →" in texts]
    assert [x * unit for x in drawn["front"].x] == pytest.approx([trial.values[1] for trial in best])
    shown = {*drawn["front"].customdata, *drawn["dominated"].customdata, *drawn["named plans"].customdata}
    assert shown == {trial.number for trial in study.get_trials(states=[TrialState.COMPLETE])}


def test_the_front_may_have_what_is_predicted(study: js.Study) -> None:
    predicted = traces(js.plot_front(study, predicted=True))["predicted"]
    assert list(predicted.x) == sorted(predicted.x)
    assert "predicted" not in traces(js.plot_front(study))
    assert js.plot_front(study, log_bytes=True).layout.xaxis.type == "log"


def test_a_plan_shows_its_ranks_and_formats(study: js.Study) -> None:
    trial = study.best_trials[-1].number
    (heat,) = js.plot_plan(study, trial).data
    modules = study.plan(trial).modules
    names = dict(enumerate(heat.colorbar.ticktext))
    shown = {}
    for block, ranks, formats in zip(heat.y, heat.text, heat.z, strict=True):
        for column, rank, place in zip(heat.x, ranks, formats, strict=True):
            if place is not None:
                name = column if block == "outside of blocks" else f"{block}.{column}"
                shown[name] = (names[place], int(rank))
    wanted = {name: (f"{choice.bits} bits", choice.rank) for name, choice in modules.items()}
    assert shown == {name.replace("model.layers.", "layers."): said for name, said in wanted.items()}


def test_a_plan_measured_again_is_the_same_plan(study: js.Study) -> None:
    study.enqueue(study.plan(2), seed=7)
    study.optimize(0)
    again = next(trial.number for trial in study.trials if trial.user_attrs.get("seed") == 7)
    assert js.plot_plan(study, again) == js.plot_plan(study, 2)
    assert js.plot_effects(study, again) == js.plot_effects(study, 2)


def test_without_a_trial_the_knee_or_the_selected_plan_is_shown(study: js.Study) -> None:
    assert js.plot_plan(study) == js.plot_plan(study, study.select(knee=True).trial)
    study.select(trial=0).request_full_run()
    assert js.plot_plan(study) == js.plot_plan(study, 0)


def dominated_share(points: list[tuple[float, float]], worst: tuple[float, float], box: float) -> float:
    """The area that the points dominate, strip by strip."""
    edges = sorted({x for x, _ in points if x <= worst[0]} | {worst[0]})
    area = 0.0
    for left, right in pairwise(edges):
        lowest = min((y for x, y in points if x <= left), default=worst[1])
        area += (right - left) * max(worst[1] - lowest, 0.0)
    return area / box


def test_the_hypervolume_is_what_the_trials_dominate(study: js.Study) -> None:
    (curve,) = js.plot_hypervolume(study).data
    values = {trial.number: (trial.values[0], trial.values[1]) for trial in study.trials[:16]}
    uniform = [values[number] for number in range(12) if study.plan(number).ranks]
    axes = [[point[axis] for point in uniform] for axis in (0, 1)]
    worst = tuple(max(axis) + 0.1 * (max(axis) - min(axis)) for axis in axes)
    box = dominated_share(uniform, worst, 1.0)
    for number, share in zip(curve.x, curve.y, strict=True):
        so_far = [point for other, point in values.items() if other <= number]
        assert share == pytest.approx(dominated_share(so_far, worst, box))
    assert curve.x[-1] == 15


def test_effects_are_of_every_group(study: js.Study) -> None:
    drawn = js.plot_effects(study).data
    knobs = [trace.name.partition(",")[0] for trace in drawn]
    assert knobs == ["bits", "rank"]
    named = {
        f"{group}.{knob}" for knob, trace in zip(knobs, drawn, strict=True) for group in trace.customdata
    }
    assert named <= set(study.trials[12].params)
    assert len(named) == len(study.trials[12].params)


def test_effects_are_those_of_the_double(url: str) -> None:
    """The double's loss is a sum over the modules: what a group is worth can be asked of it."""
    runner = js.testing.FakeRunner()
    study = js.create_study({"name": "exact"}, url, runner=runner)
    study.optimize(40)
    trial = study.select(knee=True).trial
    at = study.plan(trial)
    groups = {group.name: group for group in study._stored.space.groups}

    def loss(group: str, **changes: Any) -> float:
        changed = {
            spec.name: at.modules[spec.name].model_copy(update=changes) for spec in groups[group].modules
        }
        plan = at.model_copy(update={"modules": {**at.modules, **changed}})
        return runner.run(plan, js.Trial()).metrics["loss"]

    bits, rank = js.plot_effects(study, trial).data
    assert set(bits.customdata) == set(groups)
    for group, gain in zip(bits.customdata, bits.x, strict=True):
        coarsest, *_, finest = groups[group].formats
        assert gain == pytest.approx(loss(group, format=coarsest) - loss(group, format=finest), rel=0.02)
    assert set(rank.customdata) == {name for name, group in groups.items() if len(group.ranks) > 1}
    for group, gain in zip(rank.customdata, rank.x, strict=True):
        lowest, *_, highest = groups[group].ranks
        assert gain == pytest.approx(loss(group, rank=lowest) - loss(group, rank=highest), rel=0.02)


PLOTS: list[Callable[[Any], Any]] = [
    js.plot_front,
    js.plot_plan,
    js.plot_hypervolume,
    js.plot_effects,
]


@pytest.mark.parametrize("plot", PLOTS)
def test_a_study_may_be_the_stored_one(study: js.Study, plot: Callable[[Any], Any]) -> None:
    assert plot(study._stored) == plot(study)


@pytest.mark.parametrize("plot", PLOTS)
def test_before_a_trial_is_complete_there_is_nothing_to_show(url: str, plot: Callable[[Any], Any]) -> None:
    empty = js.create_study({"name": "empty"}, url, runner=js.testing.FakeRunner())
    with pytest.raises(StudyError, match="no complete trial yet"):
        plot(empty)


def test_figures_need_neither_torch_nor_the_dashboards_server() -> None:
    code = "import sys, jointsearch; jointsearch.plot_front; print({'torch', 'dash'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
