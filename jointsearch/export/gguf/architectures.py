"""The models that llama.cpp has and how each is described to it: hyperparameters, and what it turns around.

Tensors have the names of ``gguf.TensorNameMap``. Three things are not as transformers has them:

- Llama's rotary embeddings turn pairs of neighbours there, and pairs at half a head's width in
  transformers: the rows of its q and k, weights and adapters alike, are interleaved.
- Gemma's norms multiply by 1 + w; w is stored with the 1.
- GPT-2's ``Conv1D`` stores its weight transposed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from jointsearch.errors import PlanError

Values = dict[str, Any]
"""Metadata by key, the architecture's name and a dot left out; ``int``, ``float``, ``str`` or ``bool``."""


@dataclass(frozen=True)
class Architecture:
    """A family of models in llama.cpp."""

    name: str
    """llama.cpp's, the value of ``general.architecture``."""
    hyperparameters: Callable[[Any], Values]
    """Of a transformers config."""
    activation: str
    """The one that is built in."""
    is_interleaved: bool = False
    """Whether rotary embeddings turn neighbours."""
    norm_offset: float = 0.0
    """What is added to the weights of norms."""
    has_frequencies: bool = False
    """Whether a tensor can say by what each rotary frequency is divided (Llama 3.1)."""


def _rotary(config: Any) -> Values:
    """What decoders with rotary embeddings and RMS norms have in common."""
    heads = config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    window = getattr(config, "sliding_window", None)
    context = config.max_position_embeddings
    return {
        "context_length": min(context, window) if window else context,  # no window there
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size,
        "attention.head_count": heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.rms_norm_eps),
        "rope.dimension_count": width,
        "rope.freq_base": float(config.rope_parameters["rope_theta"]),
    }


def _gpt2(config: Any) -> Values:
    return {
        "context_length": config.n_positions,
        "embedding_length": config.n_embd,
        "block_count": config.n_layer,
        "feed_forward_length": config.n_inner or 4 * config.n_embd,
        "attention.head_count": config.n_head,
        "attention.layer_norm_epsilon": float(config.layer_norm_epsilon),
    }


ARCHITECTURES = {
    "LlamaForCausalLM": Architecture("llama", _rotary, "silu", is_interleaved=True, has_frequencies=True),
    "MistralForCausalLM": Architecture("llama", _rotary, "silu", is_interleaved=True, has_frequencies=True),
    "Qwen2ForCausalLM": Architecture("qwen2", _rotary, "silu"),
    "Qwen3ForCausalLM": Architecture("qwen3", _rotary, "silu"),
    "GemmaForCausalLM": Architecture("gemma", _rotary, "gelu_pytorch_tanh", norm_offset=1.0),
    "GPT2LMHeadModel": Architecture("gpt2", _gpt2, "gelu_new"),
}
"""By the class in transformers."""


def check_config(architecture: Architecture, config: Any) -> None:
    """Raise ``PlanError`` where llama.cpp would compute something else than the config says."""
    found = getattr(config, "hidden_activation", None) or getattr(config, "hidden_act", None)
    found = found or config.activation_function
    if found != architecture.activation:
        raise PlanError(
            f"llama.cpp's {architecture.name} has the activation {architecture.activation}, but the model "
            f"has {found}; use --to merged"
        )
    rope = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    known = ("default", "llama3") if architecture.has_frequencies else ("default",)
    if kind not in known:
        raise PlanError(
            f"for llama.cpp's {architecture.name} rotary embeddings are written of the type "
            f"{' or '.join(known)}, but the model's are {kind}; use --to merged"
        )


def frequencies(architecture: Architecture, model: Any) -> torch.Tensor | None:
    """By what each rotary frequency is divided, (head width / 2); None where by nothing."""
    rope = getattr(model.config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") == "default":
        return None
    found: torch.Tensor = model.base_model.rotary_emb.inv_freq.float()
    return rope["rope_theta"] ** -(torch.arange(len(found)) / len(found)) / found


def in_order(architecture: Architecture, config: Any, name: str, rows: torch.Tensor) -> torch.Tensor:
    """A parameter as llama.cpp has it, or an adapter's B: its rows, in its order.

    ``name``: of the parameter, or of the adapter's module with ``.weight`` behind.
    """
    if architecture.norm_offset and name.endswith("norm.weight"):
        return rows + architecture.norm_offset
    part = name.rsplit(".", 2)[-2]
    if not architecture.is_interleaved or part not in ("q_proj", "k_proj"):
        return rows
    heads = config.num_attention_heads if part == "q_proj" else config.num_key_value_heads
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)
