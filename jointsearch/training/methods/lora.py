"""LoRA and what PEFT trains in its place: rank-stabilized LoRA and DoRA.

LoRA adds s B A to a frozen weight W (Hu et al., arXiv 2106.09685); rsLoRA's s is alpha / √rank
(Kalajdzievski, arXiv 2312.03732); DoRA also trains the norms of the outputs' weights (Liu et al., arXiv
2402.09353, equation 5). Which of them a plan wants is in ``plan.peft.lora_config``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel

from jointsearch.errors import PlanError
from jointsearch.plan.formats import FORMATS
from jointsearch.plan.layout import ModelLayout, ModuleSpec
from jointsearch.plan.peft import lora_config
from jointsearch.plan.plan import Plan
from jointsearch.quantization.experts import Modules
from jointsearch.quantization.formats.base import implementation_of
from jointsearch.training.methods.base import Adaptation, TrainingMethod, adapted_layers, cast_trained
from jointsearch.training.model.adapters import ADAPTER, Factors, Start, adapter_starts
from jointsearch.training.quiet import ranks_of_parameters


class LoraMethod(TrainingMethod):
    def starts(
        self,
        model: PreTrainedModel,
        wanted: Adaptation,
        original: Modules | None = None,
        factors: Factors | None = None,
    ) -> dict[str, Start]:
        return adapter_starts(model, wanted.plan, wanted.layout, wanted.seed, original, factors)

    def attach(
        self, model: PreTrainedModel, wanted: Adaptation, starts: Mapping[str, Start]
    ) -> PeftModel | PreTrainedModel:
        return attach_adapters(model, wanted.plan, wanted.layout, wanted.task_type, starts)


class DoraMethod(LoraMethod):
    def check(self, device: torch.device, modules: Iterable[tuple[ModuleSpec, str]]) -> None:
        for spec, weight_format in modules:
            if FORMATS[weight_format].is_quantized:
                implementation_of(weight_format).check_dora(spec, device)


def attach_adapters(
    model: PreTrainedModel,
    plan: Plan,
    layout: ModelLayout,
    task_type: str,
    starts: Mapping[str, Start],
) -> PeftModel | PreTrainedModel:
    """``model`` with the plan's adapters at ``starts``; the model itself where the plan trains nothing."""
    arguments = lora_config(plan, layout, task_type)
    if not arguments["target_modules"] and "target_parameters" not in arguments:
        return model.requires_grad_(False)
    with ranks_of_parameters():
        peft_model = get_peft_model(model, LoraConfig(**arguments))
    layers = adapted_layers(peft_model, LoraLayer)
    # PEFT matches names by patterns and is silent about those that match nothing or too much.
    attached = {name: layer.r[ADAPTER] for name, layer in layers.items()}
    if attached != plan.ranks:
        wrong = sorted(
            name for name in attached.keys() | plan.ranks if attached.get(name) != plan.ranks.get(name)
        )
        raise PlanError(f"PEFT gave other ranks than the plan to {', '.join(wrong[:5])}")
    for name, layer in layers.items():
        a, b = starts[name]
        layer.lora_A[ADAPTER].weight.data.copy_(a)
        layer.lora_B[ADAPTER].weight.data.copy_(b)
    cast_trained(peft_model, getattr(torch, plan.lora.dtype))
    return peft_model


LORA = LoraMethod()
DORA = DoraMethod()
