"""Where the two towers meet: builds the real runner, and says which study file is meant.

Everything that needs torch is imported when it is called, so that the command line can import this.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from rich.console import Console

from jointsearch.cli.study_progress import StudyProgress
from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.sequence_classification import SequenceClassificationSettings
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError, nearest, visible
from jointsearch.launchers import Fleet, run_workers
from jointsearch.launchers.local import only
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Runner
from jointsearch.study.analysis.compare import ComparisonSettings, compare
from jointsearch.study.analysis.comparison import Comparison
from jointsearch.study.control import Wanted, want
from jointsearch.study.storage.locks import creation_lock
from jointsearch.study.storage.opening import open_if_there, open_storage
from jointsearch.study.stored import StoredStudy, build_space
from jointsearch.study.study import check_unchanged, create_study, find_study, load_study
from jointsearch.study.warm_start import warm_start
from jointsearch.study.worker.events import Listener
from jointsearch.study.worker.full_runs import FullRunWorker
from jointsearch.study.worker.signals import stop_on_signals
from jointsearch.study.worker.trials import Worker
from jointsearch.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from jointsearch.training.calibration import CalibrationRunner

_log = logging.getLogger(__name__)

EMBEDDED = {"quickstart": Path(__file__).parent / "quickstart" / "study.yaml"}
"""Studies that ship in the package, by name."""


def read_study_file(file: str) -> StudyConfig:
    """The study of a YAML file or of an embedded study's name; raises ``StudyFileError``."""
    if file in EMBEDDED:
        return read_study(EMBEDDED[file])
    path = Path(file)
    if not path.is_file():
        raise StudyFileError(
            f"a study is a YAML file or one of {', '.join(EMBEDDED)}, but there is no '{file}'"
            + nearest(file, EMBEDDED)
        )
    return read_study(path)


def read_layout(config: StudyConfig) -> ModelLayout:
    """The layout of the study's model."""
    quiet_libraries()
    from jointsearch.training.model.architecture import read_layout

    return read_layout(config.model, config.task.type, config.task.head)


def with_labels(config: StudyConfig, before: StudyConfig | None) -> StudyConfig:
    """The study with the classes that its file leaves open: those it had ``before``, else the data's."""
    task = config.task
    if not isinstance(task, SequenceClassificationSettings) or task.regression or task.labels is not None:
        return config
    labels = getattr(before.task, "labels", None) if before else None
    if labels is None:
        quiet_libraries()
        from jointsearch.training.tasks.sequence_classification import find_labels

        labels = find_labels(task)
    values = config.model_dump(mode="json")
    values["task"]["labels"] = labels
    try:
        return StudyConfig.model_validate(values)
    except ValidationError as error:  # an objective that these classes do not have
        raise StudyFileError(f"objectives: {error.errors()[0]['ctx']['error']}") from None


def build_runner(config: StudyConfig, layout: ModelLayout) -> CalibrationRunner:
    """The runner that really trains; loads the model and the data."""
    quiet_libraries()
    from jointsearch.training.calibration import CalibrationRunner

    return CalibrationRunner(config, layout)


def start_study(
    config: StudyConfig,
    url: str,
    console: Console,
    *,
    num_workers: int | None = None,
    workers_per_gpu: int = 1,
    launcher: str = "local",
    launcher_options: dict[str, str] | None = None,
) -> StoredStudy:
    """Create or resume the study and run its trials; nothing is stored if the study cannot run.

    Without ``num_workers`` there is one on this machine, or so many on each GPU that the study can use.
    Several workers, and those of other launchers, are processes of their own.
    """
    study = _find(config, url)
    if study is not None:
        config = study.config
        want(study.optuna_study, Wanted.RUN)
        if study.num_left(study.records()) == 0:
            return study
    config = with_labels(config, study.config if study else None)
    layout = study.layout if study else read_layout(config)
    build_space(config, layout)  # says what is wrong with it before the model is loaded
    _tell_all(console, [f"left at 16 bits: {name} ({reason})" for name, reason in layout.left_out.items()])
    devices = devices_for(config.device, num_workers, workers_per_gpu if launcher == "local" else 1)
    if launcher == "local" and len(devices) == 1:
        runner = _loaded_runner(config, layout, console)
        study = study or _create(config, url, layout)
        warm_start(study, runner)
        with StudyProgress(study.name, config.search.trials, console) as progress:
            run_worker(study, runner, progress)
        return study
    study = study or _create(config, url, layout)
    with StudyProgress(study.name, config.search.trials, console) as progress:
        fleet = Fleet(
            study=study.name,
            storage_url=url,
            devices=tuple(devices),
            look=lambda: progress(study.records()),
            tell=lambda note: _tell_all(console, [note]),
            drain=lambda: want(study.optuna_study, Wanted.CANCEL),
            options=launcher_options or {},
        )
        run_workers(launcher, fleet)
    return study


def create_only(config: StudyConfig, url: str) -> StoredStudy:
    """The study with its queue, for workers that are started elsewhere; the stored one if it is there."""
    study = _find(config, url)
    if study is not None:
        return study
    config = with_labels(config, None)
    layout = read_layout(config)
    build_space(config, layout)
    return _create(config, url, layout)


def work(
    name: str,
    url: str,
    console: Console,
    *,
    device: str | None = None,
    max_trials: int | None = None,
    idle_exit_seconds: float = math.inf,
    quiet: bool = False,
) -> StoredStudy:
    """Run trials of a stored study in this process, on ``device`` instead of the study's."""
    study = load_study(name, url)
    device = _seen_alone(device)
    config = study.config if device is None else study.config.model_copy(update={"device": device})
    runner = _loaded_runner(config, study.layout, console)
    warm_start(study, runner)
    with StudyProgress(study.name, config.search.trials, console, shown=not quiet) as progress:
        run_worker(study, runner, progress, max_trials=max_trials, idle_exit_seconds=idle_exit_seconds)
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
    device = _seen_alone(device)
    quiet_libraries()
    from jointsearch.training.full_run.folder import finished_run
    from jointsearch.training.full_run.run import full_run

    def train(
        plan: PlanFile,
        folder: Path,
        *,
        at_step: Callable[[int, int], None],
        should_stop: Callable[[], bool],
    ) -> Measurement:
        def listen(step: int, num_steps: int, logs: dict[str, float]) -> None:
            at_step(step, num_steps)
            progress(step, num_steps, logs)

        if device is not None:
            plan = plan.under(plan.study.model_copy(update={"device": device}))
        result = finished_run(plan, folder)  # of a worker that had no time to say so
        if result is None:
            result = full_run(plan, folder, resume=True, listener=listen, tell=tell, should_stop=should_stop)
        return result.measurement(plan.study.full_run.seed)

    worker = FullRunWorker(
        study, train, output, tell=tell, max_runs=max_runs, idle_exit_seconds=idle_exit_seconds
    )
    with stop_on_signals(worker):
        worker.run()
    return study


def _seen_alone(device: str | None) -> str | None:
    """What to call ``device`` from now on: this process sees no other GPU than ``cuda:1``."""
    if device is None or not (environment := only(device)):
        return device
    os.environ.update(environment)  # before torch is imported
    return "cuda"


def compare_strategies(
    config: StudyConfig, url: str, console: Console, wanted: Callable[[ModelLayout], ComparisonSettings]
) -> Comparison | None:
    """Compare strategies as trials of the study, which is created if need be; None if it was stopped.

    The model is loaded only if something is to be measured. The search's own trials are not run.
    """
    study = create_only(config, url)
    settings = wanted(study.layout)
    want(study.optuna_study, Wanted.RUN)

    @cache
    def runner() -> CalibrationRunner:
        return _loaded_runner(study.config, study.layout, console)

    def run_requested() -> None:
        with StudyProgress(study.name, 0, console) as progress:
            run_worker(study, runner(), progress, requested_only=True)

    return compare(study, settings, runner, run_requested)


def run_worker(study: StoredStudy, runner: Runner, listener: Listener, **limits: Any) -> None:
    """A worker that leaves on signals."""
    worker = Worker(study, runner, listener, **limits)
    with stop_on_signals(worker):
        worker.run()


def devices_for(device: str, num_workers: int | None, workers_per_gpu: int = 1) -> list[str]:
    """A device for each worker: the GPUs in turn where the study can use them, else the study's own."""
    if device not in ("auto", "cuda"):
        return [device] * (num_workers or workers_per_gpu)
    quiet_libraries()
    import torch

    num_gpus = torch.cuda.device_count()
    wanted = num_workers or max(1, num_gpus) * workers_per_gpu
    return [f"cuda:{index % num_gpus}" if num_gpus else device for index in range(wanted)]


def _find(config: StudyConfig, url: str) -> StoredStudy | None:
    """The stored study, under ``config`` from now on; raises ``StudyError`` if it was made from another."""
    storage = open_if_there(url)
    study = find_study(storage, config.name) if storage else None
    if study is None:
        return None
    config = with_labels(config, study.config)
    check_unchanged(study, config)
    return study.with_config(config)


def _create(config: StudyConfig, url: str, layout: ModelLayout) -> StoredStudy:
    storage = open_storage(url, create=True)
    with creation_lock(url):
        # another process may have been faster while this one loaded the model
        return find_study(storage, config.name) or create_study(storage, config, layout)


def _loaded_runner(config: StudyConfig, layout: ModelLayout, console: Console) -> CalibrationRunner:
    with console.status("loading the model and the data"):
        runner = build_runner(config, layout)
    _tell_all(console, runner.notes)
    return runner


def _tell_all(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(visible(note), markup=False, highlight=False, soft_wrap=True)
        _log.info(note)
