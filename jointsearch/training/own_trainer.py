"""Trials of a model, data and Trainer that a person hands over in Python.

A trial's model is the plan's, as in every study: quantized modules out of the bank, adapters at their start.
It is trained and measured by ``trainer_cls``, transformers' ``Trainer`` or one with its arguments, such as
TRL's ``SFTTrainer``. The seed of its arguments is the trial's, so that all plans see the same batches.
"""

from __future__ import annotations

import copy
import hashlib
import math
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
import transformers
from datasets import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from jointsearch.config.study import StudyConfig
from jointsearch.errors import ModelError, TrialFailed, TrialInterrupted, first_line
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.quantization.formats.base import compute_dtype, round_to
from jointsearch.runner import Runner, Trial
from jointsearch.training.device import (
    describe,
    failures_named,
    library_versions,
    measure_peak_memory,
    resolve_device,
)
from jointsearch.training.device_check import check_formats
from jointsearch.training.methods.base import method_of
from jointsearch.training.model.architecture import SIXTEEN_BIT, layout_of
from jointsearch.training.model.trial_model import TrialModels

NUM_DIGESTED = 16
"""Rows of a data set, and tensors of a model, that stand for the whole in its digest."""

EVALUATED = "eval_"
"""What Trainers put before the names of what they measure."""


@dataclass
class OwnTrainer(Runner):
    """Runs plans by a Trainer. Not safe for several threads.

    The model is copied once, rounded to its 16-bit type and held in the type that the device computes in.
    """

    model: PreTrainedModel | str
    """Loaded, or the id or folder of a checkpoint, whose own class loads it."""
    train_dataset: Any
    eval_dataset: Any
    tokenizer: Any = None
    compute_metrics: Callable[..., dict[str, float]] | None = None
    trainer_cls: type[Any] = Trainer
    args: TrainingArguments | None = None
    data_collator: Any = None

    def __post_init__(self) -> None:
        if isinstance(self.model, str):
            self.model = _load(self.model)
        self._models: TrialModels | None = None

    def layout(self, config: StudyConfig) -> ModelLayout:
        """That of the model, in the study's 16-bit type or else the model's own, or bfloat16.

        Trainers other than transformers' own may compute the loss from the head's weight itself, without its
        forward pass (TRL's does): for them the head stays at 16 bits.
        """
        layout = layout_of(self._base, self._dtype(config))
        return layout if self.trainer_cls is Trainer else _without_head(self._base, layout)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        """Train and measure the plan; raises ``TrialFailed`` where it diverges or does not fit."""
        models = self._made(plan.known_context.study)
        begun = time.perf_counter()
        with (
            tempfile.TemporaryDirectory() as folder,
            failures_named(),
            measure_peak_memory(models.device) as peak,
        ):
            trainer = self._trainer(models, plan, trial, folder)
            assembled = time.perf_counter()
            if any(parameter.requires_grad for parameter in trainer.model.parameters()):
                trainer.train()
            trained = time.perf_counter()
            if trial.should_stop():
                raise TrialInterrupted(f"stopped after step {trainer.state.global_step}")
            found = trainer.evaluate()
        metrics = _metrics(found)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrialFailed(f"diverged: {name} is {value}")
        return Measurement(
            metrics=metrics,
            train_losses=_losses(trainer.state.log_history, "loss"),
            validation_losses=_losses(trainer.state.log_history, f"{EVALUATED}loss"),
            seconds={
                "assemble": assembled - begun,
                "train": trained - assembled,
                "evaluate": time.perf_counter() - trained,
            },
            ranks=method_of(plan.lora).final_ranks(trainer.model),
            peak_memory_bytes=peak.num_bytes,
            seed=trial.seed,
            device=describe(models.device),
            versions=library_versions(),
        )

    def task(self) -> dict[str, Any]:
        """What a study keeps of this runner: it is resumed with objects of the same names and digests."""
        return {
            "measures": {"loss": "minimize"},
            "trainer": _name_of(self.trainer_cls),
            "compute_metrics": "" if self.compute_metrics is None else _name_of(self.compute_metrics),
            "arguments": _differing(self._arguments),
            "model_digest": _digest(
                tensor.flatten()[:64].float().tolist()
                for tensor in list(self._base.state_dict().values())[:NUM_DIGESTED]
            ),
            "train_digest": _digest_of_rows(self.train_dataset),
            "eval_digest": _digest_of_rows(self.eval_dataset),
        }

    @property
    def _base(self) -> PreTrainedModel:
        assert isinstance(self.model, PreTrainedModel)
        return self.model

    @property
    def _arguments(self) -> TrainingArguments:
        return self.args or TrainingArguments()

    def _dtype(self, config: StudyConfig) -> str:
        return (
            SIXTEEN_BIT.get(self._base.dtype, "bfloat16")
            if config.model.dtype == "auto"
            else config.model.dtype
        )

    def _made(self, config: StudyConfig) -> TrialModels:
        """The bank, made for the first trial."""
        if self._models is None:
            layout = self.layout(config)
            device = resolve_device(config.device)
            check_formats(device, config, layout)
            dtype = getattr(torch, layout.dtype)
            base = copy.deepcopy(self._base).to(compute_dtype(device, dtype))
            round_to(base, dtype)
            self._models = TrialModels(config, layout, device, base.to(device))
        return self._models

    def _trainer(self, models: TrialModels, plan: Plan, trial: Trial, folder: str) -> Any:
        arguments = copy.deepcopy(self._arguments)
        arguments.output_dir = folder
        arguments.seed = arguments.data_seed = trial.seed
        arguments.save_strategy, arguments.report_to, arguments.disable_tqdm = "no", [], True
        arguments.use_cpu = models.device.type == "cpu"
        if arguments.max_steps <= 0:
            arguments.max_steps = models.config.calibration.steps
        given = {"data_collator": self.data_collator, "compute_metrics": self.compute_metrics}
        trainer = self.trainer_cls(
            model=models.assemble(plan, trial.seed),
            args=arguments,
            train_dataset=self.train_dataset,
            eval_dataset=self.eval_dataset,
            processing_class=self.tokenizer,
            callbacks=[_Reporting(trial)],
            **{name: value for name, value in given.items() if value is not None},
        )
        trainer.pop_callback(transformers.trainer_callback.PrinterCallback)  # standard output is for results
        return trainer


class _Reporting(TrainerCallback):
    """Stops a run that is to stop or has diverged, and tells what is measured along it."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self._trial.should_stop():
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(float(loss)):
            raise TrialFailed(f"diverged: the training loss is {loss} at step {state.global_step}")

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        loss = (metrics or {}).get(f"{EVALUATED}loss")
        if loss is not None and state.global_step < state.max_steps:
            self._trial.report(state.global_step, float(loss))


def _load(model_id: str) -> PreTrainedModel:
    """A checkpoint by the class that it was saved with."""
    try:
        config = transformers.AutoConfig.from_pretrained(model_id)
        architecture = (config.architectures or ["AutoModelForCausalLM"])[0]
        loaded: PreTrainedModel = getattr(transformers, architecture).from_pretrained(model_id)
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"the model '{model_id}' cannot be loaded: {first_line(error)}") from None
    return loaded


def _without_head(model: PreTrainedModel, layout: ModelLayout) -> ModelLayout:
    """The layout whose head, or the embedding that it is tied to, is not quantized."""
    head = model.get_output_embeddings()
    names = {name for name, module in model.named_modules() if module is head} if head is not None else set()
    kept = {spec.name for spec in layout.modules if names & {spec.name, *spec.tied}}
    modules = tuple(
        spec.model_copy(update={"quantizable": spec.quantizable and spec.name not in kept})
        for spec in layout.modules
    )
    reasons = dict.fromkeys(kept, "the Trainer may read its weight beside its forward pass")
    return layout.model_copy(update={"modules": modules, "left_out": {**layout.left_out, **reasons}})


def _metrics(found: dict[str, float]) -> dict[str, float]:
    """What a Trainer has measured, by the names without its prefix; its own clock left out."""
    clock = ("runtime", "samples_per_second", "steps_per_second", "num_tokens", "model_preparation_time")
    named = {
        name.removeprefix(EVALUATED): value for name, value in found.items() if name.startswith(EVALUATED)
    }
    return {name: float(value) for name, value in named.items() if name not in clock}


def _losses(history: list[dict[str, float]], name: str) -> tuple[LossPoint, ...]:
    return tuple(LossPoint(step=int(row["step"]), loss=float(row[name])) for row in history if name in row)


def _differing(arguments: TrainingArguments) -> dict[str, Any]:
    """The arguments that differ from their class's defaults, without a machine's and what a trial sets."""
    plain = (str, int, float, bool, list, type(None))
    default = {field.name: field.default for field in fields(arguments)}
    places = ("output_dir", "logging_dir", "run_name", "seed", "data_seed", "disable_tqdm")
    return {
        name: value
        for name, value in arguments.to_dict().items()
        if name not in places and isinstance(value, plain) and value != default.get(name)
    }


def _digest_of_rows(rows: Any) -> str:
    few = rows.select(range(min(NUM_DIGESTED, len(rows)))) if isinstance(rows, Dataset) else ()
    return _digest([len(rows), *map(str, few)])


def _digest(parts: Any) -> str:
    text = hashlib.sha256()
    for part in parts:
        text.update(repr(part).encode())
    return text.hexdigest()[:16]


def _name_of(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
