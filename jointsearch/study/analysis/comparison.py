"""Named strategies beside each other: the same data, steps and seeds, and, if wanted, the same bytes.

Every plan is measured once per seed, as a trial of the study. Differences to the reference are paired by
seed, because what a seed decides (the order of the batches, the adapters' start) moves both plans alike:

    d_s = q_s(plan) - q_s(reference),   mean(d) ± t_{1-(1-c)/2, n-1} · stdev(d) / √n

with Student's t for n seeds and confidence c. Each interval stands for itself: of twenty plans that are in
truth equal to the reference, one is expected to show a difference at c = 95 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from optuna.trial import TrialState

from jointsearch.errors import PlanError, StudyError
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.front.selection import within_bytes
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import Kind, Origin
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import Record
from jointsearch.runner import SensitivityProber
from jointsearch.strategies.registry import STRATEGIES, strategy
from jointsearch.strategies.settings import StrategySettings
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord
from jointsearch.study.warm_start import sensitivities_of

CONFIGURATIONS = ("lora", "qlora", "adalora", "adalora-4bit", "ilp")
"""16-bit LoRA, quantized LoRA, adaptive LoRA, adaptive and quantized LoRA, mixed bits at one rank."""

REFERENCE = "qlora"
DISTILLED_FROM = "adalora-4bit"
CONFIDENCE = 0.95


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


class Difference(Record):
    """To the reference, paired by seed; the interval is there from two seeds on."""

    mean: float
    low: float | None = None
    high: float | None = None


class ComparedPlan(Record):
    """One row: a plan over its seeds. Means over seeds unless a field says otherwise."""

    name: str
    trials: tuple[int, ...]
    qualities: dict[int, float]
    """By seed."""
    mean: float | None = None
    standard_error: float | None = None
    difference: Difference | None = None
    model_bytes: float = 0.0
    bytes_per_parameter: float = 0.0
    trainable_share: float = 0.0
    peak_memory_bytes: int = 0
    """The highest."""
    seconds_per_epoch: float = 0.0
    inference_rate: float = 0.0
    nonfinite_steps: int = 0
    """Of all seeds together, as the next."""
    loss_spikes: int = 0
    largest_gradient_norm: float = 0.0
    """The largest."""
    on_front: bool = False
    failures: tuple[str, ...] = ()


class Comparison(Record):
    """The whole table."""

    study: str
    quality: str
    reference: str
    confidence: float
    seeds: tuple[int, ...]
    max_bytes: int | None
    steps: int
    device: str
    versions: dict[str, str]
    rows: tuple[ComparedPlan, ...]


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
    later: dict[str, Plan] = {}
    for name in wanted.names:
        if strategy(name).needs == "adalora":
            ranks = _distilled_ranks(study, plans[DISTILLED_FROM])
            if ranks is None:
                raise StudyError(f"{name} needs a complete trial of {DISTILLED_FROM}, but all have failed")
            settings = replace(settings, distilled_ranks=ranks)
            later[name] = _plan(study, settings, name, wanted.max_bytes)
    later |= _front_plans(study.records(), study.config.quality, {**plans, **later}, wanted.max_bytes)
    if not _measure(study, later, seeds, work):
        return None
    return table(study, {**plans, **later}, seeds, wanted.max_bytes)


def table(
    study: StoredStudy, plans: Mapping[str, Plan], seeds: Sequence[int], max_bytes: int | None = None
) -> Comparison:
    """The rows of the plans as they are measured now, the reference first, the others by their bytes."""
    records = study.records()
    front = {point.digest for point in records.front}
    found = {name: _trials(records.complete, plan, seeds) for name, plan in plans.items()}
    rows = [
        _row(
            name,
            found[name],
            found[REFERENCE] if name != REFERENCE else {},
            on_front=plan.digest in front,
            failures=[trial.failure for trial in _trials(records.failed, plan, seeds).values()],
        )
        for name, plan in plans.items()
    ]
    rows.sort(key=lambda row: (row.name != REFERENCE, row.model_bytes))
    measured = next((trial.measurement for trials in found.values() for trial in trials.values()), None)
    return Comparison(
        study=study.name,
        quality=study.config.quality,
        reference=REFERENCE,
        confidence=CONFIDENCE,
        seeds=tuple(seeds),
        max_bytes=max_bytes,
        steps=study.config.calibration.steps,
        device=measured.device if measured else "",
        versions=measured.versions if measured else {},
        rows=tuple(rows),
    )


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> Difference | None:
    """Over the seeds that both have; None where there is none."""
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Difference(mean=mean)
    if max(differences) == min(differences):  # no spread: the interval is a point
        return Difference(mean=mean, low=mean, high=mean)
    from scipy.stats import ttest_1samp

    interval = ttest_1samp(differences, 0.0).confidence_interval(confidence)
    return Difference(mean=mean, low=float(interval.low), high=float(interval.high))


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
    return all((plan.digest, seed) in there for plan in plans.values() for seed in seeds)


def _counts(records: StudyRecords, trial: TrialRecord) -> bool:
    """Whether a trial is, or will be, an answer: a waiting baseline of the search may wait for long."""
    if trial.state == TrialState.WAITING:
        return trial.requested
    return trial.state != TrialState.FAIL or trial in records.failed


def _trials(trials: Iterable[TrialRecord], plan: Plan, seeds: Iterable[int]) -> dict[int, TrialRecord]:
    """The first trial of the plan with each seed."""
    by_seed: dict[int, TrialRecord] = {}
    for trial in trials:
        if trial.digest == plan.digest and trial.seed is not None:
            by_seed.setdefault(trial.seed, trial)
    return {seed: by_seed[seed] for seed in seeds if seed in by_seed}


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


def _row(
    name: str,
    trials: Mapping[int, TrialRecord],
    reference: Mapping[int, TrialRecord],
    *,
    on_front: bool,
    failures: Iterable[str],
) -> ComparedPlan:
    qualities = _qualities(trials)
    failures = tuple(failures)
    if not trials:
        return ComparedPlan(name=name, trials=(), qualities={}, failures=failures)
    measured = MeasuredPlan(tuple(trials.values()))
    quality = measured.trials[0].objectives[0]
    found = [trial.measurement for trial in trials.values()]
    return ComparedPlan(
        name=name,
        trials=tuple(trial.number for trial in trials.values()),
        qualities=qualities,
        mean=measured.values[quality],
        standard_error=measured.standard_error(quality),
        difference=paired_difference(qualities, _qualities(reference)),
        model_bytes=statistics.fmean(m.model_bytes for m in found),
        bytes_per_parameter=statistics.fmean(m.bytes_per_parameter for m in found),
        trainable_share=statistics.fmean(m.trainable_share for m in found),
        peak_memory_bytes=max(m.peak_memory_bytes for m in found),
        seconds_per_epoch=statistics.fmean(m.seconds_per_epoch for m in found),
        inference_rate=statistics.fmean(m.inference_rate for m in found),
        nonfinite_steps=sum(m.stability.nonfinite_steps for m in found),
        loss_spikes=sum(m.stability.loss_spikes for m in found),
        largest_gradient_norm=max(m.stability.largest_gradient_norm for m in found),
        on_front=on_front,
        failures=failures,
    )


def _qualities(trials: Mapping[int, TrialRecord]) -> dict[int, float]:
    return {seed: next(iter(trial.values.values())) for seed, trial in trials.items()}


def is_better(comparison: Comparison, row: ComparedPlan) -> bool | None:
    """Whether the row's interval lies wholly on the better (True) or worse (False) side of the reference."""
    difference = row.difference
    if difference is None or difference.low is None or difference.high is None:
        return None
    sign = OBJECTIVES[comparison.quality].sign
    low, high = sorted((sign * difference.low, sign * difference.high))
    return True if high < 0 else False if low > 0 else None


def _distilled_ranks(study: StoredStudy, plan: Plan) -> dict[str, int] | None:
    """The ranks that the first trial of an adaptive ``plan`` has ended with, if there is one."""
    found = [trial for trial in study.records().complete if trial.digest == plan.digest]
    return found[0].measurement.ranks if found else None
