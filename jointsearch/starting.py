"""Starts what runs a study: workers in this process or in others, comparisons, full runs.

What happens meanwhile is told to an ``Audience``.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jointsearch.assemble import build_runner, build_trainer, num_gpus
from jointsearch.config.study import StudyConfig
from jointsearch.creating import Draft, draft, find, find_or_create, store
from jointsearch.errors import UnsupportedError
from jointsearch.fitting import check_fits, fit_of
from jointsearch.launchers import Fleet, devices_for, find_launcher, run_workers
from jointsearch.launchers.local import only
from jointsearch.plan.layout import ModelLayout
from jointsearch.runner import Runner, SensitivityProber
from jointsearch.study.analysis.compare import ComparisonSettings, compare
from jointsearch.study.analysis.comparison import Comparison
from jointsearch.study.analysis.finals import request_finals
from jointsearch.study.control import Wanted, want
from jointsearch.study.stored import StoredStudy
from jointsearch.study.study import load_study
from jointsearch.study.warm_start import warm_start
from jointsearch.study.worker.events import Listener
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker

if TYPE_CHECKING:
    from jointsearch.training.calibration import CalibrationRunner

_log = logging.getLogger(__name__)


class Audience:
    """Whoever follows a study that runs; this one wants to hear nothing."""

    def tell(self, note: str) -> None:
        """A line that a person should read."""

    def loading(self) -> AbstractContextManager[object]:
        """Around the loading of the model and the data."""
        return nullcontext()

    def following(self, study: StoredStudy, trials: int) -> AbstractContextManager[Listener]:
        """Around the run of a study's workers: who is told of its records."""
        return nullcontext(lambda records: None)


def start_study(
    config: StudyConfig,
    url: str,
    audience: Audience,
    *,
    num_workers: int | None = None,
    workers_per_gpu: int = 1,
    launcher: str = "local",
    launcher_options: Mapping[str, str] = MappingProxyType({}),
) -> StoredStudy:
    """Create or resume the study and run its trials.

    Without ``num_workers`` there is one on this machine, or so many on each GPU that the study can use.
    Several workers, and those of other launchers, are processes of their own.
    """
    find_launcher(launcher, launcher_options)  # says what is wrong with it before anything is stored
    found = find(config, url)
    if found is not None:
        want(found.optuna_study, Wanted.RUN)
        if found.num_left(found.records()) == 0 and not request_finals(found):
            return found
    known = found or draft(config)
    _tell_all(audience, known.layout.notes)
    _tell_fit(audience, known)
    per_gpu = workers_per_gpu if launcher == "local" else 1
    devices = devices_for(known.config.device, num_workers, per_gpu, num_gpus)
    if launcher == "local" and len(devices) == 1:
        runner = loaded_runner(known.config, known.layout, audience)
        study = store(known, url)
        warm_start(study, runner)
        with audience.following(study, study.config.search.trials) as listener:
            run_worker(study, runner, listener)
        return study
    study = store(known, url)
    run_fleet(study, url, devices, audience, launcher, launcher_options)
    return study


def run_fleet(
    study: StoredStudy,
    url: str,
    devices: list[str],
    audience: Audience,
    launcher: str = "local",
    options: Mapping[str, str] = MappingProxyType({}),
) -> bool:
    """Run the study by a worker process for each device; whether all of them left in peace."""
    with audience.following(study, study.config.search.trials) as listener:
        fleet = Fleet(
            study=study.name,
            storage_url=url,
            devices=tuple(devices),
            look=lambda: listener(study.records()),
            tell=lambda note: _tell_all(audience, [note]),
            drain=lambda: want(study.optuna_study, Wanted.CANCEL),
            options=options,
        )
        return run_workers(launcher, fleet)


def work(
    name: str,
    url: str,
    audience: Audience,
    *,
    device: str | None = None,
    max_trials: int | None = None,
    idle_exit_seconds: float = math.inf,
) -> StoredStudy:
    """Run trials of a stored study in this process, on ``device`` instead of the study's."""
    study = load_study(name, url)
    device = _seen_alone(device)
    config = study.config if device is None else study.config.model_copy(update={"device": device})
    runner = loaded_runner(config, study.layout, audience)
    warm_start(study, runner)
    with audience.following(study, config.search.trials) as listener:
        run_worker(study, runner, listener, max_trials=max_trials, idle_exit_seconds=idle_exit_seconds)
    return study


def train_selected(
    name: str,
    url: str,
    output: Path,
    progress: Callable[[int, int, dict[str, float]], None],
    tell: Callable[[str], None],
    *,
    device: str | None = None,
    max_runs: int | None = None,
    idle_exit_seconds: float = math.inf,
) -> StoredStudy:
    """Train the selected plans of a stored study in full, on ``device`` instead of the study's.

    ``progress`` is told the step, the number of steps and what is logged; ``tell`` gets all other lines.
    """
    study = load_study(name, url)
    train = build_trainer(progress, tell, _seen_alone(device))
    worker = FullRunWorker(
        study, train, output, tell=tell, max_runs=max_runs, idle_exit_seconds=idle_exit_seconds
    )
    with stop_on_signals(worker):
        worker.run()
    return study


def compare_strategies(
    config: StudyConfig, url: str, audience: Audience, wanted: Callable[[ModelLayout], ComparisonSettings]
) -> Comparison | None:
    """Compare strategies as trials of the study, which is created if need be; None if it was stopped.

    The model is loaded only if something is to be measured. The search's own trials are not run.
    """
    study = find_or_create(config, url)

    @cache
    def runner() -> CalibrationRunner:
        return loaded_runner(study.config, study.layout, audience)

    return compare_with(study, audience, wanted(study.layout), runner)


def compare_with(
    study: StoredStudy,
    audience: Audience,
    settings: ComparisonSettings,
    runner: Callable[[], SensitivityProber],
) -> Comparison | None:
    """Compare strategies as trials of a stored study, run by ``runner``; None if it was stopped."""
    want(study.optuna_study, Wanted.RUN)

    def run_requested() -> None:
        with audience.following(study, 0) as listener:
            run_worker(study, runner(), listener, num_trials=0)

    return compare(study, settings, runner, run_requested)


def run_worker(study: StoredStudy, runner: Runner, listener: Listener, **limits: Any) -> Worker:
    """A worker that leaves on signals, once it has left."""
    worker = Worker(study, runner, listener, **limits)
    with stop_on_signals(worker):
        worker.run()
    return worker


def loaded_runner(config: StudyConfig, layout: ModelLayout, audience: Audience) -> CalibrationRunner:
    """What really trains, with its model and data."""
    with audience.loading():
        runner = build_runner(config, layout, lambda note: _tell_all(audience, [note]))
    _tell_all(audience, runner.notes)
    return runner


def _tell_fit(audience: Audience, known: StoredStudy | Draft) -> None:
    """Two lines of what training takes; raises ``StudyFileError`` where no plan can be trained here."""
    if known.memory is None:
        return
    try:
        found = fit_of(known.config, known.layout, known.memory)
    except UnsupportedError:  # nobody knows what this machine has
        return
    if found.device == "cuda":
        check_fits(found)
    _tell_all(audience, found.sentences)  # a CPU may free what it uses, and swap


def _seen_alone(device: str | None) -> str | None:
    """What to call ``device`` from now on: this process sees no other GPU than ``cuda:1``."""
    if device is None or not (environment := only(device)):
        return device
    os.environ.update(environment)  # before torch is imported
    return "cuda"


def _tell_all(audience: Audience, notes: Iterable[str]) -> None:
    for note in notes:
        audience.tell(note)
        _log.info(note)
