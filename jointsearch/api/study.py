"""A study as an object, with the names that Optuna has for what Optuna has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from jointsearch.api.following import Callback, Following
from jointsearch.api.front import Table, front_of
from jointsearch.api.selection import Selection, select, size_in_bytes
from jointsearch.assemble import num_gpus
from jointsearch.config.search import FinalsSettings
from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.errors import StudyError
from jointsearch.launchers import devices_for
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.origin import REQUEST
from jointsearch.plan.plan import Plan
from jointsearch.runner import Runner, SensitivityProber
from jointsearch.starting import Audience, loaded_runner, run_fleet
from jointsearch.study.analysis.compare import ComparisonSettings, compare
from jointsearch.study.analysis.comparison import Comparison
from jointsearch.study.analysis.fidelity import Fidelity, fidelities
from jointsearch.study.analysis.finals import request_finals
from jointsearch.study.analysis.refine import refine
from jointsearch.study.analysis.verdict import Verdict, judge
from jointsearch.study.control import Wanted, want, wanted
from jointsearch.study.plans import export_plan
from jointsearch.study.queue import request
from jointsearch.study.stored import StoredStudy
from jointsearch.study.warm_start import warm_start
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker

COLUMNS = ("number", "value", "datetime_start", "datetime_complete", "duration", "params", "state")


class Study:
    """A stored study and what runs its trials. Not safe for several threads, ``stop`` aside."""

    def __init__(self, stored: StoredStudy, storage_url: str, runner: Runner | None = None) -> None:
        """Made by ``create_study`` and ``load_study``. ``runner``: what runs trials in place of the study's
        own settings."""
        self._stored = stored
        self._storage_url = storage_url
        self._given = runner
        self._loaded: Runner | None = None
        self._leave: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<jointsearch.Study '{self.name}', {len(self._stored.records().complete)} trials complete>"

    @property
    def name(self) -> str:
        return self._stored.name

    @property
    def config(self) -> StudyConfig:
        """The study's settings."""
        return self._stored.config

    @property
    def layout(self) -> ModelLayout:
        """The modules of the study's model."""
        return self._stored.layout

    @property
    def optuna_study(self) -> optuna.Study:
        """For everything that Optuna offers."""
        return self._stored.optuna_study

    @property
    def runner(self) -> Runner:
        """What runs the trials: the one that was given, or the study's own, with its model and data."""
        return self._runner()

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials."""
        return self.optuna_study.trials

    @property
    def best_trials(self) -> list[FrozenTrial]:
        """The trials that no other dominates; ``front`` takes the means of plans that have several seeds."""
        return self.optuna_study.best_trials

    @property
    def directions(self) -> list[optuna.study.StudyDirection]:
        """Of the objectives ``config.objectives``."""
        return self.optuna_study.directions

    def get_trials(
        self, deepcopy: bool = True, states: Sequence[TrialState] | None = None
    ) -> list[FrozenTrial]:
        """Optuna's."""
        return self.optuna_study.get_trials(deepcopy, tuple(states) if states is not None else None)

    def trials_dataframe(self, attrs: tuple[str, ...] = COLUMNS, multi_index: bool = False) -> Any:
        """Optuna's, without attributes unless asked for: a plan is long."""
        return self.optuna_study.trials_dataframe(attrs, multi_index)

    def front(self) -> Table:
        """The Pareto front by rising bytes, a row for each plan: a DataFrame, or without pandas dicts."""
        return front_of(self._stored)

    def select(
        self,
        *,
        max_bytes: int | str | None = None,
        knee: bool = False,
        trial: int | None = None,
        quality: float | None = None,
        max_training_memory: int | str | None = None,
    ) -> Selection:
        """One point, by at most one of these ways; the knee of the front without any.

        ``max_bytes``: the best of at most this size, such as ``"1.5MB"``; ``quality``: the smallest that is
        at least this good; ``trial``: this complete trial, on the front or not. Raises ``StudyError``.
        """
        return select(
            self._stored,
            max_bytes=max_bytes,
            knee=knee,
            trial=trial,
            quality=quality,
            max_training_memory=max_training_memory,
        )

    def plan(self, trial: int) -> Plan:
        """The plan of a complete trial, to be saved, loaded into transformers and PEFT, or trained."""
        return export_plan(self._stored, trial).with_context

    def optimize(
        self,
        n_trials: int | None = None,
        *,
        n_jobs: int = 1,
        callbacks: Sequence[Callback] = (),
        timeout: float | None = None,
    ) -> None:
        """Run ``n_trials`` more trials, and those that are asked for with ``enqueue``.

        Without ``n_trials`` as many as ``config.search.trials`` leaves. Several jobs are worker processes,
        for studies that a file describes. ``callbacks`` are called with this study and each trial that has
        ended; after ``timeout`` seconds no trial begins. Ctrl-C gives the running trial back to the queue.
        """
        begun = self._stored.records().num_searched
        trials = self.config.search.trials if n_trials is None else begun + n_trials
        following = Following(self, callbacks, timeout)
        want(self.optuna_study, Wanted.RUN)
        if n_jobs != 1:
            self._run_processes(trials, n_jobs, following)
            return
        if trials > self.config.search.trials:
            self._stored = self._stored.with_config(self.config.with_trials(trials))
        runner = self._runner()
        if isinstance(runner, SensitivityProber):
            warm_start(self._stored, runner)
        self._work(Worker(self._stored, runner, following, num_trials=trials))

    def stop(self) -> None:
        """End ``optimize`` when the running trial has ended; for callbacks, and for other threads."""
        self._leave()

    def enqueue(self, plan: Plan, *, seed: int | None = None) -> None:
        """Have ``plan`` measured by the next ``optimize``, or by any worker, before the search's trials.

        It need not be in the search space. Without ``seed`` it is measured with the study's own.
        """
        plan.check(self.layout)
        request(self._stored, plan, REQUEST, seed=seed)

    def refine(self, seeds: int = 3) -> Verdict:
        """Measure the front, and its rivals of equal bytes, with so many further seeds; what that shows."""
        while refine(self._stored, seeds):
            self._run_requested()
        return self.verdict()

    def finals(self, times: Sequence[int] = (4, 16), seeds: int = 1) -> tuple[Fidelity, ...]:
        """Run the front, its rivals and the selected plans on for ``times`` the steps, length after length;
        how well the trials have foretold each.

        ``front``, ``select`` and ``verdict`` then go by the longest ones. ``seeds``: that each is run with.
        """
        settings = FinalsSettings(times=tuple(times), seeds=seeds)
        while request_finals(self._stored, settings):
            self._run_requested()
        return tuple(fidelities(self._stored.records()))

    def verdict(self) -> Verdict:
        """Whether searching has paid: ``paid`` (None while open), ``sentence``, ``p_value``, ``gains``."""
        return judge(self._stored)

    def compare(
        self,
        strategies: str | Sequence[str] = "configurations",
        *,
        seeds: int = 3,
        max_bytes: int | str | None = None,
        rank: int | None = None,
    ) -> Comparison:
        """Measure named strategies beside each other, with so many seeds each, paired by seed.

        ``max_bytes``: a size that all of them fill; ``rank``: their mean rank, by default the middle one of
        the search space.
        """
        names = strategies if isinstance(strategies, str) else ",".join(strategies)
        budget = None if max_bytes is None else size_in_bytes(max_bytes)
        settings = ComparisonSettings.named(names, self.layout, seeds, budget, rank)
        found = compare(self._stored, settings, self._prober, self._run_requested)
        if found is None:
            raise StudyError(
                f"the comparison must be run to its end, but '{self.name}' was stopped; call again"
            )
        return found

    def _run_requested(self) -> None:
        if self._stored.records().requested:
            want(self.optuna_study, Wanted.RUN)
            self._work(Worker(self._stored, self._runner(), num_trials=0))

    def _work(self, worker: Worker) -> None:
        self._leave = worker.leave
        try:
            with stop_on_signals(worker):
                worker.run()
        finally:
            self._leave = lambda: None
        if worker.stopping and wanted(self.optuna_study) is not Wanted.CANCEL:
            raise KeyboardInterrupt  # the worker has cleaned up; a script must see that it was stopped

    def _run_processes(self, trials: int, n_jobs: int, following: Following) -> None:
        """The workers of other processes read from the storage how many trials there are to be."""
        if self._given is not None:
            raise StudyError(
                f"n_jobs must be 1 where Python objects run the trials, but got {n_jobs}: another process "
                "has no objects of this one; start several scripts that load_study and optimize"
            )
        check_runs_from_file(self.name, self.config.task)
        devices = devices_for(self.config.device, n_jobs, 1, num_gpus)
        before = self._stored
        self._stored = before.with_config(self.config.with_trials(trials))
        self._leave = lambda: want(self.optuna_study, Wanted.STOP)
        try:
            run_fleet(self._stored, self._storage_url, devices, following)
        finally:
            self._leave = lambda: None
            most = max(trials, before.config.search.trials)
            self._stored = self._stored.with_config(self.config.with_trials(most))

    def _runner(self) -> Runner:
        if self._given is not None:
            return self._given
        if self._loaded is None:
            self._loaded = loaded_runner(self.config, self.layout, Audience())
        return self._loaded

    def _prober(self) -> SensitivityProber:
        runner = self._runner()
        if not isinstance(runner, SensitivityProber):
            raise StudyError(
                f"these strategies need a runner with a method 'sensitivities', but {type(runner).__name__} "
                "has none; compare others"
            )
        return runner
