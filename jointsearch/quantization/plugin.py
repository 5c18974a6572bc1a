"""The transformers plug-in: checkpoints whose modules differ in format, as ordinary ones.

Importing it registers it; ``import jointsearch`` sees to that. Then

    AutoModelForCausalLM.from_pretrained("runs/final/model")

loads a saved mixed checkpoint, and

    AutoModelForCausalLM.from_pretrained(
        "base-id", quantization_config=JointSearchConfig.from_plan("plan.json")
    )

quantizes tensor by tensor while loading, so the device never holds the whole model in full
precision.
"""

from __future__ import annotations

import copy
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.core_model_loading import ConversionOps
from transformers.quantizers import HfQuantizer
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.quantizers_utils import get_module_from_name
from transformers.utils.quantization_config import QuantizationConfigMixin

from jointsearch.errors import PlanError
from jointsearch.plan.formats import FORMATS, OF_BITS, QuantizationSettings
from jointsearch.plan.layout import ModelLayout
from jointsearch.plan.plan import Plan
from jointsearch.plan.plan_file import PlanFile, read_plan
from jointsearch.quantization.deserialize import Deserialize
from jointsearch.quantization.experts import (
    as_saved,
    await_saved,
    experts_at,
    quantized_experts,
    take_saved,
)
from jointsearch.quantization.formats.base import (
    FormatImplementation,
    compute_dtype,
    empty_module,
    fill,
    format_of,
    implementation_of,
    quantized,
    round_to,
    unquantized_tensors,
)
from jointsearch.quantization.tying import tied_modules, trim_bias

QUANT_METHOD = "jointsearch"

SAVED_BY_OWN_NAMES: list[Any] = []
"""A model's conversions to the checkpoints of its family: some join weights, as packed numbers cannot be."""


@register_quantization_config(QUANT_METHOD)
class JointSearchConfig(QuantizationConfigMixin):
    """Which modules have which weight format; lives in a checkpoint's ``config.json``.

    ``formats`` maps full module names to names of formats (``bits``, as version 0.1.0 wrote them, to 4 or 8).
    ``dtype`` is the model's 16-bit type, that of all else.
    """

    def __init__(
        self,
        formats: dict[str, str] | None = None,
        dtype: str = "bfloat16",
        double_quant: bool = True,
        int8_threshold: float = 6.0,
        quant_method: str = QUANT_METHOD,
        bits: dict[str, int] | None = None,
        **ignored: Any,
    ) -> None:
        self.quant_method = quant_method
        self.formats = {name: OF_BITS[of_module] for name, of_module in (bits or {}).items()} | (
            formats or {}
        )
        self.dtype = dtype
        self.double_quant = double_quant
        self.int8_threshold = int8_threshold

    @classmethod
    def from_plan(cls, plan: PlanFile | str | PathLike[str]) -> JointSearchConfig:
        """The config of an exported plan; raises ``PlanError`` if the file is damaged."""
        file = plan if isinstance(plan, PlanFile) else read_plan(Path(plan))
        return cls.of(file.plan, file.layout)

    @classmethod
    def of(cls, plan: Plan, layout: ModelLayout) -> JointSearchConfig:
        """The config of a plan for the model of ``layout``."""
        return cls(
            formats=plan.formats,
            dtype=layout.dtype,
            double_quant=plan.quantization.double_quant,
            int8_threshold=plan.quantization.int8_threshold,
        )

    @property
    def settings(self) -> QuantizationSettings:
        return QuantizationSettings(double_quant=self.double_quant, int8_threshold=self.int8_threshold)

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)


@register_quantizer(QUANT_METHOD)
class JointSearchQuantizer(HfQuantizer):
    """Loads, quantizes on load, and saves models whose modules differ in format."""

    quantization_config: JointSearchConfig

    def __init__(self, quantization_config: JointSearchConfig, **kwargs: Any) -> None:
        super().__init__(quantization_config, **kwargs)
        self.device = torch.device("cpu")
        formats = sorted(set(quantization_config.formats.values()))
        if unknown := [name for name in formats if name not in FORMATS]:
            raise PlanError(FORMATS.problem(unknown[0]))
        names = [name for of_format in formats for name in implementation_of(of_format).serialized_names]
        self.serialized_names = {"weight": list(dict.fromkeys(names))} if names else {}

    def update_device_map(self, device_map: Any) -> Any:
        if device_map is None:
            device_map = {"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"}
        if isinstance(device_map, dict):
            self.device = torch.device(next(iter(device_map.values())))
        elif isinstance(device_map, str | int | torch.device):
            automatic = device_map in ("auto", "balanced", "balanced_low_0", "sequential")
            default = "cuda" if torch.cuda.is_available() else "cpu"
            self.device = torch.device(default if automatic else device_map)
        return device_map

    def update_dtype(self, dtype: torch.dtype) -> torch.dtype:
        return compute_dtype(self.device, self.quantization_config.torch_dtype)

    def param_needs_quantization(self, model: PreTrainedModel, param_name: str, **kwargs: Any) -> bool:
        if param_name in self.quantization_config.formats:  # of experts
            return True
        module, name = get_module_from_name(model, param_name)
        return name == "weight" and format_of(module) is not None

    def _process_model_before_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> None:
        replace_modules(model, self.quantization_config, self.update_dtype(model.dtype), self.pre_quantized)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        tied = tied_modules(model)
        for name in self.quantization_config.formats:
            if (found := experts_at(model, name)) is not None:
                if self.pre_quantized:
                    take_saved(*found, self.update_dtype(model.dtype))
                continue
            module = model.get_submodule(name)
            implementation = format_of(module)
            assert implementation is not None
            tensors = {tensor: getattr(module, tensor) for tensor in ("weight", *implementation.buffers)}
            for path in (name, *tied.get(name, ())):
                fill(model.get_submodule(path), tensors)
                trim_bias(model.get_submodule(path))
        if not self.pre_quantized:
            round_to(model, self.quantization_config.torch_dtype)
        model._weight_conversions = SAVED_BY_OWN_NAMES
        # PEFT looks at both before it wraps a bitsandbytes module
        model.is_loaded_in_4bit = model.is_loaded_in_8bit = True
        return model

    def get_quantize_ops(self) -> ConversionOps:
        return _Quantize(self)

    def get_load_operations(self) -> dict[str, type[ConversionOps]]:
        return {"deserialize": Deserialize}

    def get_state_dict_and_metadata(
        self, model: PreTrainedModel
    ) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
        """What is saved: 16-bit types for all that is not quantized, and tied weights once."""
        state = as_saved(model.state_dict())
        for name, of_module in self.quantization_config.formats.items():
            if implementation_of(of_module).is_saved_flat and f"{name}.weight" in state:
                state[f"{name}.weight"] = state[f"{name}.weight"].flatten()
        dtype = self.quantization_config.torch_dtype
        state |= {name: tensor.detach().to(dtype) for name, tensor in unquantized_tensors(model).items()}
        for targets in tied_modules(model).values():
            for name in list(state):
                if any(name.startswith(f"{target}.") for target in targets) and not name.endswith(".bias"):
                    del state[name]
        return state, {}

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True


def replace_modules(
    model: PreTrainedModel, config: JointSearchConfig, dtype: torch.dtype, pre_quantized: bool
) -> None:
    """Put empty quantized modules in the places that ``config`` names; ``model`` is on the meta device."""
    modules = dict(model.named_modules())
    experts = {name for name in config.formats if experts_at(model, name) is not None}
    if unknown := [name for name in config.formats if name not in modules and name not in experts]:
        raise PlanError(
            f"a plan must fit its model, but {type(model).__name__} has no module {', '.join(unknown[:5])}"
        )
    tied = tied_modules(model)
    for name, weight_format in config.formats.items():
        implementation = implementation_of(weight_format)
        if (found := experts_at(model, name)) is not None:
            if pre_quantized:
                layer = await_saved(*found, weight_format, config.settings, dtype)
                _await_type(layer, implementation)
            continue
        for path in (name, *tied.get(name, ())):
            module = empty_module(modules[path], weight_format, config.settings, dtype)
            if path != name:
                for buffer in implementation.buffers:  # no checkpoint has them twice
                    module.register_buffer(buffer, getattr(module, buffer), persistent=False)
            if pre_quantized:
                _await_type(module, implementation)
            model.set_submodule(path, module)


def _await_type(module: nn.Module, implementation: FormatImplementation) -> None:
    if implementation.placeholder_dtype:
        module.weight.data = module.weight.data.to(implementation.placeholder_dtype)


def save_model(model: PreTrainedModel, folder: Path) -> None:
    """Save a model that was loaded through the plug-in; its config states the 16-bit type it is saved in."""
    model.save_pretrained(folder)
    config = copy.deepcopy(model.config)
    config.dtype = model.hf_quantizer.quantization_config.dtype
    config.save_pretrained(folder)


class _Quantize(ConversionOps):
    """A checkpoint's weight into a quantized one."""

    def __init__(self, hf_quantizer: JointSearchQuantizer) -> None:
        self.hf_quantizer = hf_quantizer

    def convert(
        self, input_dict: dict[str, Any], model: nn.Module | None = None, **kwargs: Any
    ) -> dict[str, torch.Tensor]:
        result: dict[str, torch.Tensor] = {}
        for name, value in input_dict.items():
            weight = value[0] if isinstance(value, list) else value
            config = self.hf_quantizer.quantization_config
            module, parameter = get_module_from_name(model, name)
            if name in config.formats:  # of experts
                dtype = self.hf_quantizer.update_dtype(weight.dtype)
                result[name] = quantized_experts(
                    module,
                    parameter,
                    weight,
                    config.formats[name],
                    config.settings,
                    config.torch_dtype,
                    dtype,
                )
                continue
            tensors = quantized(module, weight, config.torch_dtype)
            path = name.removesuffix("weight")
            result |= {f"{path}{tensor_name}": tensor for tensor_name, tensor in tensors.items()}
        return result
