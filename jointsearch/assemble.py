"""Where the two towers meet: what study file is meant, the model's layout, and what really trains.

Everything that needs torch is imported when it is called, so that the command line can import this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from jointsearch.config.study import StudyConfig
from jointsearch.config.tasks.custom import check_runs_from_file
from jointsearch.config.tasks.sequence_classification import SequenceClassificationSettings
from jointsearch.config.training import FIRST_LEARNING_RATE
from jointsearch.config.yaml_file import read_study
from jointsearch.errors import StudyFileError, nearest
from jointsearch.measurement import Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.memory import MemoryProfile
from jointsearch.plan.plan_file import PlanFile
from jointsearch.runner import Trial
from jointsearch.space import build_space
from jointsearch.study.worker.full_runs import Trainer
from jointsearch.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from jointsearch.training.calibration import CalibrationRunner

TIMED_STEPS = 5

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
    """The layout of the study's model, with the adapters that the study's method has for it."""
    check_runs_from_file(config.name, config.task)
    quiet_libraries()
    from jointsearch.training.model.architecture import read_layout

    layout = read_layout(config.model, config.task.type, config.task.head)
    reason = config.lora.why_no_experts
    return layout.kept_from("experts", reason) if reason else layout


def read_memory(
    config: StudyConfig, layout: ModelLayout, device: str | None = None, batch_size: int | None = None
) -> MemoryProfile | None:
    """What training the study's model takes on its device, or on another; None where nobody can foretell it.

    No weights are read. ``batch_size``: by default that of trials.
    """
    quiet_libraries()
    from jointsearch.training.memory.known import known_profile

    return known_profile(config, layout, device, batch_size)


def device_memory(device: str) -> int:
    """Bytes that this machine has free on a kind of device: on a GPU, or in its main memory."""
    quiet_libraries()
    from jointsearch.training.device import free_bytes

    return free_bytes(device)


def seconds_per_trial(config: StudyConfig) -> float:
    """How long a trial takes, by a few steps of a plan of 4 bits and the middle rank; reads the weights."""
    config = with_labels(config, None)
    layout = read_layout(config)
    space = build_space(config, layout)
    plan = space.uniform_baseline("nf4", space.trained_ranks[len(space.trained_ranks) // 2]).plan
    steps = min(TIMED_STEPS, config.calibration.steps)
    trial = Trial(seed=0, steps=steps, learning_rate=FIRST_LEARNING_RATE, rungs=False)
    seconds = build_runner(config, layout).run(plan, trial).seconds
    training = seconds.get("train", 0.0) / steps * config.calibration.steps
    return training + seconds.get("assemble", 0.0) + seconds.get("evaluate", 0.0)


def check_data(config: StudyConfig) -> None:
    """Raise ``DataError`` where files, folders or columns that the study names are not there.

    A data set on the Hub is left to who trains: it may be large, and the network elsewhere.
    """
    check_runs_from_file(config.name, config.task)
    if config.task.data.hub is None:
        quiet_libraries()
        from jointsearch.training.data import load_rows

        load_rows(config.task.data, config.task.columns, config.task.inputs, whole=False)


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


def build_runner(
    config: StudyConfig, layout: ModelLayout, tell: Callable[[str], None] = lambda note: None
) -> CalibrationRunner:
    """The runner that really trains; loads the model and the data, and ``tell``s what takes long."""
    quiet_libraries()
    from jointsearch.training.calibration import CalibrationRunner

    return CalibrationRunner(config, layout, tell)


def build_trainer(
    progress: Callable[[int, int, dict[str, float]], None],
    tell: Callable[[str], None],
    device: str | None = None,
) -> Trainer:
    """What trains selected plans in full, on ``device`` instead of the study's.

    ``progress`` is told the step, the number of steps and what is logged; ``tell`` gets all other lines.
    """
    quiet_libraries()
    from jointsearch.training.full_run.folder import finished_run
    from jointsearch.training.full_run.run import full_run

    def train(
        plan: PlanFile,
        folder: Path,
        *,
        at_step: Callable[[int, int, float | None], None],
        should_stop: Callable[[], bool],
    ) -> Measurement:
        def listen(step: int, num_steps: int, logs: dict[str, float]) -> None:
            at_step(step, num_steps, logs.get("eval_loss"))
            progress(step, num_steps, logs)

        if device is not None:
            plan = plan.under(plan.study.model_copy(update={"device": device}))
        result = finished_run(plan, folder)  # of a worker that had no time to say so
        if result is None:
            result = full_run(plan, folder, resume=True, listener=listen, tell=tell, should_stop=should_stop)
        return result.measurement(plan.study.full_run.seed)

    return train


def num_gpus() -> int:
    """How many GPUs this process sees."""
    quiet_libraries()
    import torch

    return int(torch.cuda.device_count())
