"""From a model's config to its ``ModelLayout``: on the meta device, without weights.

Works for any transformers model built of linear layers or GPT-2's ``Conv1D``: what a module is for
follows from where it stands. A block is an element of the outermost ``ModuleList`` around it; inside
a block its path says whether it belongs to attention or to the feed-forward network.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import _check_lora_target_modules_mamba
from peft.utils.transformers_weight_conversion import (
    _MODEL_TO_CONVERSION_PATTERN,
    _MOE_TARGET_MODULE_MAPPING,
)
from torch import nn
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from jointsearch.config.study import ModelSettings, is_folder_id, model_source
from jointsearch.config.task import TASKS
from jointsearch.config.trust import HOW, trusts_remote_code
from jointsearch.errors import OFFLINE, ModelError, first_line
from jointsearch.plan.layout import ModelLayout, ModuleSpec, Part
from jointsearch.quantization.experts import expert_parameters, expert_shape
from jointsearch.quantization.formats.base import embedding_scale, is_linear, linear_shape
from jointsearch.quantization.tying import tied_modules
from jointsearch.registry import load
from jointsearch.training.hub import is_out_of_reach
from jointsearch.training.model.weight_reads import weights_read

SIXTEEN_BIT = {torch.bfloat16: "bfloat16", torch.float16: "float16"}

_CROSS_ATTENTION = re.compile(r"cross|encdec|encoder_attn", re.IGNORECASE)
_ATTENTION = re.compile(r"attn|attention", re.IGNORECASE)


def model_class(task_type: str) -> Any:
    """What loads the models of a task: one of transformers' auto classes."""
    return load(TASKS[task_type].model_class)


def load_config(settings: ModelSettings, head: Mapping[str, Any] | None = None) -> PreTrainedConfig:
    """The model's config with the arguments of ``head``; raises ``ModelError`` where there is none."""
    source = model_source(settings.id)
    if is_folder_id(source) and not (Path(source) / "config.json").is_file():
        raise ModelError(f"model.id must be a Hub id or a folder with a config.json, but got {settings.id}")
    if not is_folder_id(source):
        is_out_of_reach()  # before what waits for it
    try:
        config = AutoConfig.from_pretrained(
            source,
            revision=settings.revision,
            trust_remote_code=trusts_remote_code(),
            **(head or {}),
        )
    except (OSError, ValueError) as error:
        if needs_trust(error):
            raise ModelError(f"the model '{settings.id}' comes with code that must run; {HOW}") from None
        fix = "" if is_folder_id(source) else f"; {OFFLINE}"
        raise ModelError(f"the model '{settings.id}' cannot be read: {first_line(error)}{fix}") from None
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(
            f"the model '{settings.id}' is quantized already; name the checkpoint it was quantized from"
        )
    return config


def needs_trust(error: Exception) -> bool:
    """Whether transformers has refused a model because its own code would have to run."""
    return "trust_remote_code" in str(error)


def read_layout(
    settings: ModelSettings, task_type: str, head: Mapping[str, Any] | None = None
) -> ModelLayout:
    """The layout of the model that ``task_type`` trains, with the task's ``head``."""
    config = load_config(settings, head)
    layout = layout_of(empty_model(config, settings, task_type), sixteen_bit_type(config, settings))
    names = [name for spec in layout.modules for name in (spec.name, *spec.tied)]
    trust = trusts_remote_code()
    reads = weights_read(
        lambda config: model_class(task_type).from_config(config, trust_remote_code=trust), config, names
    )
    layout = _kept_where_read(layout, reads)
    if not any(spec.block and (spec.quantizable or spec.adaptable) for spec in layout.modules):
        reasons = "; ".join(f"{name} ({reason})" for name, reason in list(layout.left_out.items())[:2])
        raise ModelError(
            f"the model '{settings.id}' must have blocks with linear layers that can be searched, but "
            f"{layout.architecture} has none: {reasons or 'it has no blocks'}"
        )
    return layout


def _kept_where_read(layout: ModelLayout, reads: Mapping[str, set[str]]) -> ModelLayout:
    """The layout without the modules whose weights the model reads itself: these stay as they are."""
    modules, left_out, without = [], dict(layout.left_out), dict(layout.without_adapter)
    for spec in layout.modules:
        read = set().union(*(reads.get(name, set()) for name in (spec.name, *spec.tied)))
        if not read or spec.trained:
            modules.append(spec)
            continue
        reason = f"the model reads its weight beside its forward ({', '.join(sorted(read))})"
        if spec.quantizable:
            left_out[spec.name] = reason
        # who only asks for its type multiplies by the module, and by its adapter
        adaptable = spec.adaptable and read == {"dtype"}
        if spec.adaptable and not adaptable:
            without[spec.name] = reason
        modules.append(spec.model_copy(update={"quantizable": False, "adaptable": adaptable}))
    return layout.model_copy(
        update={"modules": tuple(modules), "left_out": left_out, "without_adapter": without}
    )


def empty_model(config: PreTrainedConfig, settings: ModelSettings, task_type: str) -> PreTrainedModel:
    """The model on the meta device."""
    try:
        with torch.device("meta"):
            return model_class(task_type).from_config(config, trust_remote_code=trusts_remote_code())
    except ValueError as error:
        raise ModelError(
            f"the model '{settings.id}' has no class for {task_type}: {first_line(error)}"
        ) from None


def sixteen_bit_type(config: PreTrainedConfig, settings: ModelSettings) -> str:
    """The type of what is not quantized: what the study says, the checkpoint's own, or bfloat16."""
    if settings.dtype != "auto":
        return settings.dtype
    return SIXTEEN_BIT.get(getattr(config, "dtype", None), "bfloat16")


def layout_of(model: PreTrainedModel, dtype: str) -> ModelLayout:
    """The layout of a model, which may be on the meta device."""
    try:
        model.get_input_embeddings()
    except NotImplementedError:
        raise ModelError(
            f"a model must look its tokens up in a table of embeddings, but {type(model).__name__} has none"
        ) from None
    tied = tied_modules(model)
    aliases = {name for names in tied.values() for name in names}
    lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    state = model.state_dict()
    specs: list[ModuleSpec] = []
    left_out: dict[str, str] = {}
    without: dict[str, str] = {}
    counted: set[str] = {f"{alias}.weight" for alias in aliases}

    for name, module in model.named_modules():
        if name in aliases:
            continue
        if experts := expert_parameters(module):
            block, _ = _block(name, lists, model.base_model_prefix)
            specs += [_experts(name, module, parameter, block) for parameter in experts]
            counted |= {f"{name}.{parameter}" for parameter in experts}
            continue
        if not (is_linear(module) or _is_embedding(module, model)):
            if reason := _why_left_out(module):
                left_out[name] = reason
            continue
        spec = _spec(name, module, model, lists, tied.get(name, ()))
        if not spec.quantizable and not spec.trained:
            left_out[name] = "transformers keeps it in full precision"
        if spec.part not in (Part.EMBEDDING, Part.HEAD) and (reason := _why_peft_refuses(model, name)):
            without[name] = reason
        specs.append(spec)
        counted |= {f"{name}.weight"} | ({f"{name}.bias"} if spec.has_bias else set())

    # state_dict has every persistent tensor; only parameters are counted as such
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    other = {name: tensor for name, tensor in state.items() if name not in counted}
    return ModelLayout(
        architecture=type(model).__name__,
        dtype=dtype,
        modules=tuple(specs),
        other_parameters=sum(t.numel() for name, t in other.items() if name in parameters),
        other_bytes=sum(
            t.numel() * (2 if t.is_floating_point() else t.element_size()) for t in other.values()
        ),
        left_out=left_out,
        without_adapter=without,
    )


def _experts(name: str, module: nn.Module, parameter: str, block: str) -> ModuleSpec:
    num_experts, *shape = expert_shape(module, parameter)
    return ModuleSpec(
        name=f"{name}.{parameter}",
        kind="experts",
        block=block,
        part=Part.MLP,
        shape=tuple(shape),
        num_experts=num_experts,
    )


def _is_embedding(module: nn.Module, model: PreTrainedModel) -> bool:
    """Token and position embeddings: as wide as the model's input (T5's position biases are not)."""
    width = getattr(model.get_input_embeddings(), "embedding_dim", None)
    return embedding_scale(module) is not None and module.embedding_dim == width


def _why_left_out(module: nn.Module) -> str | None:
    """Why a module with weights of its own cannot be in the search."""
    shapes = [tuple(p.shape) for p in module.parameters(recurse=False) if p.dim() >= 2]
    if not shapes:
        return None
    if isinstance(module, nn.Embedding):
        if embedding_scale(module) is None:
            return f"{type(module).__name__} looks rows up in a way of its own"
        return f"{type(module).__name__} of shape {shapes[0]} is no token embedding"
    if isinstance(module, nn.Linear):
        return f"{type(module).__name__} multiplies by its weight in a way of its own"
    return f"{type(module).__name__} with weights of shape {shapes[0]} is no nn.Linear or Conv1D"


def _spec(
    name: str, module: nn.Module, model: PreTrainedModel, lists: list[str], tied: tuple[str, ...]
) -> ModuleSpec:
    block, inside = _block(name, lists, model.base_model_prefix)
    if isinstance(module, nn.Embedding):
        part = Part.EMBEDDING
    elif not block:
        part = Part.HEAD
    elif _CROSS_ATTENTION.search(inside):
        part = Part.CROSS_ATTENTION
    else:
        part = Part.ATTENTION if _ATTENTION.search(inside) else Part.MLP
    # A language model's head is pretrained; another head is new, and trained with the adapters.
    prefix = f"{model.base_model_prefix}."
    is_new_head = (
        part is Part.HEAD
        and model.get_output_embeddings() is None
        and not (hasattr(model, model.base_model_prefix) and name.startswith(prefix))
    )
    kept = getattr(model, "_keep_in_fp32_modules", None) or ()
    return ModuleSpec(
        name=name,
        kind="embedding"
        if isinstance(module, nn.Embedding)
        else "conv1d"
        if isinstance(module, Conv1D)
        else "linear",
        block=block,
        part=part,
        shape=(module.num_embeddings, module.embedding_dim)
        if isinstance(module, nn.Embedding)
        else linear_shape(module),
        has_bias=getattr(module, "bias", None) is not None,
        tied=tied,
        quantizable=not is_new_head and not any(part in name.split(".") for part in kept),
        adaptable=part not in (Part.EMBEDDING, Part.HEAD) and not _why_peft_refuses(model, name),
        trained=is_new_head,
    )


def _why_peft_refuses(model: PreTrainedModel, name: str) -> str | None:
    """Why PEFT has no adapter for a module of that name in such a model; None where it has."""
    kind = _MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type)
    if any(name.endswith(f".{old}") for old in _MOE_TARGET_MODULE_MAPPING.get(kind, ())):
        return "by its name PEFT takes it for an expert of older checkpoints"
    try:
        _check_lora_target_modules_mamba(LoraConfig(), model, name.rpartition(".")[2])
    except ValueError:
        return f"PEFT has no adapter for it in a {model.config.model_type}"
    return None


def _block(name: str, lists: list[str], prefix: str) -> tuple[str, str]:
    """The block's name without the base model's prefix, and the path of the module inside of it."""
    for outer in lists:  # in order of depth: the first that fits is the outermost
        if match := re.match(rf"{re.escape(outer)}\.(\d+)\.(.+)", name):
            return f"{outer.removeprefix(f'{prefix}.')}.{match[1]}", match[2]
    return "", name
