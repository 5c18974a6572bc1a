"""Makes the probe's result and stores it with the study: once, by whichever worker comes first."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from jointsearch.errors import TrialInterrupted
from jointsearch.runner import Budget, Prober, Runner
from jointsearch.search.probe import PROBE, Probe, ScoredPlan
from jointsearch.study.outages import outlast
from jointsearch.study.storage import try_study_lock
from jointsearch.study.studies import JointStudy

NUM_TRIALS = 3
"""The probe trains for as long as so many trials."""
MAX_SCORED = 200
"""Plans that are scored, as far as scoring takes no longer than training did."""

_log = logging.getLogger(__name__)


def make_probe(study: JointStudy, runner: Runner, should_stop: Callable[[], bool]) -> None:
    """Train and store the probe, unless the study wants none, has one, or another worker is at it."""
    search = study.config.search
    if search.probe == "none" or search.sampler != "additive" or not isinstance(runner, Prober):
        return
    lora = study.config.lora
    nested = lora.init == "default" and lora.variant != "dora"
    if not nested or PROBE in study.optuna_study.user_attrs:
        return
    with try_study_lock(study.optuna_study, "probe") as mine:
        if not mine or PROBE in study.optuna_study.user_attrs:
            return
        _log.info("probe started", extra={"study": study.name})
        try:
            probe = weight_sharing(study, runner, should_stop)
        except TrialInterrupted:
            return  # the next worker makes it anew
        outlast(lambda: study.optuna_study.set_user_attr(PROBE, probe.model_dump(mode="json")), should_stop)
        _log.info("probe complete", extra={"study": study.name, "plans": len(probe.plans)})


def weight_sharing(study: JointStudy, runner: Prober, should_stop: Callable[[], bool]) -> Probe:
    """Scores of the baselines and of random plans, by shared adapters."""
    space, config = study.space, study.config
    start = time.monotonic()
    score = runner.probe(
        space, NUM_TRIALS * config.calibration.steps, Budget(config.calibration.seed, should_stop)
    )
    trained = time.monotonic() - start
    chance = random.Random(config.search.seed)
    wanted = [baseline.values for baseline in space.baselines()]
    wanted += [space.sample(chance) for _ in range(MAX_SCORED - len(wanted))]
    scored: list[ScoredPlan] = []
    for values in wanted:
        if should_stop():
            raise TrialInterrupted("the probe was stopped while it scored plans")
        scored.append(ScoredPlan(values=values, score=score(space.plan(values))))
        if time.monotonic() - start > 2 * trained:
            break
    return Probe(kind="weight-sharing", plans=tuple(scored), seconds=time.monotonic() - start)
