"""What the parts of a plan are worth."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

from jointsearch.front.objectives import OBJECTIVES, format_value
from jointsearch.search.additive.predicted_front import Effect
from jointsearch.search.optuna_compat import experimental_optuna
from jointsearch.space import SearchSpace
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


def why_table(study: StoredStudy, records: StudyRecords, trial: int) -> WhyTable:
    """At the plan that ``trial`` measured first; raises ``StudyError``, also where there are few trials."""
    table = front_table(study, records)
    point = table.point(trial)
    effects = group_effects(study, records, point.measured.plan)
    return WhyTable(point, table.quality, effects)


def ranked(table: WhyTable, *, per_megabyte: bool = False) -> tuple[Effect, ...]:
    """The effects, the largest first; ``per_megabyte``: those that take bytes, by what one buys."""
    if not per_megabyte:
        return tuple(sorted(table.effects, key=lambda effect: -effect.gain))
    costly = [effect for effect in table.effects if effect.model_bytes > 0]
    return tuple(sorted(costly, key=lambda effect: -effect.gain / effect.model_bytes))


@dataclass(frozen=True)
class DepthLine:
    """What a knob is worth for one part of every block, from the first to the last."""

    knob: str
    part: str
    gains: tuple[float, ...]


def by_depth(table: WhyTable, space: SearchSpace) -> tuple[DepthLine, ...]:
    """The effects of groups that lie in blocks, in the order of the forward pass."""
    gains = {(effect.group, effect.knob): effect.gain for effect in table.effects}
    found: dict[tuple[str, str], list[float]] = {}
    for group in space.groups:
        if not group.block:
            continue
        stack = re.sub(r"\.?\d+$", "", group.block)
        place = group.name.removeprefix(group.block).lstrip(".") or "block"
        part = f"{stack} {place}" if _stacks(space) > 1 else place
        for knob in ("bits", "rank"):
            if (group.name, knob) in gains:
                found.setdefault((knob, part), []).append(gains[group.name, knob])
    return tuple(DepthLine(knob, part, tuple(line)) for (knob, part), line in found.items())


def _stacks(space: SearchSpace) -> int:
    return len({re.sub(r"\.?\d+$", "", group.block) for group in space.groups if group.block})


def in_words(table: WhyTable) -> str:
    """What is worth most, and how many effects are not told apart from none."""
    if not table.effects:
        return "The search has nothing to choose."
    best = ranked(table)[0]
    unclear = sum(effect.low <= 0 <= effect.high for effect in table.effects)
    text = (
        f"The {best.knob} of {best.group} are worth most: {format_value(table.quality, best.gain)} "
        f"{table.quality} from {best.lowest} to {best.highest}."
        if best.knob == "bits"
        else f"The rank of {best.group} is worth most: {format_value(table.quality, best.gain)} "
        f"{table.quality} from {best.lowest} to {best.highest}."
    )
    return f"{text} {unclear} of {len(table.effects)} effects are not told apart from 0."


def importances(study: StoredStudy) -> dict[str, float]:
    """Optuna's, by parameter, the largest first: shares of the variance of the quality (PED-ANOVA).

    Empty where too few trials have parameters, or all of them are equally good. Every parameter of every
    trial is read for it, which takes seconds of a long study.
    """
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
