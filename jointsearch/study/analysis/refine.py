"""Has the front's points, and their rivals of equal bytes, measured again with further seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from jointsearch.plan.origin import Origin
from jointsearch.plan.plan import Plan
from jointsearch.study.analysis.ladder import ladder, neighbours
from jointsearch.study.analysis.verdict import chosen, judge
from jointsearch.study.plans import records_with_front
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy

Wanted = tuple[Plan, Origin]


def refine(study: StoredStudy, num_seeds: int) -> int:
    """Put into the queue what the verdict needs next; the number of trials. Raises ``StudyError`` where no
    trial is complete.

    First, under the search's own seed, the ladder's plans next to the points of the front: they tell which
    rivals are worth more. Once those are measured, ``num_seeds`` further seeds of every point and its rivals.
    Where there are finals both are of the longest ones: these have brought the measured rivals along, and
    the rest of the ladder is needed there, too, or a gap between two ranks would be a gain. What is there,
    waits or runs is not asked for again, so that a call that finds nothing to do gives 0.
    """
    records = records_with_front(study)
    searched = study.searched_seeds
    further = range(searched.stop, searched.stop + num_seeds)
    near = ask(study, records, _near(study, records), searched[:1])
    return near or ask(study, records, points_and_rivals(study, records), further)


def ask(study: StoredStudy, records: StudyRecords, wanted: Iterable[Wanted], seeds: Iterable[int]) -> int:
    """Request what of these plans and seeds has no trial as long as those of ``records``; how many."""
    known = records.known()
    num = 0
    plans = dict.fromkeys((study.rated(plan), origin) for plan, origin in wanted)
    # seed by seed, so that whatever is finished early can be compared in pairs
    for seed in seeds:
        for plan, origin in plans:
            if (plan.digest, seed) not in known:
                known.add((plan.digest, seed))
                request(study, plan, origin, seed=seed, steps=records.steps)
                num += 1
    return num


def _near(study: StoredStudy, records: StudyRecords) -> Iterator[Wanted]:
    """The ladder's plans next to the points of the front."""
    rungs = ladder(study.space, study.layout)
    for point in chosen(study, records):
        for rung in neighbours(rungs, point.measurement.model_bytes):
            yield rung.plan, rung.origin


def points_and_rivals(study: StoredStudy, records: StudyRecords) -> Iterator[Wanted]:
    """The points of the front, and the plans of the ladder that are their rivals."""
    by_number = {point.number: point for point in records.measured}
    numbers = [point.number for point in records.front]
    for entry in judge(study, records).comparisons:
        rungs = [rung for rival in entry.rivals for rung in (rival.lower, rival.upper)]
        numbers += [entry.trial, *(rung.number for rung in rungs)]
    for number in numbers:
        yield by_number[number].plan, by_number[number].origin
