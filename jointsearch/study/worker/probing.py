"""Makes the probe's result and stores it with the study: once, by whichever worker comes first."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from jointsearch.config.names import SAMPLERS
from jointsearch.errors import TrialInterrupted
from jointsearch.runner import PlanScorer, Runner, SensitivityProber, Trial
from jointsearch.search.attributes import PROBE
from jointsearch.search.probe import Probe, ScoredPlan, sensitivity_probe
from jointsearch.study.storage.locks import try_study_lock
from jointsearch.study.storage.outages import outlast
from jointsearch.study.stored import StoredStudy
from jointsearch.study.warm_start import sensitivities_of
from jointsearch.study.worker.events import worker_event

NUM_TRIALS = 3
"""The probe trains for as long as so many trials."""
MAX_SCORED = 200
"""Plans that are scored, as far as scoring takes no longer than training did."""


def make_probe(study: StoredStudy, runner: Runner, should_stop: Callable[[], bool]) -> None:
    """Train and store the probe, unless the study wants none, has one, or another worker is at it."""
    probing = _probing(study, runner, should_stop)
    if probing is None or PROBE in study.optuna_study.user_attrs:
        return
    with try_study_lock(study.optuna_study, "probe") as mine:
        if not mine or PROBE in study.optuna_study.user_attrs:
            return
        worker_event("probe started", study.name)
        try:
            probe = probing()
        except TrialInterrupted:
            return  # the next worker makes it anew
        outlast(lambda: study.optuna_study.set_user_attr(PROBE, probe.model_dump(mode="json")), should_stop)
        worker_event("probe complete", study.name, plans=len(probe.plans))


def _probing(
    study: StoredStudy, runner: Runner, should_stop: Callable[[], bool]
) -> Callable[[], Probe] | None:
    """How the study wants to be probed; None where it does without, or its sampler or runner cannot."""
    search, lora = study.config.search, study.config.lora
    if not SAMPLERS[search.sampler].uses_probe:
        return None
    if search.probe == "sensitivity" and isinstance(runner, SensitivityProber):
        return lambda: sensitivity(study, runner)
    nested = lora.init == "default" and lora.method.nested
    if search.probe == "weight-sharing" and nested and isinstance(runner, PlanScorer):
        return lambda: weight_sharing(study, runner, should_stop)
    return None


def sensitivity(study: StoredStudy, runner: SensitivityProber) -> Probe:
    """Scores of every group's choices, by the sensitivities of its modules: for the price of a trial."""
    start = time.monotonic()
    measured = sensitivities_of(study, lambda: runner)
    return sensitivity_probe(measured, study.space, time.monotonic() - start)


def weight_sharing(study: StoredStudy, runner: PlanScorer, should_stop: Callable[[], bool]) -> Probe:
    """Scores of the baselines and of random plans, by shared adapters."""
    space, config = study.space, study.config
    start = time.monotonic()
    score = runner.probe(
        space, NUM_TRIALS * config.calibration.steps, Trial(config.calibration.seed, should_stop)
    )
    trained = time.monotonic() - start
    chance = random.Random(config.search.seed)
    wanted = [baseline.params for baseline in space.baselines()]
    wanted += [space.sample(chance) for _ in range(MAX_SCORED - len(wanted))]
    scored: list[ScoredPlan] = []
    for values in wanted:
        if should_stop():
            raise TrialInterrupted("the probe was stopped while it scored plans")
        scored.append(ScoredPlan(values=values, score=score(space.plan(values))))
        if time.monotonic() - start > 2 * trained:
            break
    return Probe(kind="weight-sharing", plans=tuple(scored), seconds=time.monotonic() - start)
