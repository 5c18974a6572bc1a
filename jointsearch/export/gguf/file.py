"""GGUF files of a plain model and of an adapter, as llama.cpp reads them.

An adapter is multiplied there by alpha / rank, with one alpha for all: what the plan's own scale differs by
from that is multiplied into B.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from jointsearch.errors import PlanError
from jointsearch.export.finished_run import FinishedRun
from jointsearch.export.gguf.architectures import (
    ARCHITECTURES,
    Architecture,
    check_config,
    frequencies,
    in_order,
)
from jointsearch.export.gguf.tensor_types import packed
from jointsearch.export.gguf.vocabulary import vocabulary

MODEL_FILE = "model.gguf"

ADAPTER_FILE = "adapter.gguf"

WIDE = ("position_embd.weight", "rope_freqs.weight")
"""Tensors that llama.cpp wants in float32, beside those of one dimension."""


def save_model(model: PreTrainedModel, run: FinishedRun, path: Path, *, kept: bool) -> None:
    """Write a plain float32 model of the run, each module in the type of its format, with the tokenizer.

    ``kept``: whether the weights have the values of their formats already.
    """
    architecture = ARCHITECTURES[run.plan.layout.architecture]
    check_config(architecture, model.config)
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(Path(run.plan.study.model.id).name)
    size = model.get_input_embeddings().num_embeddings
    values = {
        f"{architecture.name}.{key}": value
        for key, value in architecture.hyperparameters(model.config).items()
    }
    values |= {f"tokenizer.{key}": value for key, value in vocabulary(run.tokenizer, size).items()}
    for key, value in values.items():
        _add(writer, key, value)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(gguf.LlamaFileType.GUESSED)
    names = _Names(architecture, model.config)
    for name, tensor, weight_format in _weights(model, run.plan.plan.formats):
        stored, ordered = names.of(name), in_order(architecture, model.config, name, tensor).contiguous()
        if ordered.dim() == 1 or stored in WIDE:
            writer.add_tensor(stored, ordered.numpy())
        else:
            numbers, kind = packed(ordered, weight_format, kept)
            writer.add_tensor(stored, numbers, raw_dtype=kind)
    if (divisors := frequencies(architecture, model)) is not None:
        writer.add_tensor("rope_freqs.weight", divisors.numpy())
    _write(writer)


def save_unrounded(path: Path, output: Path) -> None:
    """Write a model's file once more with each tensor in float32: what its numbers stand for."""
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(output, reader.fields["general.architecture"].contents())
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            kind, *of_items = field.types
            writer.add_key_value(key, field.contents(), kind, sub_type=of_items[0] if of_items else None)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.quants.dequantize(tensor.data, tensor.tensor_type))
    _write(writer)


def save_adapter(run: FinishedRun, config: Any, path: Path) -> None:
    """Write the run's adapter, in float32."""
    assert run.adapter is not None
    architecture = ARCHITECTURES[run.plan.layout.architecture]
    lora = run.plan.plan.lora
    writer = gguf.GGUFWriter(path, architecture.name)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    alpha = lora.scale(1)
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, alpha)
    names = _Names(architecture, config)
    tensors = load_file(run.adapter / "adapter_model.safetensors")
    for name, rank in run.plan.plan.ranks.items():
        a, b = (tensors[f"base_model.model.{name}.lora_{part}.weight"].float() for part in "AB")
        b = in_order(architecture, config, f"{name}.weight", b * (lora.scale(rank) * rank / alpha))
        stored = names.of(f"{name}.weight")
        writer.add_tensor(f"{stored}.lora_a", a.numpy())
        writer.add_tensor(f"{stored}.lora_b", b.contiguous().numpy())
    _write(writer)


class _Names:
    """llama.cpp's names of a model's parameters."""

    def __init__(self, architecture: Architecture, config: Any) -> None:
        (kind,) = [kind for kind, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture.name]
        self.map = gguf.get_tensor_name_map(kind, config.num_hidden_layers)
        self.architecture = architecture.name

    def of(self, name: str) -> str:
        """Raises ``PlanError`` where it has none."""
        found: str | None = self.map.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise PlanError(f"llama.cpp's {self.architecture} has no tensor for {name}; use --to merged")
        return found


def _weights(model: PreTrainedModel, formats: Mapping[str, str]) -> Iterator[tuple[str, torch.Tensor, str]]:
    """Each parameter once with its name and its format; of linear layers (out_features, in_features)."""
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.data_ptr() in seen:  # tied: llama.cpp's heads are the embeddings where there is no other
            continue
        seen.add(parameter.data_ptr())
        path, _, last = name.rpartition(".")
        is_transposed = last == "weight" and isinstance(model.get_submodule(path), Conv1D)
        weight = parameter.data.T if is_transposed else parameter.data
        yield name, weight, formats.get(path, "16bit")


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
