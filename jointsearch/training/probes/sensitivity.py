"""Measures ``Sensitivities``: how far quantization moves each module, and how much the task pulls at it.

Weights and outputs are compared with those of the bank's own quantized modules. Gradients are those of
one calibration run with a uniform adapter on the 4-bit base: ∂L/∂W = δᵀ X from a module's inputs X and the
gradient δ of its output, so no weight needs a gradient of its own.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import nn

from jointsearch.plan.formats import FORMATS, INT8, NF4, by_precision
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.formats.base import matrix_of
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.training.loop import Clock, TrainingLoop, batches
from jointsearch.training.methods.base import method_of
from jointsearch.training.model.adapters import ADAPTER
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.tasks import Batch, Task
from jointsearch.training.tasks.base import evaluating

NUM_OUTPUT_BATCHES = 4
NUM_FISHER_STEPS = 16

Errors = dict[str, dict[str, float]]
"""Relative errors by module and format."""


def measure_sensitivities(models: TrialModels, task: Task, rank: int) -> Sensitivities:
    """How sensitive each module is, from one calibration run at 4 bits and ``rank`` everywhere."""
    config, layout, bank = models.config, models.layout, models.bank
    settings = config.calibration
    space = SearchSpace.build(layout, config.search_space, config.quantization, config.lora)
    formats = measured_formats(space)
    norms = weight_norms(bank, layout)
    few = settings.model_copy(update={"steps": NUM_OUTPUT_BATCHES})
    on_device = (
        {name: tensor.to(models.device) for name, tensor in batch.items()}
        for batch in batches(task, few, settings.seed)
    )
    outputs = output_errors(bank, layout, formats, on_device)
    uniform = StrategySettings(
        rank=rank,
        quantization=config.quantization,
        lora=LoraSettings(dropout=config.lora.dropout, dtype=config.lora.dtype),
    )
    plan = STRATEGIES["qlora"].plan(layout, uniform)
    model = models.assemble(plan, settings.seed)
    probe = GradientProbe(layout)
    with probe.watching(model):
        TrainingLoop(model, task, config, method_of(plan.lora)).run(Trial(seed=settings.seed), Clock())
    weights = weight_errors(bank, layout, formats)
    return Sensitivities(
        modules=together(norms, weights, outputs, probe, movements(model, norms)),
        probe_steps=settings.steps,
        probe_rank=rank,
        seed=settings.seed,
    )


def measured_formats(space: SearchSpace) -> tuple[str, ...]:
    """NF4 and int8, which rules of all studies look at, and what else the plans of ``space`` can have."""
    names = {NF4.name, INT8.name} | {name for group in space.groups for name in group.formats}
    return by_precision(name for name in names if FORMATS[name].is_quantized)


def weight_norms(bank: QuantizedBank, layout: ModelLayout) -> dict[str, float]:
    """‖W‖ of every module."""
    return {
        spec.name: matrix_of(bank.model.get_submodule(spec.name)).norm().item() for spec in layout.modules
    }


def weight_errors(bank: QuantizedBank, layout: ModelLayout, formats: Iterable[str]) -> Errors:
    """‖W - Q(W)‖ / ‖W‖."""
    errors: Errors = defaultdict(dict)
    for spec, name, difference in _differences(bank, layout, formats):
        norm = matrix_of(bank.model.get_submodule(spec.name)).norm().item()
        errors[spec.name][name] = difference.norm().item() / norm if norm else 0.0
    return dict(errors)


@torch.no_grad()
def output_errors(
    bank: QuantizedBank, layout: ModelLayout, formats: Iterable[str], batches: Iterable[Batch]
) -> Errors:
    """‖X Wᵀ - X Q(W)ᵀ‖ / ‖X Wᵀ‖ over all the batches, X as the model has it at 16 bits."""
    lost: dict[tuple[str, str], float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    differences: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for spec, name, difference in _differences(bank, layout, formats):
        # the model's own type: as small as one more copy of the weights
        differences[spec.name][name] = difference.to(bank.model.dtype)

    def see(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        bias = getattr(module, "bias", None)
        whole[name] += (output if bias is None else output - bias).float().norm().item() ** 2
        for weight_format, difference in differences[name].items():
            lookup = isinstance(module, nn.Embedding)
            error = difference[inputs[0]] if lookup else inputs[0] @ difference.T
            lost[name, weight_format] += error.float().norm().item() ** 2

    hooks = [bank.model.get_submodule(name).register_forward_hook(partial(see, name)) for name in differences]
    try:
        with evaluating(bank.model):
            for batch in batches:
                bank.model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: {f: (lost[name, f] / whole[name]) ** 0.5 for f in differences[name]}
        for name in differences
        if whole[name]
    }


class GradientProbe:
    """Watches a model with LoRA adapters along a training run."""

    def __init__(self, layout: ModelLayout) -> None:
        self._layout = layout
        self._squares: dict[tuple[str, str], list[float]] = defaultdict(list)
        """‖∂L/∂A‖² and ‖∂L/∂B‖² by module, one per step."""
        self._fisher: dict[str, float] = defaultdict(float)
        self._num_steps = 0

    @contextmanager
    def watching(self, model: Any) -> Iterator[None]:
        """Count the gradients of every backward pass meanwhile."""
        hooks = []
        for name, layer in _adapters(model):
            for matrix in ("A", "B"):
                weight = getattr(layer, f"lora_{matrix}")[ADAPTER].weight
                see = partial(self._see_adapter, (name, matrix))
                hooks.append(weight.register_post_accumulate_grad_hook(see))
        for spec in self._layout.modules:
            if not spec.trained:
                module = model.get_submodule(f"base_model.model.{spec.name}")
                hooks.append(module.register_forward_hook(partial(self._see_output, spec.name)))
        # the first module's own pre-hook counts steps, before anything of the step is seen
        hooks.append(model.register_forward_pre_hook(self._begin))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    @property
    def gradient_norms(self) -> dict[str, float]:
        """Mean over the steps of ‖∂L/∂(A, B)‖."""
        names = {name for name, _ in self._squares}
        return {
            name: sum((a + b) ** 0.5 for a, b in zip(*self._both(name), strict=True))
            / len(self._both(name)[0])
            for name in names
        }

    @property
    def fishers(self) -> dict[str, float]:
        """Mean over the first steps and the weight's elements of (∂L/∂W)², uses of a shared weight apart."""
        steps = min(self._num_steps, NUM_FISHER_STEPS)
        return {
            spec.name: self._fisher[spec.name] / steps / spec.num_weights
            for spec in self._layout.modules
            if spec.name in self._fisher
        }

    def _both(self, name: str) -> tuple[list[float], list[float]]:
        return self._squares[name, "A"], self._squares[name, "B"]

    def _begin(self, model: nn.Module, inputs: Any) -> None:
        self._num_steps += model.training

    def _see_adapter(self, key: tuple[str, str], weight: nn.Parameter) -> None:
        assert weight.grad is not None
        self._squares[key].append(weight.grad.float().norm().item() ** 2)

    def _see_output(
        self, name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> None:
        if not module.training or not torch.is_grad_enabled() or self._num_steps > NUM_FISHER_STEPS:
            return
        if not output.requires_grad:  # an embedding: nothing before it is trained
            output.requires_grad_(True)
        seen = inputs[0].detach()

        def see_gradient(gradient: torch.Tensor) -> None:
            rows = gradient.detach().flatten(0, -2).float()  # (tokens, out)
            if seen.is_floating_point():
                total = rows.T @ seen.flatten(0, -2).float()
            else:
                ids, positions = seen.flatten().unique(return_inverse=True)
                total = rows.new_zeros(len(ids), rows.shape[1]).index_add_(0, positions, rows)
            self._fisher[name] += total.norm().item() ** 2

        output.register_hook(see_gradient)


def movements(model: Any, norms: dict[str, float]) -> dict[str, float]:
    """‖s B A‖ / ‖W‖ of every adapter, as it is now."""
    found = {}
    for name, layer in _adapters(model):
        product = layer.lora_B[ADAPTER].weight.data.float() @ layer.lora_A[ADAPTER].weight.data.float()
        found[name] = abs(layer.scaling[ADAPTER]) * product.norm().item() / (norms[name] or 1.0)
    return found


def together(
    norms: dict[str, float], weights: Errors, outputs: Errors, probe: GradientProbe, moved: dict[str, float]
) -> dict[str, ModuleSensitivity]:
    """Everything that was measured, by module."""
    gradient_norms, fishers = probe.gradient_norms, probe.fishers
    return {
        name: ModuleSensitivity(
            weight_norm=norm,
            weight_error=weights.get(name, {}),
            output_error=outputs.get(name, {}),
            fisher=fishers.get(name, 0.0),
            gradient_norm=gradient_norms.get(name, 0.0),
            movement=moved.get(name, 0.0),
        )
        for name, norm in norms.items()
    }


def _differences(
    bank: QuantizedBank, layout: ModelLayout, formats: Iterable[str]
) -> Iterator[tuple[ModuleSpec, str, torch.Tensor]]:
    """W - Q(W) of every module in every format that it can have, float32."""
    for weight_format in formats:
        kinds = FORMATS[weight_format].kinds
        specs = [spec for spec in layout.modules if spec.quantizable and spec.kind in kinds]
        model = bank.assemble({spec.name: weight_format for spec in specs})
        for spec in specs:
            original = matrix_of(bank.model.get_submodule(spec.name))
            yield (
                spec,
                weight_format,
                original - matrix_of(model.get_submodule(spec.name)).to(original.device),
            )


def _adapters(model: Any) -> Iterator[tuple[str, LoraLayer]]:
    for name, layer in model.named_modules():
        if isinstance(layer, LoraLayer):
            yield name.removeprefix("base_model.model."), layer
