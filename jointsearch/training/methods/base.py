"""What a training method must do, and what all methods share.

A method is one file: a ``TrainingMethod``, and a ``plan.methods.Method`` that points to it. Trials and full
runs use it alike:

    wanted = Adaptation(plan, layout, task_type, num_steps, seed)
    starts = method.starts(model, wanted, original)
    model = method.attach(model, wanted, starts)
    optimizer = build_optimizer(method.parameter_groups(model, learning_rate), …)
    for step in 1 … num_steps: forward, backward, optimizer.step(), method.after_step(model, step, finite)
    method.final_ranks(model)
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from peft import PeftModel
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from transformers import PreTrainedModel

from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.lora import LoraSettings
from jointsearch.plan.plan import Plan
from jointsearch.quantization.experts import Modules
from jointsearch.registry import load
from jointsearch.training.model.adapters import Factors, Start

Layer = TypeVar("Layer", bound=nn.Module)


@dataclass(frozen=True)
class Adaptation:
    """What adapters are wanted for."""

    plan: Plan
    layout: ModelLayout
    task_type: str
    num_steps: int
    """Of the whole run, for methods that have a schedule."""
    seed: int
    """Of the adapters' start."""


class TrainingMethod(ABC):
    """How adapters start, train and end. Has no state: that is in the model."""

    restorable: bool = True
    """Whether the trained parameters, the optimizer and the random numbers are all its state, so that a run
    that was interrupted can go on."""

    def check(self, device: torch.device, modules: Iterable[tuple[ModuleSpec, str]]) -> None:  # noqa: B027
        """Raise ``UnsupportedError`` if it is wrong beside one of these modules in its format."""

    @abstractmethod
    def starts(
        self,
        model: PreTrainedModel,
        wanted: Adaptation,
        original: Modules | None = None,
        factors: Factors | None = None,
    ) -> dict[str, Start]:
        """Where the plan's adapters start, by module; ``model`` has the plan's formats and no adapters yet.

        May change its 16-bit weights (``model.adapters.changes_weights``); ``original`` has the modules
        before quantization, where that is needed (``model.adapters.needs_original``).
        """

    @abstractmethod
    def attach(
        self, model: PreTrainedModel, wanted: Adaptation, starts: Mapping[str, Start]
    ) -> PeftModel | PreTrainedModel:
        """``model`` with the plan's adapters at ``starts``; the model itself where a plan trains nothing."""

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        """The optimizer's groups of what is trained, with a ``lr`` where it is not ``learning_rate``."""
        return [{"params": [value for value in model.parameters() if value.requires_grad]}]

    def after_step(self, model: Any, step: int, finite: bool) -> None:  # noqa: B027
        """Called after the optimizer's step number ``step`` (from 1), while its gradients are still there.

        A step that is not ``finite`` has been left out.
        """

    def final_ranks(self, model: Any) -> dict[str, int]:
        """The rank that every adapted module has ended with, 0 included; none if they are the plan's."""
        return {}


def method_of(settings: LoraSettings) -> TrainingMethod:
    """What trains adapters with these settings."""
    method: TrainingMethod = load(settings.method.implementation)
    return method


def adapted_layers(model: nn.Module, kind: type[Layer]) -> dict[str, Layer]:
    """PEFT's layers of that kind, by the name that their module, or experts, have in a plan."""
    return {
        _name_in_plan(name.removeprefix("base_model.model."), layer): layer
        for name, layer in model.named_modules()
        if isinstance(layer, kind)
    }


def _name_in_plan(path: str, layer: nn.Module) -> str:
    """PEFT wraps a module once for each of its parameters."""
    if not isinstance(layer, ParamWrapper):
        return path
    return f"{re.sub(r'([.]base_layer)+$', '', path)}.{layer.parameter_name}"


def cast_trained(model: nn.Module, dtype: torch.dtype) -> None:
    """Give all that is trained the type that adapters are trained and saved in.

    PEFT's layers cast what comes to them; a new head is made to.
    """
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(dtype)
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and module.weight.requires_grad and ".lora_" not in name:
            module.register_forward_pre_hook(_as_weight)
            module.register_forward_hook(_as_input)


def _as_weight(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    module.input_dtype = inputs[0].dtype
    return tuple(tensor.to(module.weight.dtype) for tensor in inputs)


def _as_input(module: nn.Module, inputs: tuple[torch.Tensor, ...], output: torch.Tensor) -> torch.Tensor:
    return output.to(module.input_dtype)
