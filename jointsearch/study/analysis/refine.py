"""Measures the front's points, and the uniform plans near them, again with further seeds."""

from __future__ import annotations

from jointsearch.study.analysis.verdict import best_baseline
from jointsearch.study.measured_plan import MeasuredPlan
from jointsearch.study.plans import records_with_front
from jointsearch.study.queue import request
from jointsearch.study.records import StudyRecords
from jointsearch.study.stored import StoredStudy


def refine(study: StoredStudy, num_seeds: int) -> int:
    """Put the trials into the queue so that each of these plans has ``num_seeds`` further seeds.

    Further seeds follow those of the search. What is there, waits or runs is not asked for again, so
    that a second call adds what the front has gained since. The number of trials put into the queue; raises
    ``StudyError`` where no trial is complete.
    """
    records = records_with_front(study)
    first = study.config.calibration.seed + study.config.search.repeats
    asked = {(trial.digest, trial.seed) for trial in (*records.complete, *records.running, *records.waiting)}
    # seed by seed, so that whatever is finished early can be compared in pairs
    wanted = [
        (point, seed)
        for seed in range(first, first + num_seeds)
        for point in worth_refining(study, records)
        if (point.digest, seed) not in asked
    ]
    for point, seed in wanted:
        request(study, point.plan, point.origin, seed=seed)
    return len(wanted)


def worth_refining(study: StoredStudy, records: StudyRecords) -> list[MeasuredPlan]:
    """The points of the front, each once, and the best uniform plan of no more bytes for each."""
    found = {point.digest: point for point in records.front}
    for point in records.front:
        baseline = best_baseline(records, point, study.config.quality)
        if baseline is not None:
            found.setdefault(baseline.digest, baseline)
    return list(found.values())
