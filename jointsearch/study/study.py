"""Creates, opens, lists and deletes studies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import optuna
from optuna.storages import BaseStorage
from optuna.trial import TrialState, create_trial
from pydantic import ValidationError

from jointsearch.config.study import StudyConfig, differences
from jointsearch.errors import StudyError, nearest
from jointsearch.front.objectives import OBJECTIVES
from jointsearch.front.selection import at_knee
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import REQUEST, Origin
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile, PlanSource
from jointsearch.plan.record import digest
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.runner import SensitivityProber
from jointsearch.search.optuna_compat import experimental_optuna, generation_of
from jointsearch.space import SearchSpace
from jointsearch.strategies.settings import StrategySettings
from jointsearch.study.control import Wanted, want
from jointsearch.study.full_runs import FullRun, full_runs, select, selections, withdraw
from jointsearch.study.queue import enqueue, requeue
from jointsearch.study.records import (
    CONFIG,
    CONVERGED,
    IMPORTED_FROM,
    LAYOUT,
    MEASUREMENT,
    ORIGIN,
    PLAN_ATTRIBUTES,
    REQUESTED,
    SEED,
    SELECTION,
    SENSITIVITIES,
    RecordReader,
    StudyRecords,
    TrialRecord,
)
from jointsearch.study.storage.opening import open_storage
from jointsearch.study.warm_start import enqueue_known, enqueue_measured


@dataclass(frozen=True)
class JointStudy:
    """An Optuna study of ours, with its config and layout."""

    optuna_study: optuna.Study
    config: StudyConfig

    @property
    def name(self) -> str:
        return self.optuna_study.study_name

    def with_config(self, config: StudyConfig) -> JointStudy:
        """The same study from now on with ``config``, which may differ in what trials do not depend on."""
        if config != self.config:
            self.optuna_study.set_user_attr(CONFIG, config.model_dump(mode="json"))
        if config.search.stop != self.config.search.stop:
            self.optuna_study.set_user_attr(CONVERGED, None)
        return JointStudy(self.optuna_study, config)

    def want(self, state: Wanted) -> None:
        """Tell the workers, wherever they run."""
        want(self.optuna_study, state)

    @cached_property
    def layout(self) -> ModelLayout:
        return ModelLayout.model_validate(self.optuna_study.user_attrs[LAYOUT])

    @cached_property
    def space(self) -> SearchSpace:
        return build_space(self.config, self.layout)

    def records(self) -> StudyRecords:
        """All trials as they are now, without parameters: ``optuna_study.get_trials()`` has them."""
        return self._reader.read()

    @cached_property
    def _reader(self) -> RecordReader:
        return RecordReader(self.optuna_study, self.config.objectives)

    @property
    def converged(self) -> bool:
        """Whether the search has ended by ``search.stop``."""
        return self.config.search.stop is not None and bool(self.optuna_study.user_attrs.get(CONVERGED))

    def num_left(self, records: StudyRecords) -> int:
        """Trials yet to be finished; of a search that has converged those asked for on top alone."""
        return records.num_left(0 if self.converged else self.config.search.trials)

    @property
    def selection(self) -> int | None:
        """The number of the trial that was selected last, which is exported."""
        return self.optuna_study.user_attrs.get(SELECTION)

    def select(self, trial: int, note: str = "") -> None:
        """Have the trial's plan exported and trained in full, beside those selected before."""
        select(self.optuna_study, trial, note)

    def withdraw(self, trial: int) -> None:
        """Take a selection back; raises ``StudyError`` where there is none."""
        if not withdraw(self.optuna_study, trial):
            selected = list(selections(self.optuna_study.user_attrs))
            raise StudyError(f"the trial must be a selected one ({selected}), but got {trial}")

    def full_runs(self) -> dict[int, FullRun]:
        """The full runs by trial, as they are now: those that wait for a worker, run, or have ended."""
        return full_runs(self.optuna_study.user_attrs)

    def complete_trial(self, number: int) -> TrialRecord:
        """The complete trial of that number; raises ``StudyError``."""
        trials = self.records().trials
        if not 0 <= number < len(trials):
            raise StudyError(
                f"the trial must be one of study '{self.name}', which has {len(trials)}, but got {number}"
            )
        if trials[number].state != TrialState.COMPLETE:
            state = trials[number].state.name.lower()
            raise StudyError(f"the trial must be complete, but trial {number} is {state}")
        return trials[number]

    def retry(self, number: int | None = None) -> list[int]:
        """Put failed trials back into the queue, all or one; their numbers. Raises ``StudyError``."""
        failed = self.records().failed
        chosen = [trial for trial in failed if number is None or trial.number == number]
        if number is not None and not chosen:
            raise StudyError(
                f"the trial must be one that has failed ({[t.number for t in failed]}), but got {number}"
            )
        whole = self.optuna_study.get_trials(deepcopy=False) if chosen else []
        for trial in chosen:
            requeue(self.optuna_study, whole[trial.number])
        return [trial.number for trial in chosen]

    def request(self, plan: Plan, origin: Origin = REQUEST, *, seed: int | None = None) -> None:
        """Have a worker measure ``plan``, on top of the search's trials and before them.

        The plan need not be in the search space. Without ``seed`` it is measured with the study's own.
        """
        attributes: dict[str, Any] = {REQUESTED: True, ORIGIN: origin.model_dump(mode="json")}
        if seed is not None:
            attributes[SEED] = seed
        enqueue(self.optuna_study, self.space, plan, self.space.params_of(plan), attributes)

    def import_from(self, other: JointStudy) -> int:
        """Take over the complete trials of ``other``, on top of this study's own; how many there were.

        Plans that are here already with the same seed are left out, so that importing twice does no harm.
        Raises ``StudyError`` unless a trial means the same in both.
        """
        changes = differences(_meaning(other), _meaning(self))
        if changes:
            raise StudyError(
                f"the studies must have the same model, task, space and calibration, but '{other.name}' and "
                f"'{self.name}' differ ({'; '.join(changes)})"
            )
        known = {(trial.digest, trial.seed) for trial in self.records().complete}
        count = 0
        whole = other.optuna_study.get_trials(deepcopy=False)
        for trial in other.records().complete:
            if trial.copy_of is not None or (trial.digest, trial.seed) in known:
                continue
            kept = {k: v for k, v in trial.frozen.user_attrs.items() if k in (*PLAN_ATTRIBUTES, MEASUREMENT)}
            self.optuna_study.add_trial(
                create_trial(
                    values=trial.frozen.values,
                    params=whole[trial.number].params,
                    distributions=whole[trial.number].distributions,
                    user_attrs={**kept, IMPORTED_FROM: f"{other.name}:{trial.number}"},
                    system_attrs=generation_of(),
                )
            )
            count += 1
        return count

    def sensitivities(self, probe: Callable[[], SensitivityProber]) -> Sensitivities:
        """How sensitive each module is: measured once by ``probe``, then kept with the study."""
        stored = self.optuna_study.user_attrs.get(SENSITIVITIES)
        if stored is not None:
            return Sensitivities.model_validate(stored)
        rank = StrategySettings.of(self.space, self.config.search_space).rank
        measured = probe().sensitivities(rank)
        self.optuna_study.set_user_attr(SENSITIVITIES, measured.model_dump(mode="json"))
        return measured

    def distilled_ranks(self, plan: Plan) -> dict[str, int] | None:
        """The ranks that the first trial of an AdaLoRA ``plan`` has ended with, if there is one."""
        found = [trial for trial in self.records().complete if trial.digest == plan.digest]
        return found[0].measurement.ranks if found else None

    def warm_start(self, probe: SensitivityProber) -> None:
        """Put those strategies of ``search_space.enqueue`` into the queue that need something measured."""
        enqueue_measured(self.optuna_study, self.space, self.layout, self.config, self.sensitivities, probe)

    def front(self) -> StudyRecords:
        """The records, which have a front; raises ``StudyError`` where no trial is complete yet."""
        records = self.records()
        if not records.front:
            raise StudyError(
                f"study '{self.name}' has no complete trial yet; `jointsearch study status {self.name}`"
            )
        return records

    @property
    def chosen(self) -> int:
        """The number of the selected trial, or of the knee of the front."""
        if self.selection is not None:
            return self.selection
        return at_knee(self.front().front_points, self.config.quality).trial

    def plan_file(self, number: int | None = None) -> PlanFile:
        """A complete trial's plan as it is exported, by default the chosen one's; of AdaLoRA the ranks
        that it has ended with."""
        trial = self.complete_trial(self.chosen if number is None else number)
        adapts = bool(trial.measurement.ranks)
        origin = PlanSource(
            study=self.name,
            trial=trial.number,
            label=f"{trial.origin.name}, distilled" if adapts else trial.origin.name,
            metrics=trial.measurement.metrics,
        )
        plan = trial.plan.distilled(trial.measurement.ranks)
        return PlanFile.build(plan, self.layout, self.config, origin)


def _meaning(study: JointStudy) -> dict[str, Any]:
    """What a trial's values depend on."""
    fields = study.config.identity
    for key in ("name", "search", "device"):
        del fields[key]
    del fields["search_space"]["enqueue"]
    return {**fields, "layout": digest(study.layout.model_dump(mode="json"))}


def build_space(config: StudyConfig, layout: ModelLayout) -> SearchSpace:
    """The study's search space; raises ``StudyFileError`` where its patterns or ranks fit nothing."""
    return SearchSpace.build(layout, config.search_space, config.quantization, config.lora)


def find_study(storage: BaseStorage, name: str) -> JointStudy | None:
    """The study of that name; None where there is none. Raises ``StudyError`` if it is not ours."""
    try:
        study = optuna.load_study(study_name=name, storage=storage)
    except KeyError:
        return None
    attributes = study.user_attrs
    if CONFIG not in attributes:
        raise StudyError(f"the study '{name}' was not made by jointsearch; choose another name")
    try:
        return JointStudy(study, StudyConfig.model_validate(attributes[CONFIG]))
    except ValidationError:
        raise StudyError(f"the study '{name}' was made by another version of jointsearch") from None


def open_study(storage: BaseStorage, name: str) -> JointStudy:
    """The study of that name; raises ``StudyError`` naming the nearest one there is."""
    study = find_study(storage, name)
    if study is None:
        names = study_names(storage)
        there = f" (there are {', '.join(names)})" if names else " (the storage has none)"
        raise StudyError(f"there is no study '{name}'{nearest(name, names) or there}")
    return study


def load_study(name: str, url: str) -> JointStudy:
    """The study of that name in the storage at ``url``; raises ``StorageError`` and ``StudyError``."""
    return open_study(open_storage(url), name)


def study_names(storage: BaseStorage) -> list[str]:
    """Names of the studies that jointsearch made; a storage may hold others."""
    summaries = optuna.get_all_study_summaries(storage, include_best_trial=False)
    return [summary.study_name for summary in summaries if CONFIG in summary.user_attrs]


def delete_study(storage: BaseStorage, name: str) -> None:
    open_study(storage, name)
    optuna.delete_study(study_name=name, storage=storage)


def check_unchanged(study: JointStudy, config: StudyConfig) -> None:
    """Raise ``StudyError`` with the differences if the study was made from another study file."""
    if study.config.digest != config.digest:
        changes = "; ".join(differences(study.config.identity, config.identity))
        raise StudyError(
            f"study '{config.name}' was made from another study file ({changes}); "
            "undo the change, give the file another name, or delete the study"
        )


def create_study(storage: BaseStorage, config: StudyConfig, layout: ModelLayout) -> JointStudy:
    """A new study with its baselines in the queue, there as a whole or not at all."""
    space = build_space(config, layout)
    study = optuna.create_study(
        study_name=config.name,
        storage=storage,
        directions=[OBJECTIVES[name].direction for name in config.objectives],
    )
    try:
        with experimental_optuna():
            study.set_metric_names(list(config.objectives))
        study.set_user_attr(LAYOUT, layout.model_dump(mode="json"))
        enqueue_known(study, space, layout, config)
        # last, because a study without it is not ours
        study.set_user_attr(CONFIG, config.model_dump(mode="json"))
    except BaseException:
        optuna.delete_study(study_name=config.name, storage=storage)
        raise
    return JointStudy(study, config)
