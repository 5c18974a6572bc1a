"""A plan's model made of one that is loaded: quantized in place, with the plan's adapters attached."""

from __future__ import annotations

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.plan.layout import ModuleSpec
from jointsearch.plan.plan import Plan
from jointsearch.quantization.in_place import quantize_in_place
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.training.methods.base import Adaptation, method_of
from jointsearch.training.model.adapters import needs_original
from jointsearch.training.model.architecture import layout_of


def get_plan_model(model: PreTrainedModel, plan: Plan, *, seed: int = 0) -> PeftModel | PreTrainedModel:
    """``model`` with every module in the plan's format, and the plan's adapters; it is changed in place.

    What it computes is what ``from_pretrained(..., quantization_config=plan.quantization_config())`` and
    ``get_peft_model(base, plan.lora_config())`` give. ``seed``: of the adapters' start. Raises ``PlanError``
    where the plan belongs to no study, or is for another model. A plan without adapters gives ``model``.
    """
    context = plan.known_context
    if getattr(model, "is_quantized", False):
        raise PlanError(
            f"a model must be loaded without quantization to be given a plan's formats, but this "
            f"{type(model).__name__} is quantized"
        )
    _check_fits(model, plan)
    names = plan.ranks if needs_original(plan) else ()
    before = _Before({name: model.get_submodule(name) for name in names})
    quantize_in_place(model, JointSearchConfig.of(plan, context.layout))
    method = method_of(plan.lora)
    study = context.study
    wanted = Adaptation(plan, context.layout, study.task.type, study.calibration.steps, seed)
    return method.attach(model, wanted, method.starts(model, wanted, before))


class _Before:
    """The modules as they were before they were quantized: what LoftQ starts from."""

    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._before = modules

    def get_submodule(self, name: str) -> nn.Module:
        return self._before[name]


def _check_fits(model: PreTrainedModel, plan: Plan) -> None:
    layout = plan.known_context.layout
    found = {spec.name: _identity(spec) for spec in layout_of(model, layout.dtype).modules}
    wanted = {spec.name: _identity(spec) for spec in layout.modules}
    if different := [name for name in (*wanted, *found) if wanted.get(name) != found.get(name)]:
        raise PlanError(
            f"a plan must fit its model, but {type(model).__name__} and the plan's {layout.architecture} "
            f"differ in {different[0]} ({len(set(different))} modules in all); load the model that the plan "
            "was made for"
        )


def _identity(spec: ModuleSpec) -> tuple[object, ...]:
    """What a module is, whatever is done with it."""
    return spec.kind, spec.matrix_shape, spec.has_bias, spec.tied
