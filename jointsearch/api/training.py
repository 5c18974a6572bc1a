"""Trains a plan in full, and measures what came out of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointsearch.assemble import build_trainer
from jointsearch.errors import StudyError
from jointsearch.measurement import Measurement
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile, read_plan
from jointsearch.runner import Runner, TrainsInFull
from jointsearch.training.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

Progress = Callable[[int, int, dict[str, float]], None]
"""Told the step, the number of steps, and what the Trainer logs."""


@dataclass(frozen=True)
class TrainingResult:
    """A finished full run."""

    output_dir: Path
    """With ``model/`` (quantized), ``adapter/``, ``plan.json`` and ``metrics.json``."""
    measurement: Measurement

    @property
    def metrics(self) -> dict[str, float]:
        """On the validation split."""
        return self.measurement.metrics

    @property
    def model_dir(self) -> Path:
        """For ``from_pretrained``."""
        return self.output_dir / "model"

    @property
    def adapter_dir(self) -> Path | None:
        """For ``PeftModel.from_pretrained``; None where the plan trains nothing."""
        folder = self.output_dir / "adapter"
        return folder if folder.is_dir() else None


@dataclass(frozen=True)
class EvaluationResult:
    """What a finished full run reaches on a split."""

    split: str
    num_examples: int
    metrics: dict[str, float]
    model_bytes: int
    peak_memory_bytes: int
    inference_rate: float
    """Tokens generated per second by a language model, examples per second by others."""


def train(
    plan: Plan | str | PathLike[str],
    output_dir: str | PathLike[str],
    *,
    resume: bool = False,
    device: str | None = None,
    runner: Runner | None = None,
    progress: Progress | None = None,
    tell: Callable[[str], None] | None = None,
) -> TrainingResult:
    """Train a plan, or the file of one, into ``output_dir``, in full, as its study's ``full_run`` says.

    The folder must be empty or new; with ``resume`` an interrupted run in it goes on, and a finished one is
    returned. ``device``: instead of the study's; ``tell`` gets notes on the data. ``runner``: what trains
    the plans of a study of one's own objects, such as ``study.runner.with_args(...)``. Raises
    ``OutputError``, ``PlanError`` and ``JointSearchError`` where the run diverges.
    """
    file = PlanFile.of(plan) if isinstance(plan, Plan) else read_plan(Path(plan))
    folder = Path(output_dir)
    if runner is not None:
        return TrainingResult(
            folder, _trained_by(_in_full(runner), file, folder, resume, progress or _ignore)
        )
    trainer = build_trainer(progress or _ignore, tell or _ignore, device)
    if not resume:
        from jointsearch.training.full_run.folder import check_output

        check_output(file, folder, resume)
    measurement = trainer(file, folder, at_step=lambda step, steps, loss: None, should_stop=lambda: False)
    return TrainingResult(folder, measurement)


def _in_full(runner: Runner) -> TrainsInFull:
    if not isinstance(runner, TrainsInFull):
        raise StudyError(
            "a full run needs a runner with train_in_full and evaluate_run, as TrainerRunner has them, "
            f"but {type(runner).__name__} has none; train its plan with jointsearch.get_plan_model"
        )
    return runner


def _trained_by(
    runner: TrainsInFull, file: PlanFile, folder: Path, resume: bool, progress: Progress
) -> Measurement:
    from jointsearch.training.full_run.folder import finished_run

    result = finished_run(file, folder) if resume else None
    if result is None:
        result = runner.train_in_full(file.with_context, folder, resume=resume, listener=progress)
    return result.measurement(file.study.full_run.seed)


def _ignore(*news: object) -> None:
    """For who wants to hear nothing."""


def evaluate(
    run: str | PathLike[str],
    split: str = "test",
    *,
    runner: Runner | None = None,
    max_examples: int | None = None,
) -> EvaluationResult:
    """Measure a finished full run on its ``test`` or ``validation`` split; raises ``OutputError``.

    ``max_examples``: measure on the first so many of them alone.
    ``runner``: that of a study of one's own objects, which measures on its ``eval_dataset``.
    """
    quiet_libraries()
    from jointsearch.training.full_run.evaluation import evaluate_run

    folder = Path(run)
    if runner is not None:
        return _evaluated_by(_in_full(runner), folder)
    found = evaluate_run(folder, split, limit=max_examples)
    own = ("split", "num_examples", "model_bytes", "peak_memory_bytes", "inference_rate")
    others = (*own, "bytes_per_parameter", "examples")
    metrics = {name: value for name, value in found.items() if name not in others}
    return EvaluationResult(metrics=metrics, **{name: found[name] for name in own})


def _evaluated_by(runner: TrainsInFull, folder: Path) -> EvaluationResult:
    found = runner.evaluate_run(folder)
    return EvaluationResult(
        split="eval_dataset",
        num_examples=runner.num_evaluated,
        metrics=found.validation,
        model_bytes=found.model_bytes,
        peak_memory_bytes=found.peak_memory_bytes,
        inference_rate=found.inference_rate,
    )


def get_plan_model(model: PreTrainedModel, plan: Plan, *, seed: int = 0) -> PeftModel | PreTrainedModel:
    """``model``, which is in memory, quantized in place as the plan says, with the plan's adapters.

    What it computes is what ``from_pretrained(..., quantization_config=plan.quantization_config())`` and
    ``peft.get_peft_model(base, plan.lora_config())`` give. ``seed``: of the adapters' start. Raises
    ``PlanError`` where the plan belongs to no study, or is for another model. A plan without adapters gives
    ``model``.
    """
    from jointsearch.training.model import plan_model

    found: Any = plan_model.get_plan_model(model, plan, seed=seed)
    return found
