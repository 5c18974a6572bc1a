"""Whether searching has paid: the front's points against the best uniform plans of no more bytes.

A point of the front was chosen because it looked good, under the seeds that the search used; so it is
judged by the other seeds alone, which ``study refine`` measures. Point and uniform plan are compared seed
by seed (both saw the same batches), with a one-sided paired t-test; over all points the false discovery
rate is controlled (Benjamini and Hochberg, JRSS B 57, 1995; both from SciPy).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jointsearch.front.objectives import OBJECTIVES
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

Floats = NDArray[np.float64]

SIGNIFICANT = 0.05


@dataclass(frozen=True)
class PointVerdict:
    """One point of the front that is no uniform plan."""

    point: MeasuredPlan
    baseline: MeasuredPlan | None
    """The best uniform plan of no more bytes; None where none is so small."""
    seeds: tuple[int, ...]
    """Seeds that the search did not use, under which both were measured."""
    gain: float | None
    """How much better the point is, in the quality's units, over ``seeds``; over all without any."""
    confidence: float | None
    """One minus the p-value of the gain; None below two seeds."""
    significant: bool = False
    """Beyond the false discovery rate of all points."""


@dataclass(frozen=True)
class Verdict:
    """What a study has shown, as plain data."""

    comparisons: tuple[PointVerdict, ...]
    """By rising bytes."""
    fallen: tuple[MeasuredPlan, ...]
    """Plans that their first trials would put on the front, and further seeds do not."""
    paid: bool | None
    """Whether searching has paid; None while that is undecided."""
    sentence: str


def judge(study: StoredStudy, records: StudyRecords | None = None) -> Verdict:
    """The verdict on a study's front as it is now."""
    records = records or study.records()
    quality = study.config.quality
    searched = range(
        study.config.calibration.seed, study.config.calibration.seed + study.config.search.repeats
    )
    comparisons = [
        _compare(point, best_baseline(records, point, quality), searched, quality)
        for point in records.front
        if point.origin.kind != "uniform"
    ]
    comparisons = _judged(comparisons)
    paid, sentence = _conclusion(study.name, records, comparisons)
    return Verdict(tuple(comparisons), fallen(records), paid, sentence)


def best_baseline(records: StudyRecords, point: MeasuredPlan, quality: str) -> MeasuredPlan | None:
    """The best uniform plan of no more bytes than ``point``."""
    sign = OBJECTIVES[quality].sign
    smaller = [
        baseline
        for baseline in records.uniform
        if baseline.measurement.model_bytes <= point.measurement.model_bytes
    ]
    return min(smaller, key=lambda baseline: sign * baseline.values[quality], default=None)


def fallen(records: StudyRecords) -> tuple[MeasuredPlan, ...]:
    """Plans whose first trials were on the front of first trials, and whose means are not on the front."""
    first = [TrialRecord(point.trials[0].frozen, point.trials[0].objectives) for point in records.measured]
    at_first = StudyRecords(records.objectives, tuple(first)).front
    on_front = {point.digest for point in records.front}
    by_digest = {point.digest: point for point in records.measured}
    return tuple(
        by_digest[point.digest]
        for point in at_first
        if point.digest not in on_front and len(by_digest[point.digest].trials) > 1
    )


def _compare(
    point: MeasuredPlan, baseline: MeasuredPlan | None, searched: range, quality: str
) -> PointVerdict:
    if baseline is None:
        return PointVerdict(point, None, (), None, None)
    sign = OBJECTIVES[quality].sign
    ours, theirs = (
        {trial.seed: sign * trial.values[quality] for trial in measured.trials if trial.seed is not None}
        for measured in (point, baseline)
    )
    seeds = tuple(sorted(seed for seed in ours.keys() & theirs.keys() if seed not in searched))
    if not seeds:
        return PointVerdict(
            point, baseline, (), sign * (baseline.values[quality] - point.values[quality]), None
        )
    ahead = np.array([theirs[seed] - ours[seed] for seed in seeds])
    return PointVerdict(point, baseline, seeds, float(ahead.mean()), _confidence(ahead))


def _confidence(ahead: Floats) -> float | None:
    """That the mean of paired differences is above zero."""
    if len(ahead) < 2:
        return None
    if np.ptp(ahead) <= 1e-12 * np.abs(ahead).max():  # the test divides by their spread
        return float(ahead[0] > 0)
    from scipy.stats import ttest_rel  # takes most of a second, which the other studies should not wait

    return 1.0 - float(ttest_rel(ahead, np.zeros(len(ahead)), alternative="greater").pvalue)


def _judged(comparisons: list[PointVerdict]) -> list[PointVerdict]:
    tested = [entry.confidence for entry in comparisons if entry.confidence is not None]
    if not tested:
        return comparisons
    from scipy.stats import false_discovery_control

    adjusted = iter(false_discovery_control([1.0 - confidence for confidence in tested]))
    return [
        entry
        if entry.confidence is None
        else PointVerdict(
            entry.point,
            entry.baseline,
            entry.seeds,
            entry.gain,
            entry.confidence,
            bool(next(adjusted) <= SIGNIFICANT),
        )
        for entry in comparisons
    ]


def _conclusion(name: str, records: StudyRecords, comparisons: list[PointVerdict]) -> tuple[bool | None, str]:
    """Whether searching has paid, and the sentence that says so."""
    if all(point.origin.is_named for point in records.measured):
        return None, (
            "undecided: no searched plan is measured yet "
            f"({len(records.measured)} uniform and named ones are)"
        )
    compared = [entry for entry in comparisons if entry.baseline is not None]
    if not compared:
        return False, "searching has not paid: the front is made of uniform plans, or of none as small"
    tested = [entry for entry in compared if entry.confidence is not None]
    if not tested:
        return None, (
            f"undecided: {len(compared)} points of the front look better than the uniform plans of no more "
            f"bytes, under one seed; `jointsearch study refine {name}` measures them with further ones"
        )
    winners = [entry for entry in tested if entry.significant]
    if not winners:
        closest = max(tested, key=lambda entry: entry.confidence or 0.0)
        assert closest.baseline is not None
        return False, f"searching has not paid: {closest.baseline.origin.name} is within noise"
    best = max(winners, key=lambda entry: entry.gain or 0.0)
    assert best.baseline is not None
    return True, (
        f"searching has paid: {len(winners)} of {len(tested)} tested points of the front beat the best "
        f"uniform plan of no more bytes; trial {best.point.number} beats {best.baseline.origin.name} "
        f"by {best.gain:.4f} with {best.confidence:.1%} confidence ({len(best.seeds)} further seeds)"
    )
