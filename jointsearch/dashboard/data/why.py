"""What the parts of a plan are worth."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.search.additive.predicted_front import Effect
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.study.analysis.front_table import PlanPoint, front_table
from jointsearch.study.analysis.prediction import group_effects
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


@dataclass(frozen=True)
class WhyTable:
    """What the parts of a plan are worth."""

    point: PlanPoint
    """The plan at which it is asked."""
    quality: str
    effects: tuple[Effect, ...]
    """By the model of the search, the largest first."""
    importances: dict[str, float]
    """Optuna's, by parameter, the largest first: shares of the variance of the quality (PED-ANOVA)."""


def why_table(study: StoredStudy, records: StudyRecords, trial: int) -> WhyTable:
    """At the plan that ``trial`` measured first; raises ``StudyError``, also where there are few trials."""
    table = front_table(study, records)
    point = table.point(trial)
    effects = group_effects(study, records, point.measured.plan)
    return WhyTable(point, table.quality, effects, _importances(study))


def _importances(study: StoredStudy) -> dict[str, float]:
    """Empty where too few trials have parameters, or all of them are equally good."""
    sign = OBJECTIVES[study.config.quality].sign
    try:
        with experimental_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that lower is taken for better, as is meant
            return get_param_importances(
                study.optuna_study,
                evaluator=PedAnovaImportanceEvaluator(),
                params=list(study.space.parameters),
                target=lambda trial: sign * trial.values[0],
            )
    except (ValueError, RuntimeError):
        return {}
