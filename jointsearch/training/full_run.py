"""The full run: trains an exported plan with transformers' ``Trainer`` and saves all that it needs.

    OUTPUT/plan.json         what was trained
    OUTPUT/model/            the quantized base model and the tokenizer
    OUTPUT/adapter/          the LoRA adapter in PEFT's format (none if the plan trains nothing)
    OUTPUT/checkpoints/      the Trainer's, to resume from
    OUTPUT/metrics.json      written last: a run without it is not finished

``model`` and ``adapter`` appear whole or not at all.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.data import Dataset
from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed

from jointsearch.config import StudyConfig, differences
from jointsearch.errors import JointSearchError, OutputError, PlanError, RunInterrupted
from jointsearch.layout import ModelLayout
from jointsearch.plan_file import PlanFile, read_plan, write_plan, write_text
from jointsearch.quantization.plugin import JointSearchConfig, save_model
from jointsearch.runner import Measurement, Stability
from jointsearch.training.adapters import adapter_starts, attach_adapters
from jointsearch.training.architecture import read_layout
from jointsearch.training.base_model import load_base, load_quantized
from jointsearch.training.calibration import library_versions
from jointsearch.training.device import describe, failures_named, measure_peak_memory, resolve_device
from jointsearch.training.device_check import check_dora
from jointsearch.training.setup import autocast, build_optimizer, prepare_for_training
from jointsearch.training.stability import StabilityTracker
from jointsearch.training.tasks import Batch, Task, build_task

PLAN_FILE = "plan.json"
MODEL = "model"
ADAPTER = "adapter"
CHECKPOINTS = "checkpoints"
METRICS_FILE = "metrics.json"

Listener = Callable[[int, int, dict[str, float]], None]
"""Called with the step, the number of steps, and what the Trainer has logged."""


@failures_named()
def full_run(
    plan: PlanFile,
    output: Path,
    *,
    resume: bool = False,
    listener: Listener | None = None,
    tell: Callable[[str], None] = lambda note: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Train ``plan`` into the folder ``output`` and return its metrics; notes on the data go to ``tell``.

    ``should_stop`` is asked after every step: the run then saves a checkpoint and raises
    ``RunInterrupted``. Raises ``OutputError`` if the folder holds something (and is not an unfinished
    run of this very plan with ``resume``), ``PlanError`` if the plan does not fit its model.
    """
    study = plan.study
    device = resolve_device(study.device)
    processes = PartialState(cpu=device.type == "cpu")  # one per GPU, if started by torchrun or accelerate
    if processes.num_processes > 1 and device.type == "cuda":
        device = torch.device("cuda", processes.local_process_index)
    if processes.is_main_process:
        check_output(plan, output, resume)
    check_model(plan, read_layout(study.model, study.task.type, study.task.head))
    if study.lora.variant == "dora" and device.type == "cpu":
        check_dora(plan.layout[name] for name in plan.plan.ranks if plan.plan.modules[name].bits == 4)

    arguments = study.model, study.task.type
    model = load_quantized(*arguments, JointSearchConfig.from_plan(plan), device, study.task.head)
    task = build_task(study, model.config)
    for note in task.notes:
        tell(note)
    original = None
    if study.lora.init == "loftq":
        original = load_base(*arguments, plan.layout.dtype, torch.device("cpu"), study.task.head)
    starts = adapter_starts(model, plan.plan, plan.layout, study.full_run.seed, original)
    del original
    if processes.is_main_process:
        _make_folder(output)
        write_plan(plan, output / PLAN_FILE)
        with _whole_folder(output / MODEL) as folder:
            save_model(model, folder)
            task.tokenizer.save_pretrained(folder)
    processes.wait_for_everyone()

    set_seed(study.full_run.seed)
    prepare_for_training(model, study.training)
    model = attach_adapters(model, plan.plan, plan.layout, study.task.type, starts)
    with measure_peak_memory(device) as peak:
        training = _train(
            model, task, study, output, device, processes.num_processes, resume, listener, should_stop
        )
        with autocast(device):
            found = task.evaluate(model, "validation", None, study.full_run.batch_size)
    if not math.isfinite(found.metrics["loss"]):
        raise JointSearchError(
            f"the run diverged: its validation loss is {found.metrics['loss']}; lower full_run.learning_rate"
        )
    if hasattr(model, "peft_config") and processes.is_main_process:
        with _whole_folder(output / ADAPTER) as folder:
            model.save_pretrained(folder)
    cost = plan.cost
    result = {
        "plan": plan.digest,
        "model_bytes": cost.model_bytes,
        "bytes_per_parameter": round(cost.bytes_per_parameter, 4),
        "trainable_parameters": cost.trainable_parameters,
        "trainable_share": round(cost.trainable_share, 6),
        "validation": found.metrics,
        **training,
        "inference_rate": round(found.inference_rate, 1),
        "peak_memory_bytes": peak.num_bytes,
        "data_notes": task.notes,
        "examples": [example.model_dump() for example in found.examples],
        "device": describe(device),
        "versions": library_versions(),
    }
    if processes.is_main_process:
        write_text(output / METRICS_FILE, json.dumps(result, indent=1) + "\n")
    return result


def check_output(plan: PlanFile, output: Path, resume: bool) -> None:
    """Raise ``OutputError`` unless the run can go into ``output`` without losing anything."""
    if output.exists() and not output.is_dir():
        raise OutputError(f"the output must be a folder, but {output} is a file")
    if not output.is_dir() or not any(output.iterdir()):
        return
    if not resume:
        raise OutputError(f"the output folder must be empty, but {output} is not; use another, or --resume")
    _check_same(plan, output)
    if (output / METRICS_FILE).is_file():
        raise OutputError(f"the run in {output} is finished; `jointsearch evaluate {output}` measures it")


def finished_run(plan: PlanFile, output: Path) -> dict[str, Any] | None:
    """The metrics of ``plan`` where the folder ``output`` holds its finished run, else None.

    Raises ``OutputError`` where the finished run is one of another plan, or with other settings.
    """
    if not (output / METRICS_FILE).is_file():
        return None
    _check_same(plan, output)
    try:
        found: dict[str, Any] = json.loads((output / METRICS_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise OutputError(f"the run in {output} is damaged: {METRICS_FILE}: {error}") from None
    return found


def measurement_of(plan: PlanFile, result: dict[str, Any]) -> Measurement:
    """What a full run has returned, in the words of a trial's measurement."""
    same = {name: value for name, value in result.items() if name in Measurement.model_fields}
    return Measurement(
        **same,
        metrics=result["validation"],
        seconds={"train": result["train_seconds"]},
        seed=plan.study.full_run.seed,
    )


def _check_same(plan: PlanFile, output: Path) -> None:
    """Raise ``OutputError`` unless ``output`` holds a run of ``plan`` with its settings, on any device."""
    before = read_plan(output / PLAN_FILE) if (output / PLAN_FILE).is_file() else None
    if before is None or before.digest != plan.digest:
        raise OutputError(
            f"a run goes on in a folder of the same plan, but {output} holds another or none; use another"
        )
    settings = [file.study.model_dump(mode="json", exclude={"device"}) for file in (before, plan)]
    if changes := differences(*settings):
        raise OutputError(
            f"a run goes on with the same settings, but {output} has others ({'; '.join(changes)}); "
            "use another folder"
        )


def check_model(plan: PlanFile, layout: ModelLayout) -> None:
    """Raise ``PlanError`` naming the modules if the plan was made for another model."""
    layout.check(plan.plan)
    different = [spec.name for spec in plan.layout.modules if layout[spec.name].shape != spec.shape]
    if different:
        name = different[0]
        raise PlanError(
            f"the plan must fit the model {plan.study.model.id}, but {name} has the shape "
            f"{layout[name].shape} instead of {plan.layout[name].shape} ({len(different)} modules differ)"
        )


def _train(
    model: Any,
    task: Task,
    study: StudyConfig,
    output: Path,
    device: torch.device,
    num_processes: int,
    resume: bool,
    listener: Listener | None,
    should_stop: Callable[[], bool],
) -> dict[str, Any]:
    """Train in place and return what is reported of it; no step is made if the plan trains nothing."""
    settings = study.full_run
    if not any(parameter.requires_grad for parameter in model.parameters()):
        nothing = {"steps": 0, "train_seconds": 0.0, "seconds_per_epoch": 0.0, "tokens_per_second": 0.0}
        return {**nothing, "stability": Stability().model_dump()}
    per_step = settings.batch_size * settings.gradient_accumulation_steps * num_processes
    steps_per_epoch = -(-task.num_examples("train") // per_step)
    num_steps = settings.max_steps or max(1, round(settings.epochs * steps_per_epoch))
    interval = max(1, num_steps // settings.evaluations)
    arguments = TrainingArguments(
        output_dir=str(output / CHECKPOINTS),
        max_steps=num_steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        learning_rate=settings.learning_rate,
        warmup_steps=round(settings.warmup_ratio * num_steps),
        lr_scheduler_type=settings.lr_scheduler,
        weight_decay=settings.weight_decay,
        max_grad_norm=0.0,  # _Stability clips, and sees the norm before
        eval_strategy="steps",
        eval_steps=interval,
        save_strategy="steps",
        save_steps=interval,
        save_total_limit=2,
        logging_steps=max(1, num_steps // 20),
        prediction_loss_only=True,
        seed=settings.seed,
        bf16=device.type == "cuda",
        use_cpu=device.type == "cpu",
        dataloader_pin_memory=device.type == "cuda",
        report_to="none",
        disable_tqdm=True,
    )
    # One process drives one GPU: a quantized model cannot be replicated over all that it sees.
    arguments._n_gpu = min(arguments.n_gpu, 1)
    stability = _Stability(settings.max_grad_norm)
    trainer = _Trainer(
        stability,
        task.num_tokens,
        model=model,
        args=arguments,
        train_dataset=_Examples(task, "train"),
        eval_dataset=_Examples(task, "validation"),
        data_collator=partial(_collate, task),
        optimizers=(_optimizer(model, study), None),
        callbacks=[stability, _Stop(should_stop), *([_Report(listener)] if listener else [])],
    )
    trainer.pop_callback(_printer())
    checkpoint = None
    if resume:
        checkpoint = _last_whole_checkpoint(output / CHECKPOINTS)
    first_step = 0 if checkpoint is None else _step(checkpoint)
    if should_stop():
        raise RunInterrupted(f"stopped before step {first_step + 1} of {num_steps}")
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
    seconds = time.perf_counter() - start - trainer.evaluation_seconds
    steps = trainer.state.global_step
    if steps < num_steps:
        raise RunInterrupted(f"stopped after step {steps} of {num_steps}")
    return {
        "steps": steps,
        "train_seconds": round(seconds, 3),
        "seconds_per_epoch": round(seconds / max(1, steps - first_step) * steps_per_epoch, 3),
        "tokens_per_second": round(trainer.num_tokens * num_processes / seconds, 1),
        "stability": stability.tracker.result.model_dump(),
    }


def _last_whole_checkpoint(folder: Path) -> Path | None:
    """The last checkpoint that was written to its end; the Trainer writes its state last."""
    whole = [path.parent for path in folder.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


class _Trainer(Trainer):
    """Transformers' own, which also tells the losses, counts tokens and times its evaluations."""

    def __init__(self, stability: _Stability, count: Callable[[Batch], int], **arguments: Any) -> None:
        super().__init__(**arguments)
        self._stability = stability
        self._count = count
        self.num_tokens = 0
        self.evaluation_seconds = 0.0

    def training_step(self, model: Any, inputs: Batch, *arguments: Any, **keywords: Any) -> torch.Tensor:
        self.num_tokens += self._count(inputs)
        loss = super().training_step(model, inputs, *arguments, **keywords)
        self._stability.losses.append(loss.item())
        return loss

    def evaluate(self, *arguments: Any, **keywords: Any) -> dict[str, float]:
        start = time.perf_counter()
        try:
            return super().evaluate(*arguments, **keywords)
        finally:
            self.evaluation_seconds += time.perf_counter() - start


class _Stability(TrainerCallback):
    """Clips the gradient and leaves out a step that is not finite."""

    def __init__(self, max_norm: float) -> None:
        self.tracker = StabilityTracker()
        self.losses: list[float] = []
        """Of the batches since the last step."""
        self._max_norm = max_norm

    def on_pre_optimizer_step(
        self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any
    ) -> None:
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), self._max_norm)
        if not self.tracker.saw(sum(self.losses), norm.item()):
            model.zero_grad(set_to_none=True)
        self.losses.clear()
        if self.tracker.diverged:
            raise JointSearchError(
                f"the run diverged at step {state.global_step + 1}: its gradient's norm is {norm.item()}; "
                "lower full_run.learning_rate"
            )


def _optimizer(model: Any, study: StudyConfig) -> torch.optim.Optimizer:
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return build_optimizer(
        trainable, study.training, study.full_run.learning_rate, study.full_run.weight_decay
    )


class _Examples(Dataset[tuple[str, int]]):
    """A split of a task: where its examples are, which ``_collate`` makes a batch of."""

    def __init__(self, task: Task, split: str) -> None:
        self._task = task
        self._split = split

    def __len__(self) -> int:
        return self._task.num_examples(self._split)

    def __getitem__(self, index: int) -> tuple[str, int]:
        return self._split, index


def _collate(task: Task, examples: list[tuple[str, int]]) -> Batch:
    return task.batch(examples[0][0], [index for _, index in examples])


class _Stop(TrainerCallback):
    """Ends the training with a checkpoint where someone wants it to stop."""

    def __init__(self, should_stop: Callable[[], bool]) -> None:
        self._should_stop = should_stop

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._should_stop():
            control.should_save = control.should_training_stop = True


class _Report(TrainerCallback):
    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        numbers = {name: float(value) for name, value in (logs or {}).items() if _is_number(value)}
        self._listener(state.global_step, state.max_steps, numbers)


def _is_number(value: Any) -> bool:
    with contextlib.suppress(TypeError, ValueError):
        float(value)
        return True
    return False


def _printer() -> type[TrainerCallback]:
    """The Trainer prints its logs to standard output, which is for results."""
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the output folder {path} cannot be made: {error.strerror}") from None


@contextmanager
def _whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that takes its name only when it is complete."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    yield partial
    shutil.rmtree(path, ignore_errors=True)
    partial.rename(path)
