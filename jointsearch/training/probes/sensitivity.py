"""Measures ``Sensitivities``: how far quantization moves each module, and how much the task pulls at it.

Weights and outputs are compared with those of the bank's own quantized modules. Gradients are those of
one calibration run with a uniform adapter on the 4-bit base.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import partial

import torch
from torch import nn

from jointsearch.plan.formats import FORMATS, INT8, NF4, by_precision
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.sensitivities import ModuleSensitivity, Sensitivities
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.experts import weight_matrix
from jointsearch.runner import Trial
from jointsearch.space import SearchSpace
from jointsearch.strategies.registry import STRATEGIES
from jointsearch.strategies.settings import StrategySettings
from jointsearch.training.loop import Clock, TrainingLoop, batches
from jointsearch.training.methods.base import method_of
from jointsearch.training.model.trial_model import TrialModels
from jointsearch.training.probes.gradients import GradientProbe, movements
from jointsearch.training.tasks import Batch, Task
from jointsearch.training.tasks.base import evaluating

NUM_OUTPUT_BATCHES = 4

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
    # it tells examples apart, and chunks of tokens are of several
    whole = config.training.model_copy(update={"chunked_loss": False})
    config = config.model_copy(update={"training": whole})
    with probe.watching(model):
        TrainingLoop(model, task, config, method_of(plan.lora)).run(Trial(seed=settings.seed), Clock())
    weights = weight_errors(bank, layout, formats)
    outputs |= {name: weights[name] for name in weights if layout[name].kind == "experts"}
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
    return {spec.name: weight_matrix(bank, spec.name).norm().item() for spec in layout.modules}


def weight_errors(bank: QuantizedBank, layout: ModelLayout, formats: Iterable[str]) -> Errors:
    """‖W - Q(W)‖ / ‖W‖."""
    errors: Errors = defaultdict(dict)
    for spec, name, difference in _differences(bank, layout, formats):
        norm = weight_matrix(bank, spec.name).norm().item()
        errors[spec.name][name] = difference.norm().item() / norm if norm else 0.0
    return dict(errors)


@torch.no_grad()
def output_errors(
    bank: QuantizedBank, layout: ModelLayout, formats: Iterable[str], batches: Iterable[Batch]
) -> Errors:
    """‖X Wᵀ - X Q(W)ᵀ‖ / ‖X Wᵀ‖ over all the batches, X as the model has it at 16 bits; not of experts."""
    lost: dict[tuple[str, str], float] = defaultdict(float)
    whole: dict[str, float] = defaultdict(float)
    differences: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    for spec, name, difference in _differences(bank, layout, formats):
        if spec.kind == "experts":  # which inputs an expert sees is its module's own
            continue
        # the model's own type: as small as one more copy of the weights
        differences[spec.name][name] = difference.to(bank.compute_dtype)

    def see(name: str, module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        bias = getattr(module, "bias", None)
        whole[name] += (output if bias is None else output - bias).float().norm().item() ** 2
        for weight_format, difference in differences[name].items():
            lookup = isinstance(module, nn.Embedding)
            error = difference[inputs[0]] if lookup else inputs[0] @ difference.T
            lost[name, weight_format] += error.float().norm().item() ** 2

    model = bank.assemble({})
    for name in differences:
        model.get_submodule(name).register_forward_hook(partial(see, name))
    with evaluating(model):
        for batch in batches:
            model(**batch)
    return {
        name: {f: (lost[name, f] / whole[name]) ** 0.5 for f in differences[name]}
        for name in differences
        if whole[name]
    }


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
            original = weight_matrix(bank, spec.name)
            yield (
                spec,
                weight_format,
                original - weight_matrix(model, spec.name).to(original.device),
            )
