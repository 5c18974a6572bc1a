"""Where the two towers meet: builds the real runner, and says which study file is meant.

Everything that needs torch is imported when it is called, so that the command line can import this.
"""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console

from jointsearch.config import StudyConfig, load_study
from jointsearch.errors import StudyFileError, nearest
from jointsearch.layout import ModelLayout
from jointsearch.study.progress import StudyProgress
from jointsearch.study.storage import creation_lock, open_if_there, open_storage
from jointsearch.study.studies import JointStudy, build_space, check_unchanged, create_study, find_study
from jointsearch.study.worker import Worker, stop_on_signals
from jointsearch.task_settings import SequenceClassificationSettings

if TYPE_CHECKING:
    from jointsearch.training.calibration import CalibrationRunner

EMBEDDED = {"quickstart": Path(__file__).parent / "quickstart" / "study.yaml"}
"""Studies that ship in the package, by name."""


def read_study_file(file: str) -> StudyConfig:
    """The study of a YAML file or of an embedded study's name; raises ``StudyFileError``."""
    if file in EMBEDDED:
        return load_study(EMBEDDED[file])
    path = Path(file)
    if not path.is_file():
        raise StudyFileError(
            f"a study is a YAML file or one of {', '.join(EMBEDDED)}, but there is no '{file}'"
            + nearest(file, EMBEDDED)
        )
    return load_study(path)


def read_layout(config: StudyConfig) -> ModelLayout:
    """The layout of the study's model."""
    quiet_libraries()
    from jointsearch.training.architecture import read_layout

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


def start_study(config: StudyConfig, url: str, console: Console) -> JointStudy:
    """Create or resume the study and run its trials; nothing is stored if the study cannot run."""
    storage = open_if_there(url)
    study = find_study(storage, config.name) if storage else None
    config = with_labels(config, study.config if study else None)
    if study is not None:
        check_unchanged(study, config)
        study = study.with_config(config)
        if study.records().num_finished >= config.search.trials:
            return study
    layout = study.layout if study else read_layout(config)
    build_space(config, layout)  # says what is wrong with it before the model is loaded
    with console.status("loading the model and the data"):
        runner = build_runner(config, layout)
    left_out = [f"left at 16 bits: {name} ({reason})" for name, reason in layout.left_out.items()]
    for note in (*left_out, *runner.notes):
        console.print(note, markup=False, highlight=False, soft_wrap=True)
    if study is None:
        storage = storage or open_storage(url, create=True)
        with creation_lock(url):
            # another process may have been faster while this one loaded the model
            study = find_study(storage, config.name) or create_study(storage, config, layout)
    with StudyProgress(study.name, config.search.trials, console) as progress:
        worker = Worker(study, runner, progress)
        with stop_on_signals(worker):
            worker.run()
    return study


def quiet_libraries() -> None:
    """Silence progress bars and notes of libraries; errors still raise.

    To be called before torch is imported: its CPU threads then sleep while they wait for each other.
    Spinning, as they do otherwise, is up to twice as fast for a tiny model that has the cores to
    itself, and far slower beside anything else: on two cores a quickstart trial took
    5 seconds alone and 115 beside another one, against 11 and 14 seconds with sleeping threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|peft|torch)\.")
    import datasets
    import huggingface_hub
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.disable_progress_bars()
    huggingface_hub.logging.set_verbosity(logging.CRITICAL)
    datasets.logging.set_verbosity(logging.CRITICAL)  # it logs what it raises
