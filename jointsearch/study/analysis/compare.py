"""Has named strategies measured with the same seeds, and the search's own best of the same bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from optuna.trial import TrialState

from jointsearch.errors import PlanError, StudyError
from jointsearch.front.selection import within_bytes
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import Kind, Origin
from jointsearch.plan.plan import Plan
from jointsearch.runner import SensitivityProber
from jointsearch.strategies.registry import STRATEGIES, strategy
from jointsearch.strategies.settings import StrategySettings
from jointsearch.study.analysis.comparison import REFERENCE, Comparison, comparison_table
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord
from jointsearch.study.warm_start import sensitivities_of

CONFIGURATIONS = ("lora", "qlora", "adalora", "adalora-4bit", "ilp")
"""16-bit LoRA, quantized LoRA, adaptive LoRA, adaptive and quantized LoRA, mixed bits at one rank."""

DISTILLED_FROM = "adalora-4bit"


@dataclass(frozen=True)
class ComparisonSettings:
    """What is compared."""

    strategies: tuple[str, ...] = CONFIGURATIONS
    num_seeds: int = 3
    """Seeds from the study's ``calibration.seed`` on."""
    max_bytes: int | None = None
    """Strategies fill it; those of 16 bits stay as they are where it is too small for them."""
    rank: int | None = None
    """The mean rank; by default the middle one of the study's."""

    @classmethod
    def named(
        cls, names: str | None, layout: ModelLayout, num_seeds: int, max_bytes: int | None, rank: int | None
    ) -> ComparisonSettings:
        """Of names with commas between; raises ``PlanError`` for one that is none."""
        chosen: list[str] = []
        for name in (names or "configurations").split(","):
            match name.strip():
                case "configurations":
                    chosen += CONFIGURATIONS
                case "all":
                    chosen += [made.name for made in STRATEGIES.values() if made.fits(layout)]
                case word:
                    chosen.append(strategy(word).name)
        return cls(tuple(dict.fromkeys(chosen)), num_seeds, max_bytes, rank)

    @property
    def names(self) -> tuple[str, ...]:
        """The strategies and those that they need: the reference, and AdaLoRA for its distilled ranks."""
        needed = [REFERENCE]
        needed += [DISTILLED_FROM for name in self.strategies if strategy(name).needs == "adalora"]
        return tuple(dict.fromkeys([*needed, *self.strategies]))


def compare(
    study: StoredStudy,
    wanted: ComparisonSettings,
    probe: Callable[[], SensitivityProber],
    work: Callable[[], None],
) -> Comparison | None:
    """Measure what has not been measured yet, and compare; None where ``work`` was stopped before its end.

    ``probe`` loads the model, once and only if something is to be measured; ``work`` runs the trials that
    were requested.
    """
    first = study.config.calibration.seed
    seeds = range(first, first + wanted.num_seeds)
    settings = StrategySettings.of(study.space, study.config.search_space, wanted.rank)
    plans: dict[str, Plan] = {}
    for need in ("nothing", "sensitivities"):  # in this order: mistakes show before the model is loaded
        names = [name for name in wanted.names if strategy(name).needs == need]
        if need == "sensitivities" and names:
            settings = replace(settings, sensitivities=sensitivities_of(study, probe))
        plans |= {name: _plan(study, settings, name, wanted.max_bytes) for name in names}
    if not _measure(study, plans, seeds, work):
        return None
    plans = {name: study.rated(plan) for name, plan in plans.items()}
    later: dict[str, Plan] = {}
    for name in wanted.names:
        if strategy(name).needs == "adalora":
            ranks = _distilled_ranks(study, plans[DISTILLED_FROM])
            if ranks is None:
                raise StudyError(f"{name} needs a complete trial of {DISTILLED_FROM}, but all have failed")
            settings = replace(settings, distilled_ranks=ranks)
            later[name] = _plan(study, settings, name, wanted.max_bytes)
    front = _front_plans(study.records(), study.config.quality, {**plans, **later}, wanted.max_bytes)
    # the seeds that chose a point of the front say nothing of it
    further = range(study.searched_seeds.stop, study.searched_seeds.stop + wanted.num_seeds)
    beside = {REFERENCE: plans[REFERENCE], **front} if front else {}
    if not (_measure(study, later, seeds, work) and _measure(study, beside, further, work)):
        return None
    later = {name: study.rated(plan) for name, plan in later.items()}
    return comparison_table(
        study, {**plans, **later, **front}, seeds, wanted.max_bytes, dict.fromkeys(front, further)
    )


def _plan(study: StoredStudy, settings: StrategySettings, name: str, max_bytes: int | None) -> Plan:
    made = strategy(name)
    try:
        return made.plan(study.layout, settings, max_bytes)
    except PlanError:
        if max_bytes is None or made.bits != 16:
            raise
        return made.plan(study.layout, settings)


def _measure(
    study: StoredStudy, plans: Mapping[str, Plan], seeds: Iterable[int], work: Callable[[], None]
) -> bool:
    """Request what no trial has, and have it run; whether all of it has ended."""
    records = study.records()
    plans = {name: study.rated(plan) for name, plan in plans.items()}
    there = {(trial.digest, trial.seed) for trial in records.trials if _counts(records, trial)}
    # all plans at a seed before the next: a stopped comparison has whole pairs
    for seed in seeds:
        for name, plan in plans.items():
            if (plan.digest, seed) not in there:
                kind: Kind = "uniform" if study.space.is_uniform(plan) else "strategy"
                request(study, plan, Origin(kind=kind, name=name), seed=seed)
                there.add((plan.digest, seed))  # two strategies can make the same plan
    if study.records().requested:
        work()
    ended = study.records()
    there = {(trial.digest, trial.seed) for trial in (*ended.complete, *ended.failed)}
    wanted = [study.rated(plan).digest for plan in plans.values()]  # a first sweep has found rates meanwhile
    return all((digest, seed) in there for digest in wanted for seed in seeds)


def _counts(records: StudyRecords, trial: TrialRecord) -> bool:
    """Whether a trial is, or will be, an answer: a waiting baseline of the search may wait for long."""
    if trial.state == TrialState.WAITING:
        return trial.requested
    return trial.state != TrialState.FAIL or trial in records.failed


def _front_plans(
    records: StudyRecords, quality: str, plans: Mapping[str, Plan], max_bytes: int | None
) -> dict[str, Plan]:
    """The search's best plans of at most the bytes of each compared plan, or of the budget alone."""
    searched = StudyRecords(records.objectives, tuple(trial for trial in records.trials if trial.searched))
    compared = {plan.digest for plan in plans.values()}
    sizes = (
        {max_bytes}
        if max_bytes is not None
        else {trial.measurement.model_bytes for trial in records.complete if trial.digest in compared}
    )
    found = {}
    for size in sorted(size for size in sizes if size is not None):
        fitting = [point for point in searched.front_points if point.model_bytes <= size]
        if fitting:
            number = within_bytes(fitting, size, quality).trial
            plan = records.trials[number].plan
            if plan.digest not in compared:
                found[f"front (trial {number})"] = plan
    return found


def _distilled_ranks(study: StoredStudy, plan: Plan) -> dict[str, int] | None:
    """The ranks that the first trial of an adaptive ``plan`` has ended with, if there is one."""
    found = [trial for trial in study.records().complete if trial.digest == plan.digest]
    return found[0].measurement.ranks if found else None
