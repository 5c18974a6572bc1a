"""The plans that a search starts with: uniform ones, and those of named strategies.

A strategy's plan is put onto the grid of the search space, so that samplers can learn from it; the trial
has the strategy as its origin. What needs something measured waits for the first worker that has loaded the
model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import optuna

from jointsearch.config.study import StudyConfig
from jointsearch.plan.limits import Limits
from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import read_stored
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import SensitivityProber, Trial
from jointsearch.space import Baseline, SearchSpace
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.study.attributes import DIGEST, ORIGIN, SENSITIVITIES
from jointsearch.study.queue import enqueue
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.storage.outages import outlast
from jointsearch.study.stored import StoredStudy

ENQUEUED = "enqueued"
"""Study attribute: the strategies with measured sensitivities that are in the queue."""


def enqueue_known(study: optuna.Study, space: SearchSpace, limits: Limits, config: StudyConfig) -> None:
    """Enqueue what follows from the layout alone, within the limits; raises ``PlanError`` where a strategy
    cannot be."""
    layout = limits.layout
    settings = StrategySettings.of(space, config.search_space)
    starts: list[Baseline] = []
    for name in config.search_space.enqueue:
        if name == "uniform":
            starts += space.baselines()
        elif STRATEGIES[name].needs == "nothing":
            starts.append(_on_grid(space, STRATEGIES[name].plan(layout, settings), name))
    _enqueue_new(study, space, starts, limits)


def warm_start(stored: StoredStudy, probe: SensitivityProber) -> None:
    """Enqueue the rest, which needs something measured, once in a study's life.

    Several workers may both measure, but one enqueues.
    """
    study, space, layout, config = stored.optuna_study, stored.space, stored.layout, stored.config
    names = [name for name in config.search_space.enqueue if STRATEGIES[name].needs != "nothing"]
    if not names or ENQUEUED in study.user_attrs:
        return
    settings = StrategySettings.of(space, config.search_space)
    if any(STRATEGIES[name].needs == "sensitivities" for name in names):
        settings = replace(settings, sensitivities=sensitivities_of(stored, lambda: probe))
    if any(STRATEGIES[name].needs == "adalora" for name in names):
        adaptive = STRATEGIES["adalora-4bit"].plan(layout, settings)
        ranks = probe.run(adaptive, Trial(seed=config.calibration.seed)).ranks
        settings = replace(settings, distilled_ranks=ranks)
    starts = [_on_grid(space, STRATEGIES[name].plan(layout, settings), name) for name in names]

    def enqueue_once() -> None:
        with study_lock(study):
            if ENQUEUED not in study.user_attrs:
                _enqueue_new(study, space, starts, stored.limits)
                study.set_user_attr(ENQUEUED, names)

    outlast(enqueue_once)


def _on_grid(space: SearchSpace, plan: Plan, name: str) -> Baseline:
    """The plan of the space nearest to a strategy's."""
    params = space.nearest(plan)
    return Baseline(Origin(kind="strategy", name=name), params, space.plan(params))


def _enqueue_new(study: optuna.Study, space: SearchSpace, starts: Iterable[Baseline], limits: Limits) -> None:
    """Enqueue each plan that fits, unless it is there already."""
    known = {trial.user_attrs.get(DIGEST) for trial in study.get_trials(deepcopy=False)}
    for start in starts:
        if start.plan.digest not in known and limits.fits(start.plan):
            enqueue(study, space, start.plan, start.params, {ORIGIN: start.origin.model_dump(mode="json")})
            known.add(start.plan.digest)


def sensitivities_of(study: StoredStudy, probe: Callable[[], SensitivityProber]) -> Sensitivities:
    """How sensitive each module is: measured once by ``probe``, then kept with the study."""
    stored = study.optuna_study.user_attrs.get(SENSITIVITIES)
    if stored is not None:
        return read_stored(Sensitivities, stored, "the sensitivities")
    rank = StrategySettings.of(study.space, study.config.search_space).rank
    measured = probe().sensitivities(study.layout, rank)
    outlast(lambda: study.optuna_study.set_user_attr(SENSITIVITIES, measured.model_dump(mode="json")))
    return measured
