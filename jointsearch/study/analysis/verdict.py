"""Whether searching has paid: the search's front against the ladder, at equal bytes.

The ladder is what anyone can write down without a search (``study.analysis.ladder``): uniform plans of
every format and rank, simple rules at the same sizes, and what has been measured of named strategies. A
point of the front was chosen because it looked good under the seeds that the search used; so it is judged by
further seeds alone, which ``study refine`` measures.

Two questions, in this order: is the front better than the ladder in the mean over its points? If so, which
points are? Both together are wrong with probability ``LEVEL`` at the most, however often one looks
(``study.analysis.equal_bytes``).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jointsearch.front.objectives import OBJECTIVES, format_value
from jointsearch.study.analysis.equal_bytes import MIN_SEEDS, Entry, Rival, holm, rivals_of, sequential_p
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy
from jointsearch.study.trial_record import TrialRecord

LEVEL = 0.05


@dataclass(frozen=True)
class PointVerdict:
    """One point that the search has put on the front."""

    trial: int
    """That measured the point first."""
    rivals: tuple[Rival, ...]
    """What the ladder has at its bytes; empty where no rung is as small, or none as large."""
    seeds: tuple[int, ...] = ()
    """Seeds that the search did not use, under which all of them were measured."""
    gain: float | None = None
    """How much better the point is than the kindest rival, in the quality's units, over ``seeds``; under the
    search's own seed without any."""
    differences: tuple[float, ...] = ()
    """How much better it is than the kindest rival under each of ``seeds``."""
    p_value: float | None = None
    """That it is no better than one of its rivals; None below two seeds."""
    significant: bool = False
    """Beyond doubt, all points together."""

    @property
    def rival(self) -> str:
        """The name of the kindest one."""
        return self.rivals[0].name if self.rivals else ""

    @property
    def half_width(self) -> float | None:
        """Of the 95 % interval of ``gain``, paired by seed (Student's t); None below two seeds."""
        if len(self.differences) < MIN_SEEDS:
            return None
        from scipy.special import stdtrit  # half a second less than scipy.stats

        num_seeds = len(self.differences)
        deviation = statistics.stdev(self.differences) / math.sqrt(num_seeds)
        return float(stdtrit(num_seeds - 1, 1 - LEVEL / 2)) * deviation


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
    p_value: float | None = None
    """That the front is no better than the ladder in the mean; None below two further seeds."""
    mean_gain: float | None = None
    """Over the points, at equal bytes, in the quality's units."""

    @property
    def gains(self) -> tuple[float, ...]:
        """Of the points that have a rival, by rising bytes."""
        return tuple(entry.gain for entry in self.comparisons if entry.gain is not None)


def judge(study: StoredStudy, records: StudyRecords | None = None) -> Verdict:
    """The verdict on a study's front as it is now."""
    records = records or study.records().answer
    points = [_entry(point) for point in chosen(study, records)]
    ladder = [_entry(rung) for rung in records.baselines if is_rung(study, rung)]
    found = compare(points, ladder, study.searched_seeds)
    if all(point.origin.is_named for point in records.measured):
        sentence = (
            "undecided: no searched plan is measured yet "
            f"({len(records.measured)} uniform and named ones are)"
        )
        return replace(found, fallen=fallen(records), paid=None, sentence=sentence)
    return replace(found, fallen=fallen(records), sentence=_sentence(found, study.name, study.config.quality))


def chosen(study: StoredStudy, records: StudyRecords) -> list[MeasuredPlan]:
    """What the search has put on the front under its own seeds, by rising bytes: others can judge it."""
    by_digest = {point.digest: point for point in records.measured}
    seen = StudyRecords(
        records.objectives, tuple(t for t in records.trials if t.seed in study.searched_seeds), records.steps
    )
    front = [by_digest[point.digest] for point in seen.front]
    return [point for point in front if not point.origin.is_named and study.trains(point.plan)]


def is_rung(study: StoredStudy, point: MeasuredPlan) -> bool:
    """Whether a plan that has a name can be a rival: of the study's adapters, and trained."""
    return point.plan.lora == study.space.lora and study.trains(point.plan)


def compare(points: Sequence[Entry], ladder: Sequence[Entry], searched: Sequence[int]) -> Verdict:
    """Points of a front against a ladder; ``searched``: the seeds under which the points were chosen.

    Rivals are chosen under the first of those that all points have: ``refine`` has the ladder measured there.
    """
    known = [seed for seed in searched if all(seed in point.losses for point in points)][:1]
    comparisons = []
    gains: list[dict[int, float]] = []
    for point in points:
        rivals = rivals_of(point, ladder, known)
        if not rivals:
            comparisons.append(PointVerdict(point.number, ()))
            continue
        entries = [point, *(rung for rival in rivals for rung in (rival.lower, rival.upper))]
        common = set.intersection(*(set(entry.losses) for entry in entries))
        fresh = tuple(sorted(seed for seed in common if seed not in searched))
        paired = [
            dict(zip(fresh or known, _ahead(point, rival, fresh or known), strict=True)) for rival in rivals
        ]
        kindest = min(paired, key=lambda ahead: statistics.fmean(ahead.values()))
        tested = [sequential_p([ahead[seed] for seed in fresh]) for ahead in paired]
        first = rivals[paired.index(kindest)]
        comparisons.append(
            PointVerdict(
                point.number,
                (first, *(rival for rival in rivals if rival is not first)),
                fresh,
                statistics.fmean(kindest.values()),
                tuple(kindest[seed] for seed in fresh),
                None if None in tested else max(p for p in tested if p is not None),
            )
        )
        gains.append({seed: kindest[seed] for seed in fresh})
    return _with_claims(comparisons, gains)


def _ahead(point: Entry, rival: Rival, seeds: Sequence[int]) -> list[float]:
    return [theirs - point.losses[seed] for seed, theirs in zip(seeds, rival.losses(seeds), strict=True)]


def _with_claims(comparisons: list[PointVerdict], gains: list[dict[int, float]]) -> Verdict:
    """First the mean over all points; its points only where that is better."""
    if not gains:
        return Verdict(tuple(comparisons), (), None if comparisons else False, "")
    seeds = sorted(set.intersection(*(set(gain) for gain in gains)))
    means = [statistics.fmean(gain[seed] for gain in gains) for seed in seeds]
    p_value = sequential_p(means)
    if p_value is None:
        return Verdict(tuple(comparisons), (), None, "")
    paid = p_value <= LEVEL
    tested = [entry for entry in comparisons if entry.p_value is not None]
    if paid:
        rejected = iter(holm([entry.p_value or 0.0 for entry in tested], LEVEL))
        comparisons = [
            entry if entry.p_value is None else replace(entry, significant=next(rejected))
            for entry in comparisons
        ]
    return Verdict(tuple(comparisons), (), paid, "", p_value, statistics.fmean(means))


def fallen(records: StudyRecords) -> tuple[MeasuredPlan, ...]:
    """Plans whose first trials were on the front of first trials, and whose means are not on the front."""
    first = [TrialRecord(point.trials[0].frozen, point.trials[0].objectives) for point in records.measured]
    at_first = StudyRecords(records.objectives, tuple(first), records.steps).front
    on_front = {point.digest for point in records.front}
    by_digest = {point.digest: point for point in records.measured}
    return tuple(
        by_digest[point.digest]
        for point in at_first
        if point.digest not in on_front and len(by_digest[point.digest].trials) > 1
    )


def _entry(point: MeasuredPlan) -> Entry:
    quality = point.trials[0].objectives[0]
    sign = OBJECTIVES[quality].sign
    losses = {trial.seed: sign * trial.values[quality] for trial in point.trials if trial.seed is not None}
    return Entry(point.number, point.origin.name, point.measurement.model_bytes, losses)


def _sentence(verdict: Verdict, name: str, quality: str) -> str:
    compared = [entry for entry in verdict.comparisons if entry.rivals]
    if not verdict.comparisons:
        return "searching has not paid: the front is made of plans that need no search"
    if not compared:
        return (
            "undecided: no plan that needs no search is measured on both sides of the front's points; "
            f"`jointsearch study refine {name}` measures those"
        )
    better = sum((entry.gain or 0.0) > 0 for entry in compared)
    if verdict.p_value is None or verdict.mean_gain is None:
        return (
            f"undecided: {better} of {len(compared)} points of the front look better than plans of equal "
            "bytes that need no search, under the search's own seed; "
            f"`jointsearch study refine {name}` measures both with further ones"
        )
    num_seeds = min(len(entry.seeds) for entry in compared)
    gains = sorted(verdict.gains)
    shown = [format_value(quality, value) for value in (statistics.median(gains), gains[0], gains[-1])]
    facts = (
        f"at equal bytes the front's {quality} is {format_value(quality, verdict.mean_gain)} better in the "
        "mean than that of plans that need no search "
        f"(p = {verdict.p_value:.2g}, {num_seeds} further seeds); "
        f"median {shown[0]}, from {shown[1]} to {shown[2]}; {better} of {len(compared)} points are better"
    )
    if not verdict.paid:
        return f"searching has not paid: {facts}"
    return f"searching has paid: {facts}, {sum(entry.significant for entry in compared)} of them beyond doubt"
