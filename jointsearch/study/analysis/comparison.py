"""Named strategies beside each other: the same data, steps and seeds, and, if wanted, the same bytes.

Every plan is measured once per seed, as a trial of the study. Differences to the reference are paired by
seed, because what a seed decides (the order of the batches, the adapters' start) moves both plans alike:

    d_s = q_s(plan) - q_s(reference),   mean(d) ± t_{1-(1-c)/2, n-1} · stdev(d) / √n

with Student's t for n seeds and confidence c. Each interval stands for itself: of twenty plans that are in
truth equal to the reference, one is expected to show a difference at c = 95 %.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.plan.plan import Plan
from jointsearch.plan.record import Record
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

REFERENCE = "qlora"
CONFIDENCE = 0.95


class PairedDifference(Record):
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
    difference: PairedDifference | None = None
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


def comparison_table(
    study: StoredStudy,
    plans: Mapping[str, Plan],
    seeds: Sequence[int],
    max_bytes: int | None = None,
    own_seeds: Mapping[str, Sequence[int]] = MappingProxyType({}),
) -> Comparison:
    """The rows of the plans as they are measured now, the reference first, the others by their bytes.

    ``own_seeds``: of plans that other seeds than ``seeds`` are to judge, by name.
    """
    records = study.records()
    front = {point.digest for point in records.front}
    seeds_of = {name: own_seeds.get(name, seeds) for name in plans}
    all_seeds = sorted(set().union(*seeds_of.values()))
    found = {name: trials_of(records.complete, plan, seeds_of[name]) for name, plan in plans.items()}
    reference = trials_of(records.complete, plans[REFERENCE], all_seeds)
    rows = [
        _row(
            name,
            found[name],
            reference if name != REFERENCE else {},
            on_front=plan.digest in front,
            failures=[trial.failure for trial in trials_of(records.failed, plan, seeds_of[name]).values()],
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
        seeds=tuple(all_seeds),
        max_bytes=max_bytes,
        steps=study.config.calibration.steps,
        device=measured.device if measured else "",
        versions=measured.versions if measured else {},
        rows=tuple(rows),
    )


def paired_difference(
    values: Mapping[int, float], reference: Mapping[int, float], confidence: float = CONFIDENCE
) -> PairedDifference | None:
    """Over the seeds that both have; None where there is none."""
    differences = [values[seed] - reference[seed] for seed in values if seed in reference]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return PairedDifference(mean=mean)
    if max(differences) == min(differences):  # no spread: the interval is a point
        return PairedDifference(mean=mean, low=mean, high=mean)
    from scipy.stats import ttest_1samp

    interval = ttest_1samp(differences, 0.0).confidence_interval(confidence)
    return PairedDifference(mean=mean, low=float(interval.low), high=float(interval.high))


def is_better(comparison: Comparison, row: ComparedPlan) -> bool | None:
    """Whether the row's interval lies wholly on the better (True) or worse (False) side of the reference."""
    difference = row.difference
    if difference is None or difference.low is None or difference.high is None:
        return None
    sign = OBJECTIVES[comparison.quality].sign
    low, high = sorted((sign * difference.low, sign * difference.high))
    return True if high < 0 else False if low > 0 else None


def trials_of(trials: Iterable[TrialRecord], plan: Plan, seeds: Iterable[int]) -> dict[int, TrialRecord]:
    """The first trial of the plan with each seed."""
    by_seed: dict[int, TrialRecord] = {}
    for trial in trials:
        if trial.digest == plan.digest and trial.seed is not None:
            by_seed.setdefault(trial.seed, trial)
    return {seed: by_seed[seed] for seed in seeds if seed in by_seed}


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
