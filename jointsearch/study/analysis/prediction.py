"""The model of a stored study: its predicted front, and whether further trials are worth their time."""

from __future__ import annotations

import math

import numpy as np

from jointsearch.errors import StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.plan import Plan
from jointsearch.search.additive.horizon import Horizon
from jointsearch.search.additive.observed import TrialReader
from jointsearch.search.additive.options import Options
from jointsearch.search.additive.predicted_front import (
    Effect,
    PredictedPoint,
    effects_at,
    expected_gain,
    predicted_front,
    predicted_optimum,
)
from jointsearch.search.additive.surrogate import Observations, Surrogate
from jointsearch.search.attributes import stored_probe
from jointsearch.study.attributes import CONVERGED
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

MIN_TRIALS = 3
"""Complete trials before anything is predicted."""


def fit_surrogate(
    study: StoredStudy, records: StudyRecords | None = None, reader: TrialReader | None = None
) -> Surrogate:
    """The surrogate of all complete trials; raises ``StudyError`` where there are too few.

    ``reader``: of an earlier call, which knows what it has read.
    """
    records = (records or study.records()).at(None)
    if len(records.measured) < MIN_TRIALS:
        raise StudyError(
            f"a prediction needs {MIN_TRIALS} measured plans, but study '{study.name}' has "
            f"{len(records.measured)}; `jointsearch study status {study.name}`"
        )
    reader = reader or trial_reader(study)
    return Surrogate.fit(reader.options, _observe(reader, records), stored_probe(study.optuna_study))


def trial_reader(study: StoredStudy) -> TrialReader:
    return TrialReader(Options.of(study.space, study.layout), OBJECTIVES[study.config.quality].sign)


def _observe(reader: TrialReader, records: StudyRecords) -> Observations:
    return reader.observations([trial.frozen for trial in records.trials if trial.steps is None])


def probe_correlation(study: StoredStudy, records: StudyRecords | None = None) -> float | None:
    """Spearman's rank correlation of the probe alone with the measured plans: how far it can be trusted.

    None without a probe, with fewer than three measured plans, or where all of them are equally good.
    """
    records = (records or study.records()).at(None)
    probe = stored_probe(study.optuna_study)
    if probe is None or len(records.measured) < MIN_TRIALS:
        return None
    from scipy.stats import spearmanr  # it takes SciPy a while

    reader = trial_reader(study)
    observed = _observe(reader, records)
    foretold, _ = Surrogate.fit(reader.options, observed.at(slice(0)), probe).predict(observed.design)
    found = float(spearmanr(foretold, observed.values).statistic)
    return found if math.isfinite(found) else None


def predict_front(study: StoredStudy, records: StudyRecords | None = None) -> tuple[PredictedPoint, ...]:
    """The predicted front beside the measured one, by rising bytes; of finals where these are theirs."""
    records = records or study.records()
    reader = trial_reader(study)
    surrogate = fit_surrogate(study, records, reader)
    horizon = None
    if records.steps:
        trials = [trial.frozen for trial in records.trials]
        own = study.config.calibration.steps
        horizon = Horizon.of_trials(surrogate, reader, trials, own, records.steps)
    return predicted_front(surrogate, OBJECTIVES[study.config.quality].sign, horizon=horizon)


def measure_optimum(study: StoredStudy, max_bytes: int) -> PredictedPoint:
    """Put the predicted optimum of at most ``max_bytes`` into the queue; raises ``StudyError``."""
    point = predicted_optimum(fit_surrogate(study), OBJECTIVES[study.config.quality].sign, max_bytes)
    request(study, study.space.plan(point.values))
    return point


def group_effects(study: StoredStudy, records: StudyRecords, plan: Plan) -> tuple[Effect, ...]:
    """What each group's bits and rank are worth at ``plan``, or at the nearest one that the space has; raises
    ``StudyError`` where too few trials are complete."""
    return effects_at(fit_surrogate(study, records), study.space.nearest(plan))


class Convergence:
    """Tells when ``search.stop`` ends the study: the expected gain of the next trials is too small."""

    def __init__(self, study: StoredStudy) -> None:
        self._study = study
        self._reader: TrialReader | None = None
        self._looked_at = -1

    def reached(self, records: StudyRecords) -> bool:
        """Asked by every worker before it takes a trial; never while a person's request waits or runs."""
        stop = self._study.config.search.stop
        if stop is None or any(trial.requested for trial in (*records.waiting, *records.running)):
            return False
        if self._study.converged():  # another worker has found so
            return True
        num_complete = len(records.complete)
        if num_complete < stop.after or records.waiting or num_complete == self._looked_at:
            return False
        self._reader = self._reader or trial_reader(self._study)
        surrogate = fit_surrogate(self._study, records, self._reader)
        rng = np.random.default_rng((self._study.config.search.seed, num_complete))
        # of the hypervolume that a person is shown, where that is of bytes
        of_bytes = records.objectives[1:2] == ("model_bytes",)
        corner = records.at(None).hypervolume_corner if of_bytes else None
        if expected_gain(surrogate, stop.trials, rng, corner) >= stop.gain:
            self._looked_at = num_complete
            return False
        self._study.optuna_study.set_user_attr(CONVERGED, num_complete)
        return True
