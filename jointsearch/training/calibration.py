"""The calibration run: one trial as a short, real fine-tune of the really quantized model.

All plans see the same batches in the same order and adapters that start alike (common random
numbers), so that the difference between two plans is mostly theirs.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.metadata import version

import numpy as np
import torch
from torch import nn
from transformers import get_scheduler

from jointsearch.config import CalibrationSettings, StudyConfig
from jointsearch.cost import plan_cost
from jointsearch.errors import TrialFailed, TrialInterrupted, first_line
from jointsearch.layout import ModelLayout
from jointsearch.plan import Plan
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.runner import Budget, LossPoint, Measurement
from jointsearch.training.adapters import attach_adapters
from jointsearch.training.base_model import load_base
from jointsearch.training.device import measure_peak_memory, resolve_device
from jointsearch.training.tasks import Batch, Task, build_task

NUM_LOSS_POINTS = 20
"""How many points of the training loss are kept."""


class CalibrationRunner:
    """Runs plans on one device; loads the model and the data once. Not safe for several threads."""

    def __init__(self, config: StudyConfig, layout: ModelLayout) -> None:
        self._config = config
        self._layout = layout
        self._device = resolve_device(config.device)
        model = load_base(config.model, config.task.type, layout.dtype, self._device)
        positions = getattr(model.config, "max_position_embeddings", None)
        self._task = build_task(config, positions)
        self._bank = QuantizedBank(model, config.quantization, getattr(torch, layout.dtype))

    def run(self, plan: Plan, budget: Budget) -> Measurement:
        """Assemble, train and measure ``plan``; raises ``TrialFailed`` where it has no result."""
        settings = self._config.calibration
        clock = _Clock()
        with _failures_named(), measure_peak_memory(self._device) as peak:
            with clock("assemble"):
                model = self._bank.assemble(plan.bits)
                model = attach_adapters(model, plan, self._layout, self._config.task.type, budget.seed)
            history = _History()
            num_tokens = self._train(model, settings, budget, clock, history)
            with clock("evaluate"):
                metrics = self._evaluate(model)
        _finite("validation", metrics["loss"], settings.steps)
        train_seconds = clock.seconds.get("train", 0.0)
        return Measurement(
            metrics=metrics,
            model_bytes=plan_cost(self._layout, plan).model_bytes,
            train_losses=tuple(history.train),
            validation_losses=(
                *history.validation,
                LossPoint(step=settings.steps if num_tokens else 0, loss=metrics["loss"]),
            ),
            seconds=clock.seconds,
            tokens_per_second=num_tokens / train_seconds if train_seconds else 0.0,
            peak_memory_bytes=peak.num_bytes,
            num_tokens=num_tokens,
            seed=budget.seed,
            device=_describe(self._device),
            versions=library_versions(),
        )

    def _train(
        self,
        model: nn.Module,
        settings: CalibrationSettings,
        budget: Budget,
        clock: _Clock,
        history: _History,
    ) -> int:
        """Train in place and return the number of tokens seen; 0 where the plan trains nothing."""
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            return 0
        torch.manual_seed(budget.seed)  # dropout
        optimizer = torch.optim.AdamW(
            trainable, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        scheduler = get_scheduler("linear", optimizer, settings.warmup_steps, settings.steps)
        measure_after = {max(1, round(share * settings.steps)) for share in settings.measure_at}
        report_every = max(1, settings.steps // NUM_LOSS_POINTS)
        num_tokens = 0
        losses: list[torch.Tensor] = []
        model.train()
        for step, batch in enumerate(batches(self._task, settings, budget.seed), start=1):
            if budget.should_stop():
                raise TrialInterrupted(f"stopped at step {step} of {settings.steps}")
            with clock("train"):
                batch = {name: tensor.to(self._device) for name, tensor in batch.items()}
                with autocast(self._device):
                    loss = model(**batch).loss
                loss.backward()
                torch.nn.utils.clip_grad_norm_(trainable, settings.max_grad_norm)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad(set_to_none=True)
                losses.append(loss.detach())
                num_tokens += self._task.num_tokens(batch)
                if step % report_every == 0 or step == settings.steps:
                    mean = torch.stack(losses).mean().item()
                    losses.clear()
                    history.train.append(LossPoint(step=step, loss=_finite("training", mean, step)))
            if step in measure_after and step < settings.steps:
                with clock("evaluate"):
                    loss_now = self._evaluate(model)["loss"]
                history.validation.append(LossPoint(step=step, loss=_finite("validation", loss_now, step)))
        return num_tokens

    def _evaluate(self, model: nn.Module) -> dict[str, float]:
        settings = self._config.calibration
        with autocast(self._device):
            return self._task.evaluate(model, "validation", settings.validation_examples, settings.batch_size)


def batches(task: Task, settings: CalibrationSettings, seed: int) -> Iterator[Batch]:
    """``steps`` training batches in an order that ``seed`` fixes; epoch after epoch if need be."""
    generator = np.random.default_rng(seed)
    order: list[int] = []
    for _ in range(settings.steps):
        while len(order) < settings.batch_size:
            order += generator.permutation(task.num_examples("train")).tolist()
        indices, order = order[: settings.batch_size], order[settings.batch_size :]
        yield task.batch("train", indices)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 multiplications on CUDA, as QLoRA computes; plain float32 elsewhere."""
    return torch.autocast("cuda", dtype=torch.bfloat16) if device.type == "cuda" else nullcontext()


def library_versions() -> dict[str, str]:
    names = ("jointsearch", "torch", "transformers", "peft", "bitsandbytes")
    return {name: version(name) for name in names}


def _finite(kind: str, loss: float, step: int) -> float:
    """``loss``, or ``TrialFailed`` where it is none."""
    if not math.isfinite(loss):
        raise TrialFailed(f"diverged: the {kind} loss is {loss} at step {step}")
    return loss


class _History:
    """Losses along a run."""

    def __init__(self) -> None:
        self.train: list[LossPoint] = []
        self.validation: list[LossPoint] = []


class _Clock:
    """Adds up seconds by phase."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, phase: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[phase] = self.seconds.get(phase, 0.0) + time.perf_counter() - start


@contextmanager
def _failures_named() -> Iterator[None]:
    """Running out of memory fails the trial, on any device and by any name."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise TrialFailed(f"out of memory: {first_line(error)}") from error
    except RuntimeError as error:
        if "allocate memory" in str(error) or "out of memory" in str(error):
            raise TrialFailed(f"out of memory: {first_line(error)}") from error
        raise


def _describe(device: torch.device) -> str:
    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({torch.get_num_threads()} threads)"
