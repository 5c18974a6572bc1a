"""Early stopping: a trial that is, with high probability, dominated at its bytes ends at a rung.

At a rung (``calibration.measure_at``) the validation loss x of a trial tells its final quality y, turned so
that lower is better, by a parabola that is fitted to the finished trials of the study:

    y = a + b x + c x² + ε,    ε ~ N(0, σ²)

so that y has Student's t distribution with n − 3 degrees of freedom around it (Gelman et al., Bayesian
Data Analysis, 3rd ed., section 14.2), here ``WIDENING`` times as wide. The trial is stopped where the chance
that it is better than the best measured plan of no more bytes is below ``RISK``. Optuna's pruners cannot do
this: they are for one objective.

With ``search.early_stopping: auto`` this is done as long as it pays: as long as the seconds that it would
have saved on the study's own finished trials are no fewer than those that measuring at the rungs has taken.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtr  # half a second less than scipy.stats

from jointsearch.errors import TrialPruned
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import Plan
from jointsearch.search.attributes import EXPECTED
from jointsearch.study.attributes import REQUESTED, RUNG, stored_origin
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.writing import write
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

Floats = NDArray[np.float64]

RISK = 0.05
MIN_TRIALS = 10
"""Finished trials before anything is stopped."""
MIN_JUDGED = 20
"""Trials that might have been stopped before ``auto`` judges whether that pays."""
WIDENING = 2.0
"""A search proposes what it believes to be better than the trials behind the fit, and is often right. At this
width no bin of forecasts below 1/2 was too sure of itself in the recorded studies; as fitted, twice as many
trials were better as a forecast of 2 to 5 % says (``studies/benchmarks/early_stopping.py``)."""


def may_stop_early(study: StoredStudy, trial: optuna.Trial) -> bool:
    """A plan with a name, or that a person asked for, is measured to its end."""
    asked_for = stored_origin(trial.user_attrs).is_named or REQUESTED in trial.user_attrs
    return study.config.search.early_stopping is not False and not asked_for


def wants_rungs(study: StoredStudy, records: StudyRecords) -> bool:
    """Whether a new trial is to be measured on its way: no where ``auto`` sees that it does not pay."""
    return study.config.search.early_stopping != "auto" or pays(records)


def stop_where_hopeless(
    study: StoredStudy, records: StudyRecords, trial: optuna.Trial, plan: Plan, step: int, loss: float
) -> None:
    """Raise ``TrialPruned`` where the trial is, by its loss at a rung, too unlikely to be on the front."""
    forecast = Forecast.at(records, step)
    rival = _best_of_no_more_bytes(records, [plan_cost(study.layout, plan).model_bytes])[0]
    if forecast and np.isfinite(rival) and forecast.chance_below(rival, loss) < RISK:
        sign = OBJECTIVES[study.config.quality].sign
        write(trial, {EXPECTED: sign * float(forecast.mean(loss)), RUNG: {"step": step, "loss": loss}})
        raise TrialPruned(f"stopped at step {step}: hardly on the front")


@dataclass(frozen=True)
class Forecast:
    """Of trials' final qualities, turned so that lower is better, by their losses at one rung."""

    center: float
    """What is taken off a rung's loss before its powers: a better condition, the same curve."""
    coefficients: Floats
    """a, b and c of the curve."""
    covariance: Floats
    """Of the coefficients, over σ²."""
    variance: float
    """σ², of a trial around the curve."""
    degrees_of_freedom: int

    @classmethod
    def of(cls, rung_losses: ArrayLike, qualities: ArrayLike) -> Forecast | None:
        """From finished trials, (num_trials,) each; None where there are too few to tell."""
        x, y = np.asarray(rung_losses, dtype=float), np.asarray(qualities, dtype=float)
        if len(x) < MIN_TRIALS or len(np.unique(x)) < 3:
            return None
        center = float(x.mean())
        powers = _powers(x - center)
        covariance = np.asarray(np.linalg.pinv(powers.T @ powers), dtype=float)
        coefficients: Floats = covariance @ powers.T @ y
        residuals = y - powers @ coefficients
        freedom = len(x) - powers.shape[1]
        return cls(center, coefficients, covariance, float(residuals @ residuals) / freedom, freedom)

    @classmethod
    def at(cls, records: StudyRecords, step: int) -> Forecast | None:
        """From the study's finished trials that were measured after ``step`` steps."""
        pairs = [
            (point.loss, quality)
            for trial, quality in _finished(records)
            for point in trial.measurement.validation_losses
            if point.step == step
        ]
        return cls.of([x for x, _ in pairs], [y for _, y in pairs])

    def mean(self, rung_losses: ArrayLike) -> Floats:
        """The expected final qualities; the shape of ``rung_losses``, as below."""
        return _powers(np.asarray(rung_losses, dtype=float) - self.center) @ self.coefficients

    def scale(self, rung_losses: ArrayLike) -> Floats:
        """The spread of Student's distribution: of a trial, and of the curve where it lies."""
        powers = _powers(np.asarray(rung_losses, dtype=float) - self.center)
        of_curve = np.einsum("...i,ij,...j->...", powers, self.covariance, powers)
        found: Floats = WIDENING * np.sqrt(self.variance * (1.0 + of_curve))
        return found

    def chance_below(self, bounds: ArrayLike, rung_losses: ArrayLike) -> Floats:
        """That final qualities are better than ``bounds``, which may be infinite."""
        ahead = np.asarray(bounds, dtype=float) - self.mean(rung_losses)
        scale = self.scale(rung_losses)
        with np.errstate(divide="ignore"):  # an exact curve has no spread
            return np.asarray(stdtr(self.degrees_of_freedom, ahead / scale))


def _powers(x: Floats) -> Floats:
    """1, x and x² along a new last axis."""
    return np.stack([np.ones_like(x), x, x**2], axis=-1)


def pays(records: StudyRecords) -> bool:
    """Whether stopping saves at least as many of the trials' seconds as measuring at the rungs takes.

    A finished trial would have saved what follows the first rung at which the finished trials give it less
    than ``RISK``. True while too few trials are finished to tell.
    """
    measured = [trial for trial, _ in _finished(records) if len(trial.measurement.validation_losses) > 1]
    might_stop = [trial for trial in measured if not trial.origin.is_named]
    if not might_stop or len(might_stop) + len(records.pruned) < MIN_JUDGED:
        return True
    spent = sum(_rung_seconds(trial) * _num_rungs(trial) for trial in measured)
    saved = sum(_seconds_after(trial, step) for trial, step in _stopped_at(records, might_stop))
    typical = might_stop[-1]
    for trial in records.pruned:
        spent += _rung_seconds(typical)
        saved += _seconds_after(typical, trial.frozen.user_attrs[RUNG]["step"])
    return saved >= spent


def _stopped_at(records: StudyRecords, trials: Iterable[TrialRecord]) -> Iterable[tuple[TrialRecord, int]]:
    """Those of finished trials that the rule would have stopped, and the step."""
    steps = {point.step for trial in trials for point in trial.measurement.validation_losses[:-1]}
    forecasts = {step: Forecast.at(records, step) for step in steps}
    trials = list(trials)
    rivals = _best_of_no_more_bytes(records, [trial.measurement.model_bytes for trial in trials])
    for trial, rival in zip(trials, rivals, strict=True):
        for point in trial.measurement.validation_losses[:-1]:
            forecast = forecasts[point.step]
            if forecast and np.isfinite(rival) and forecast.chance_below(rival, point.loss) < RISK:
                yield trial, point.step
                break


def _finished(records: StudyRecords) -> Iterable[tuple[TrialRecord, float]]:
    """Trials that have really run, with their qualities turned so that lower is better."""
    quality = records.objectives[0]
    sign = OBJECTIVES[quality].sign
    return [(trial, sign * trial.values[quality]) for trial in records.complete if trial.copy_of is None]


def _best_of_no_more_bytes(records: StudyRecords, num_bytes: ArrayLike) -> Floats:
    """For each of ``num_bytes`` the best quality that was measured at no more, turned; infinite for none."""
    quality = records.objectives[0]
    sign = OBJECTIVES[quality].sign
    known = sorted(
        (point.measurement.model_bytes, sign * point.values[quality]) for point in records.measured
    )
    sizes = np.array([size for size, _ in known])
    best = np.minimum.accumulate(np.array([np.inf, *(value for _, value in known)]))
    return best[np.searchsorted(sizes, np.asarray(num_bytes), side="right")]


def _num_rungs(trial: TrialRecord) -> int:
    return len(trial.measurement.validation_losses) - 1


def _rung_seconds(trial: TrialRecord) -> float:
    """Of one measurement on the way: all measurements of a trial are alike."""
    return trial.measurement.seconds.get("evaluate", 0.0) / len(trial.measurement.validation_losses)


def _seconds_after(trial: TrialRecord, step: int) -> float:
    """Of a finished trial, those that come after its measurement at ``step``."""
    points = trial.measurement.validation_losses
    train = trial.measurement.seconds.get("train", 0.0) * (1.0 - step / points[-1].step)
    return train + _rung_seconds(trial) * sum(point.step > step for point in points)
