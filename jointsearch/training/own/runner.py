"""Trials of a model, data and Trainer that a person hands over in Python.

A trial's model is the plan's, as in every study: quantized modules out of the bank, adapters at their start.
It is trained and measured by ``trainer_cls``, transformers' ``Trainer`` or one with its arguments, such as
TRL's ``SFTTrainer``. The seed of its arguments is the trial's, so that all plans see the same batches.
"""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from jointsearch.config.study import StudyConfig
from jointsearch.errors import TrialFailed, TrialInterrupted, UnsupportedError
from jointsearch.measurement import FullRunResult, Measurement
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile
from jointsearch.quantization.in_place import to_sixteen_bit
from jointsearch.runner import Runner, Trial
from jointsearch.training.calibration import LEARNING_RATES
from jointsearch.training.device import describe, failures_named, library_versions, measure_peak_memory
from jointsearch.training.device_check import check_formats
from jointsearch.training.full_run.callbacks import Listener
from jointsearch.training.methods.base import cast_trained, method_of
from jointsearch.training.model.architecture import SIXTEEN_BIT, layout_of
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.own.callbacks import EVAL, Diverged, MethodSteps, Rungs
from jointsearch.training.own.described import differing, model_digest, name_of, rows_digest, trial_settings
from jointsearch.training.own.measured import losses_of, measured, trains
from jointsearch.training.own.model import load_by_class, without_head

SKIPS = "dataset_kwargs"
"""The argument by which Trainers of TRL's are told that their data are prepared. Without it, of arguments of
transformers', they see by ``input_ids`` that nothing is left but to cut, which changes nothing any more."""


@dataclass(eq=False)
class TrainerRunner(Runner):
    """Runs plans by a Trainer. Not safe for several threads.

    The model is copied once, rounded to its 16-bit type and held in the type that the device computes in.
    """

    takes_steps: ClassVar[bool] = True

    model: PreTrainedModel | str
    """Loaded, or the id or folder of a checkpoint, whose own class loads it."""
    train_dataset: Any
    """What the Trainer takes: with ``input_ids`` and ``labels``, or for TRL's with ``text`` or ``messages``,
    which are tokenized once."""
    eval_dataset: Any
    tokenizer: Any = None
    compute_metrics: Callable[..., dict[str, float]] | None = None
    """Of transformers' ``EvalPrediction``; what it gives can be objectives."""
    trainer_cls: type[Any] = Trainer
    args: TrainingArguments | None = None
    data_collator: Any = None

    def __post_init__(self) -> None:
        self._base = load_by_class(self.model) if isinstance(self.model, str) else self.model
        self._models: TrialModels | None = None
        self._prepared: dict[str, Any] = {}

    def settings(self) -> dict[str, Any]:
        """What a study keeps of this runner: it is resumed with objects of the same names and digests."""
        metrics = self.compute_metrics
        task = {
            "type": "custom",
            "measures": {"loss": "minimize"},
            "trainer": name_of(self.trainer_cls),
            "compute_metrics": "" if metrics is None else name_of(metrics),
            "arguments": differing(self.arguments),
            "model_digest": model_digest(self._base),
            "train_digest": rows_digest(self.train_dataset),
            "eval_digest": rows_digest(self.eval_dataset),
        }
        return {"task": task, "calibration": trial_settings(self.arguments)}

    def layout(self, config: StudyConfig) -> ModelLayout:
        """That of the model, in the study's 16-bit type or else the model's own, or bfloat16.

        Trainers other than transformers' own may compute the loss from the head's weight itself, without its
        forward pass (TRL's does): for them the head stays at 16 bits. Raises ``UnsupportedError`` where
        layers are to be streamed.
        """
        if config.training.stream_layers:
            raise UnsupportedError(
                "training.stream_layers needs weights that lie in a bank, but a model that is handed "
                "over is in memory as a whole; leave it out"
            )
        wanted = config.model.dtype
        dtype = SIXTEEN_BIT.get(self._base.dtype, "bfloat16") if wanted == "auto" else wanted
        layout = layout_of(self._base, dtype)
        return layout if self.trainer_cls is Trainer else without_head(self._base, layout)

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        """Train and measure the plan; raises ``TrialFailed`` where it diverges or does not fit."""
        models = self._made(plan.known_context.study)
        models.make_room(plan)  # so that the peak is this plan's
        begun = time.perf_counter()
        with (
            tempfile.TemporaryDirectory() as folder,
            failures_named(),
            measure_peak_memory(models.device) as peak,
        ):
            trainer = self._trial_trainer(models, plan, trial, Path(folder))
            assembled = time.perf_counter()
            if trains(trainer.model):
                trainer.train()
            trained = time.perf_counter()
            if trial.should_stop():
                raise TrialInterrupted(f"stopped after step {trainer.state.global_step}")
            found = trainer.evaluate()
        metrics = measured(found)
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrialFailed(f"diverged: {name} is {value}")
        epochs = trainer.state.epoch or 0.0
        return Measurement(
            metrics=metrics,
            train_losses=losses_of(trainer.state.log_history, "loss"),
            validation_losses=losses_of(trainer.state.log_history, f"{EVAL}loss"),
            seconds={
                "assemble": assembled - begun,
                "train": trained - assembled,
                "evaluate": time.perf_counter() - trained,
            },
            seconds_per_epoch=(trained - assembled) / epochs if epochs else 0.0,
            inference_rate=float(found.get(f"{EVAL}samples_per_second", 0.0)),
            ranks=method_of(plan.lora).final_ranks(trainer.model),
            peak_memory_bytes=peak.num_bytes,
            seed=trial.seed,
            device=describe(models.device),
            versions=library_versions(),
        )

    def train_in_full(
        self,
        plan: Plan,
        output: Path,
        *,
        resume: bool = False,
        listener: Listener = lambda step, num_steps, logs: None,
    ) -> FullRunResult:
        """Train ``plan`` by the Trainer, with ``args``, into a folder as ``jointsearch train`` makes it."""
        from jointsearch.training.own.full_run import train_in_full

        return train_in_full(self, PlanFile.of(plan), output, resume=resume, listener=listener)

    def evaluate_run(self, folder: Path) -> FullRunResult:
        """Measure what was trained in full into ``folder`` on ``eval_dataset``."""
        from jointsearch.training.own.full_run import evaluate_run

        return evaluate_run(self, folder)

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """For a sweep; a study sweeps over those that it searches, and else has that of ``args``."""
        return LEARNING_RATES

    @property
    def num_evaluated(self) -> int:
        return len(self.eval_dataset)

    def with_args(self, args: TrainingArguments) -> TrainerRunner:
        """The same with other arguments, for a full run."""
        changed = copy.copy(self)
        changed.args = args
        changed._prepared = {}  # what is made of texts follows from the arguments
        return changed

    @property
    def arguments(self) -> TrainingArguments:
        """``args``, or the defaults."""
        return self.args or TrainingArguments()

    @property
    def device(self) -> torch.device:
        """Where the Trainer trains."""
        return self.arguments.device

    def copied_model(self, layout: ModelLayout) -> PreTrainedModel:
        """A copy on the device, in the type that it computes in, with the values of its 16-bit type."""
        copied = copy.deepcopy(self._base).to(self.device).requires_grad_(False)
        to_sixteen_bit(copied, getattr(torch, layout.dtype))
        copied.config.use_cache = False  # no use in training, and a warning with every step of some models
        return copied

    def trainer(
        self, model: Any, plan: Plan, args: TrainingArguments, callbacks: Sequence[TrainerCallback]
    ) -> Any:
        """The Trainer of the plan's ``model``, quiet on standard output, which is for results."""
        given = {"data_collator": self.data_collator, "compute_metrics": self.compute_metrics}
        args.report_to, args.disable_tqdm = [], True
        # one process drives one GPU: a quantized model cannot be replicated over all that it sees
        args._n_gpu = min(args.n_gpu, 1)
        # Trainers refuse a quantized model without adapters, which is measured here all the same
        is_quantized = getattr(model, "is_quantized", False)
        model.is_quantized = is_quantized and trains(model)
        trainer = self.trainer_cls(
            model=model,
            args=args,
            **self._data(args),
            processing_class=self.tokenizer,
            callbacks=[MethodSteps(method_of(plan.lora)), *callbacks],
            **{name: value for name, value in given.items() if value is not None},
        )
        model.is_quantized = is_quantized
        if hasattr(trainer.args, SKIPS):
            self._prepared = {"train_dataset": trainer.train_dataset, "eval_dataset": trainer.eval_dataset}
        trainer.pop_callback(PrinterCallback)
        cast_trained(trainer.model, getattr(torch, plan.lora.dtype))  # TRL makes them bfloat16
        return trainer

    def _data(self, args: TrainingArguments) -> dict[str, Any]:
        """The data, as an earlier Trainer of TRL's has tokenized and packed them."""
        if self._prepared and hasattr(args, SKIPS):
            setattr(args, SKIPS, {**(getattr(args, SKIPS) or {}), "skip_prepare_dataset": True})
        return self._prepared or {"train_dataset": self.train_dataset, "eval_dataset": self.eval_dataset}

    def _made(self, config: StudyConfig) -> TrialModels:
        """The bank, made for the first trial."""
        if self._models is None:
            layout = self.layout(config)
            check_formats(self.device, config, layout)
            self._models = TrialModels(config, layout, self.device, self.copied_model(layout))
        return self._models

    def _trial_trainer(self, models: TrialModels, plan: Plan, trial: Trial, folder: Path) -> Any:
        args, settings = copy.deepcopy(self.arguments), models.config.calibration
        args.output_dir = str(folder)
        args.seed = args.data_seed = trial.seed
        args.save_strategy = "no"
        if args.max_steps <= 0:
            args.max_steps = settings.steps
        if trial.learning_rate is not None:
            args.learning_rate = trial.learning_rate
        if trial.steps:
            args.warmup_steps = round(args.warmup_steps * trial.steps / args.max_steps)
            args.max_steps = trial.steps
        rungs: set[int] = set()
        if trial.rungs and models.config.search.early_stopping and args.eval_strategy == "no":
            rungs = {max(1, round(share * args.max_steps)) for share in settings.measure_at}
        model = models.assemble(plan, trial.seed, trial.steps)
        return self.trainer(
            model, plan, args, [Diverged(TrialFailed), Rungs(trial, rungs - {args.max_steps})]
        )
