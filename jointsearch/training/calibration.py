"""The calibration run: one trial as a short, real fine-tune of the really quantized model.

All plans see the same batches in the same order and adapters that start alike (common random
numbers), so that the difference between two plans is mostly theirs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

import torch
from peft import AdaLoraModel, PeftModel
from torch import nn
from transformers import PreTrainedModel, get_scheduler

from jointsearch.config.study import StudyConfig
from jointsearch.errors import TrialFailed, TrialInterrupted
from jointsearch.measurement import LossPoint, Measurement
from jointsearch.plan.cost import plan_cost
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.plan.sensitivities import Sensitivities
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.training.checkpoint import Checkpoint, Progress
from jointsearch.training.device import (
    describe,
    failures_named,
    library_versions,
    measure_peak_memory,
    resolve_device,
)
from jointsearch.training.device_check import check_formats
from jointsearch.training.loop import Clock, batches, finite, mean_losses, stability_of
from jointsearch.training.methods.adalora import allocate, attach_adalora, final_ranks
from jointsearch.training.model.adapters import Factors, adapter_starts, attach_adapters
from jointsearch.training.model.base_model import load_base
from jointsearch.training.model.setup import autocast, build_optimizer, prepare_for_training
from jointsearch.training.probes.sensitivity import (
    NUM_OUTPUT_BATCHES,
    GradientProbe,
    measured_formats,
    movements,
    output_errors,
    together,
    weight_errors,
    weight_norms,
)
from jointsearch.training.tasks import build_task


class CalibrationRunner:
    """Runs plans on one device; loads the model and the data once. Not safe for several threads."""

    def __init__(self, config: StudyConfig, layout: ModelLayout) -> None:
        self._config = config
        self._layout = layout
        self.settings = config.calibration
        self.training = config.training
        self.device = resolve_device(config.device)
        check_formats(self.device, config, layout)
        model = load_base(config.model, config.task.type, layout.dtype, self.device, config.task.head)
        self.task = build_task(config, model.config)
        self._bank = QuantizedBank(model, config.quantization, getattr(torch, layout.dtype))
        self._factors: Factors = {}

    @property
    def notes(self) -> list[str]:
        """What a person should know about the data."""
        return self.task.notes

    def run(self, plan: Plan, trial: Trial) -> Measurement:
        """Assemble, train and measure ``plan``; raises ``TrialFailed`` where it has no result."""
        settings = self.settings
        clock = Clock()
        checkpoint = None
        # AdaLoRA's schedule is state that a checkpoint does not have
        if self.settings.checkpoint_every and plan.lora.variant != "adalora":
            checkpoint = Checkpoint(self._config.digest, plan.digest, trial.seed)
        with failures_named(), measure_peak_memory(self.device) as peak:
            with clock("assemble"):
                model = self.assemble(plan, trial.seed)
            progress = self._train(model, trial, clock, checkpoint)
            with clock("evaluate"), autocast(self.device):
                found = self.task.evaluate(
                    model, "validation", settings.validation_examples, settings.batch_size
                )
        if checkpoint:
            checkpoint.delete()
        loss = finite("validation", found.metrics["loss"], settings.steps)
        train_seconds = clock.seconds.get("train", 0.0)
        ranks = final_ranks(model) if plan.lora.variant == "adalora" else {}
        cost = plan_cost(self._layout, plan.ending_with(ranks))
        steps_per_epoch = self.task.num_examples("train") / settings.batch_size
        return Measurement(
            metrics=found.metrics,
            model_bytes=cost.model_bytes,
            bytes_per_parameter=cost.bytes_per_parameter,
            trainable_parameters=cost.trainable_parameters,
            trainable_share=cost.trainable_share,
            train_losses=mean_losses(progress, settings.steps),
            validation_losses=tuple(
                LossPoint(step=step, loss=value)
                for step, value in (*progress.validation, (len(progress.steps), loss))
            ),
            seconds=clock.seconds,
            tokens_per_second=progress.num_tokens / train_seconds if train_seconds else 0.0,
            seconds_per_epoch=train_seconds / settings.steps * steps_per_epoch,
            inference_rate=found.inference_rate,
            stability=stability_of(progress).result,
            examples=found.examples,
            ranks=ranks,
            peak_memory_bytes=peak.num_bytes,
            num_tokens=progress.num_tokens,
            seed=trial.seed,
            device=describe(self.device),
            versions=library_versions(),
        )

    def probe(self, space: SearchSpace, steps: int, trial: Trial) -> Callable[[Plan], float]:
        """Shared adapters, trained for ``steps``; gives a plan's validation loss with them."""
        from jointsearch.training.probes.weight_sharing import WeightSharing

        sharing = WeightSharing(self, space, trial.seed)
        sharing.train(steps, trial.should_stop)
        return sharing.score

    def sensitivities(self, rank: int) -> Sensitivities:
        """How sensitive each module is, from one calibration run at 4 bits and ``rank`` everywhere."""
        settings = self.settings
        config = self._config
        space = SearchSpace.build(self._layout, config.search_space, config.quantization, config.lora)
        formats = measured_formats(space)
        norms = weight_norms(self._bank, self._layout)
        few = settings.model_copy(update={"steps": NUM_OUTPUT_BATCHES})
        with failures_named():
            outputs = output_errors(
                self._bank,
                self._layout,
                formats,
                (
                    {n: t.to(self.device) for n, t in b.items()}
                    for b in batches(self.task, few, settings.seed)
                ),
            )
            uniform = StrategySettings(
                rank=rank,
                quantization=self._config.quantization,
                lora=LoraSettings(dropout=self._config.lora.dropout, dtype=self._config.lora.dtype),
            )
            model = self.assemble(STRATEGIES["qlora"].plan(self._layout, uniform), settings.seed)
            probe = GradientProbe(self._layout)
            with probe.watching(model):
                self._train(model, Trial(seed=settings.seed), Clock(), None)
        weights = weight_errors(self._bank, self._layout, formats)
        return Sensitivities(
            modules=together(norms, weights, outputs, probe, movements(model, norms)),
            probe_steps=settings.steps,
            probe_rank=rank,
            seed=settings.seed,
        )

    def assemble(self, plan: Plan, seed: int) -> PreTrainedModel | PeftModel:
        """The plan's model, ready to be trained; the bank's tensors stay as they are."""
        changes_weights = plan.lora.init == "pissa"
        changes_types = self.training.prepare_for_kbit_training
        model = self._bank.assemble(
            plan.formats,
            lambda name: changes_types or (changes_weights and name.removesuffix(".weight") in plan.ranks),
        )
        if plan.lora.variant == "adalora":
            prepare_for_training(model, self.training)
            steps = self.settings.steps
            return attach_adalora(model, plan, self._layout, self._config.task.type, seed, steps)
        starts = adapter_starts(model, plan, self._layout, seed, self._bank.model, self._factors)
        prepare_for_training(model, self.training)
        return attach_adapters(model, plan, self._layout, self._config.task.type, starts)

    def _train(self, model: nn.Module, trial: Trial, clock: Clock, checkpoint: Checkpoint | None) -> Progress:
        """Train in place, from the checkpoint on if there is one; no step where the plan trains nothing."""
        settings = self.settings
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            return Progress()
        torch.manual_seed(trial.seed)  # dropout
        optimizer = build_optimizer(trainable, self.training, settings.learning_rate, settings.weight_decay)
        scheduler = get_scheduler("linear", optimizer, settings.warmup_steps, settings.steps)
        measure_after = {max(1, round(share * settings.steps)) for share in settings.measure_at}
        adapts = isinstance(model, PeftModel) and isinstance(model.base_model, AdaLoraModel)
        progress = Progress()
        if checkpoint:
            progress = checkpoint.restore(model, optimizer, scheduler)
            clock.seconds = progress.seconds | clock.seconds
        progress.seconds = clock.seconds
        stability = stability_of(progress)
        start = len(progress.steps)
        left = islice(batches(self.task, settings, trial.seed), start, None)
        model.train()
        for step, batch in enumerate(left, start + 1):
            if trial.should_stop():
                raise TrialInterrupted(f"stopped at step {step} of {settings.steps}")
            with clock("train"):
                batch = {name: tensor.to(self.device) for name, tensor in batch.items()}
                with autocast(self.device):
                    loss = model(**batch).loss
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
                loss_value, norm_value = loss.item(), norm.item()
                if stability.saw(loss_value, norm_value):
                    optimizer.step()
                elif adapts:
                    optimizer.zero_grad(set_to_none=False)  # such a step must not count as importance
                if adapts:
                    allocate(model, step)
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                progress.num_tokens += self.task.num_tokens(batch)
            progress.steps.append((loss_value, norm_value))
            if stability.diverged:
                raise TrialFailed(
                    f"diverged: the training loss is {loss_value} and its gradient's norm {norm_value} "
                    f"at step {step}"
                )
            if step in measure_after and step < settings.steps:
                with clock("evaluate"), autocast(self.device):
                    loss_now = self.task.loss(
                        model, "validation", settings.validation_examples, settings.batch_size
                    )
                progress.validation.append((step, finite("validation", loss_now, step)))
                trial.report(step, loss_now)
            if checkpoint and settings.checkpoint_every and step % settings.checkpoint_every == 0:
                checkpoint.save(progress, model, optimizer, scheduler)
        return progress
