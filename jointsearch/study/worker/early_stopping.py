"""Early stopping: a trial that is, with high probability, dominated at its bytes ends at a rung.

At a rung (``calibration.measure_at``) the validation loss x of a trial tells its final quality y, turned so
that lower is better, by a line that is fitted to the finished trials of the study:

    y = a + b x + ε,    ε ~ N(0, σ²)

so that y has Student's t distribution with n − 2 degrees of freedom around the line (Gelman et al., Bayesian
Data Analysis, 3rd ed., section 14.2). The trial is stopped where the chance that it is better than the
best measured plan of no more bytes is below ``RISK``. Optuna's pruners cannot do this: they are for one
objective.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import optuna
from numpy.typing import ArrayLike
from scipy.stats import t as student

from jointsearch.errors import TrialPruned
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.plan import Plan
from jointsearch.search.attributes import EXPECTED
from jointsearch.study.attributes import REQUESTED, RUNG, stored_origin
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.writing import write
from jointsearch.study.stored import StoredStudy

RISK = 0.05
MIN_TRIALS = 10
"""Finished trials before anything is stopped."""


def may_stop_early(study: StoredStudy, trial: optuna.Trial) -> bool:
    """A plan with a name, or that a person asked for, is measured to its end."""
    asked_for = stored_origin(trial.user_attrs).is_named or REQUESTED in trial.user_attrs
    return study.config.search.early_stopping and not asked_for


def stop_where_hopeless(
    study: StoredStudy, records: StudyRecords, trial: optuna.Trial, plan: Plan, step: int, loss: float
) -> None:
    """Raise ``TrialPruned`` where the trial is, by its loss at a rung, too unlikely to be on the front."""
    forecast, rival = forecast_at(records, step, loss, plan_cost(study.layout, plan).model_bytes)
    if forecast and rival is not None and forecast.chance_below(rival) < RISK:
        sign = OBJECTIVES[study.config.quality].sign
        write(trial, {EXPECTED: sign * forecast.mean, RUNG: {"step": step, "loss": loss}})
        raise TrialPruned(f"stopped at step {step}: hardly on the front")


@dataclass(frozen=True)
class Forecast:
    """Of a trial's final quality, turned so that lower is better."""

    mean: float
    scale: float
    degrees_of_freedom: int

    @classmethod
    def of(cls, rung_losses: ArrayLike, qualities: ArrayLike, rung_loss: float) -> Forecast | None:
        """From finished trials, (num_trials,) each; None where there are too few to tell."""
        x, y = np.asarray(rung_losses, dtype=float), np.asarray(qualities, dtype=float)
        if len(x) < MIN_TRIALS or np.ptp(x) == 0:
            return None
        centered = x - x.mean()
        slope = centered @ y / (centered @ centered)
        residuals = y - y.mean() - slope * centered
        variance = residuals @ residuals / (len(x) - 2)
        distance = rung_loss - x.mean()
        spread = variance * (1 + 1 / len(x) + distance**2 / (centered @ centered))
        return cls(float(y.mean() + slope * distance), float(np.sqrt(spread)), len(x) - 2)

    def chance_below(self, bound: float) -> float:
        """That the final quality is better than ``bound``."""
        if self.scale == 0:
            return float(self.mean < bound)
        return float(student.cdf((bound - self.mean) / self.scale, self.degrees_of_freedom))


def forecast_at(
    records: StudyRecords, step: int, loss: float, model_bytes: int
) -> tuple[Forecast | None, float | None]:
    """A trial's forecast by its loss at a rung, and the best quality measured at no more bytes."""
    quality = records.objectives[0]
    sign = OBJECTIVES[quality].sign
    finished = [trial for trial in records.complete if trial.copy_of is None]
    pairs = [
        (point.loss, sign * trial.values[quality])
        for trial in finished
        for point in trial.measurement.validation_losses
        if point.step == step
    ]
    rivals = [
        sign * point.values[quality]
        for point in records.measured
        if point.measurement.model_bytes <= model_bytes
    ]
    forecast = Forecast.of([x for x, _ in pairs], [y for _, y in pairs], loss)
    return forecast, min(rivals, default=None)
