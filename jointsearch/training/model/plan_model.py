"""A plan's model made of one that is loaded: quantized in place, with the plan's adapters attached."""

from __future__ import annotations

from typing import Any

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.plan.plan import Plan
from jointsearch.quantization.in_place import quantize_in_place
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.training.model.adapters import adapter_starts, attach_adapters


def get_plan_model(model: PreTrainedModel, plan: Plan, *, seed: int = 0) -> PeftModel | PreTrainedModel:
    """``model`` with every module in the plan's format, and the plan's adapters; it is changed in place.

    What it computes is what ``from_pretrained(..., quantization_config=plan.quantization_config())`` and
    ``get_peft_model(base, plan.lora_config())`` give. ``seed``: of the adapters' start. Raises ``PlanError``
    where the plan belongs to no study, or is for another model. A plan without adapters gives ``model``.
    """
    context = plan.known_context
    _check_shapes(model, plan)
    before = _Before({name: model.get_submodule(name) for name in plan.ranks})
    quantize_in_place(model, JointSearchConfig.of(plan, context.layout))
    starts = adapter_starts(model, plan, context.layout, seed, before)
    return attach_adapters(model, plan, context.layout, context.study.task.type, starts)


class _Before:
    """The modules as they were before they were quantized: what LoftQ starts from."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._modules = modules

    def get_submodule(self, name: str) -> nn.Module:
        return self._modules[name]


def _check_shapes(model: Any, plan: Plan) -> None:
    layout = plan.known_context.layout
    modules = dict(model.named_modules())
    for name in plan.modules:
        if name not in modules or modules[name].weight.numel() != layout[name].num_weights:
            shape = tuple(modules[name].weight.shape) if name in modules else "no such module"
            raise PlanError(
                f"a plan must fit its model, but {type(model).__name__} has at {name} {shape} and the plan "
                f"{layout[name].shape}; load {layout.architecture}, the model that the plan was made for"
            )
