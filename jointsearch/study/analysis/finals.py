"""Finals: the best plans of the search run on for longer, because what a rank is worth shows late.

Successive halving upwards (Jamieson and Talwalkar, arXiv 1502.07943): at each longer length run only what
the length before has put on its front, the plans of the ladder that are its rivals there, and what a person
has selected. Every run begins anew: the learning rate of a short one rises sooner and has fallen to 0 at its
end, so that none of its states lies on a longer run's way, and no checkpoint of it gives that run's numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jointsearch.config.search import FinalsSettings
from jointsearch.config.study import StudyConfig
from jointsearch.plan.formats import by_precision
from jointsearch.study.analysis.refine import Wanted, ask, points_and_rivals
from jointsearch.study.full_runs import selections
from jointsearch.study.records import StudyRecords
from jointsearch.study.storage.locks import study_lock
from jointsearch.study.stored import StoredStudy


def final_steps(config: StudyConfig) -> tuple[int, int] | None:
    """Of a trial, and of the longest finals; None of a study without."""
    finals, own = config.search.finals, config.calibration.steps
    return (own, own * finals.times[-1]) if finals else None


@dataclass(frozen=True)
class Stage:
    """One length of finals."""

    steps: int
    before: int | None
    """The length whose front is run on; None: that of the search's trials."""


def stages(study: StoredStudy, settings: FinalsSettings) -> list[Stage]:
    """By rising length."""
    own = study.config.calibration.steps
    steps = sorted({own * times for times in settings.times})
    return [Stage(now, before) for now, before in zip(steps, (None, *steps), strict=False)]


def request_finals(study: StoredStudy, settings: FinalsSettings | None = None) -> int:
    """Put the finals into the queue that are due; the number of trials. ``settings``: by default the study's.

    They are of the first length at which some are missing. 0 where all are there, where those of that length
    wait or run, and where nothing has been measured.
    """
    settings = settings or study.config.search.finals
    if settings is None:
        return 0
    first = study.config.calibration.seed
    seeds = range(first, first + settings.seeds)
    with study_lock(study.optuna_study):  # of workers that ask at once, one finds them missing
        records = study.records()
        for stage in stages(study, settings):
            num = ask(study, records.at(stage.steps), _wanted(study, records, stage), seeds)
            if num or any(trial.steps == stage.steps for trial in records.unfinished):
                return num
    return 0


def request_anchors(study: StoredStudy) -> int:
    """Put the extreme uniform plans into the queue as finals of the first length; the number of trials.

    The lowest and the highest format with the smallest and the largest trained rank: from them the search
    learns early what bits and ranks will be worth (``jointsearch.search.additive.horizon``).
    """
    settings = study.config.search.finals
    if settings is None:
        return 0
    space = study.space
    formats = by_precision({name for group in space.groups for name in group.formats})
    ranks = space.trained_ranks
    extremes = [
        space.uniform_baseline(name, rank)
        for name in (formats[0], formats[-1])
        for rank in (ranks[0], ranks[-1])
    ]
    # under an override two of them may be one plan
    wanted = {entry.plan: entry.origin for entry in extremes}
    steps, seed = stages(study, settings)[0].steps, study.config.calibration.seed
    with study_lock(study.optuna_study):
        return ask(study, study.records().at(steps), wanted.items(), [seed])


def _wanted(study: StoredStudy, records: StudyRecords, stage: Stage) -> Iterator[Wanted]:
    """What is to run at that length."""
    yield from points_and_rivals(study, records.at(stage.before))
    yield from _selected(study, records)


def _selected(study: StoredStudy, records: StudyRecords) -> Iterator[Wanted]:
    """The plans that a person has selected."""
    for number in selections(study.optuna_study.user_attrs):
        yield records.trials[number].plan, records.trials[number].origin
