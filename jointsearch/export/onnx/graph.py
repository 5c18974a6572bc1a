"""A language model as one ONNX graph with a cache, in the names that ONNX runtimes share:

    input_ids (batch, sequence), attention_mask (batch, past + sequence), position_ids (batch, sequence),
    past_key_values.I.key and .value (batch, heads, past, width)
    -> logits (batch, sequence, vocabulary), present.I.key and .value (batch, heads, past + sequence, width)

transformers traces the model (``transformers.exporters``). Weights that 16 bits hold exactly are stored so,
and ONNX Runtime makes float32 of them when it loads the graph.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from jointsearch.errors import UnsupportedError, first_line

GRAPH = "model.onnx"

SMALLEST_BYTES = 4096
"""Of a weight that is worth a node of its own."""

_CACHE = re.compile(r"^(input\.|output\.)?past_key_values\.layers\.(\d+)\.(key|value)s$")


def save_graph(model: Any, folder: Path, dtype: torch.dtype) -> None:
    """Trace ``model``, a causal language model in float32, and write its graph into ``folder``.

    ``dtype`` is the model's 16-bit type. Raises ``UnsupportedError`` where the model cannot be traced, or
    keeps something else than keys and values.
    """
    import onnx_ir

    try:
        program = _traced(model)
    except Exception as error:  # whatever tracing meets in the code of a family
        raise UnsupportedError(
            f"{type(model).__name__} cannot be traced for ONNX: {first_line(error)}; use --to merged"
        ) from error
    graph = program.graph
    for values, cache in ((graph.inputs, "past_key_values"), (graph.outputs, "present")):
        for value in values:
            value.name = _shared_name(value.name, cache)
            _name_dimensions(value)
    names = {value.name for value in graph.inputs} - {"input_ids", "attention_mask", "position_ids"}
    if other := sorted(name for name in names if not name.startswith("past_key_values.")):
        raise UnsupportedError(
            f"onnx has models that keep keys and values alone, but {type(model).__name__} takes {other[0]}; "
            "use --to merged"
        )
    _without_origins(program)
    _store_in_16_bits(graph, dtype)
    onnx_ir.save(program, str(folder / GRAPH), external_data=f"{GRAPH}.data")


def _traced(model: Any) -> Any:
    """The graph of a step of the model that takes many tokens or one, after a cache that may be empty."""
    from transformers import DynamicCache
    from transformers.exporters.configs import OnnxConfig
    from transformers.exporters.exporter_dynamo import (
        get_auto_dynamic_shapes,
        register_cache_pytrees_for_model,
    )
    from transformers.exporters.exporter_onnx import OnnxExporter
    from transformers.exporters.utils import decompose_prefill_decode

    prompts = torch.arange(14).view(2, 7) % model.config.get_text_config().vocab_size
    mask = torch.ones_like(prompts)
    mask[0, :3] = 0  # without padding the mask would be left out
    with _quiet(), torch.no_grad():
        # one that keeps all: a window of the last tokens is the mask's affair, and not the cache's
        given = {"input_ids": prompts, "attention_mask": mask, "past_key_values": DynamicCache()}
        steps = decompose_prefill_decode(model, given, multi_token_decode=True)
        step, given = steps["decode"]
        inputs = {name: value for name, value in given.items() if not isinstance(value, bool)}
        register_cache_pytrees_for_model(step)
        shapes = {name: _varying(shape) for name, shape in get_auto_dynamic_shapes(inputs).items()}
        config = OnnxConfig(dynamic=True, dynamic_shapes=shapes)
        return OnnxExporter().export(step, inputs, config).program


def _varying(shapes: Any) -> Any:
    """Of the sizes that could vary those that do: batch and tokens, but not heads and widths of a cache."""
    if isinstance(shapes, list | tuple):
        return type(shapes)(_varying(shape) for shape in shapes)
    if isinstance(shapes, dict) and len(shapes) == 4:
        return {at: size for at, size in shapes.items() if at in (0, 2)}
    return shapes


def _shared_name(name: str, cache: str) -> str:
    """As other exporters and ONNX runtimes call it."""
    found = _CACHE.match(name)
    return f"{cache}.{found[2]}.{found[3]}" if found else name


def _name_dimensions(value: Any) -> None:
    """The names of what varies, and numbers for what does not."""
    import onnx_ir

    names: dict[int, str] = {0: "batch_size", 1: "sequence_length"}
    if value.name == "attention_mask":
        names = {0: "batch_size", 1: "total_sequence_length"}
    elif value.name.startswith("past"):
        names = {0: "batch_size", 2: "past_sequence_length"}
    elif value.name.startswith("present"):
        names = {0: "batch_size", 2: "total_sequence_length"}
    sizes = []
    for at, size in enumerate(value.shape):
        text = str(getattr(size, "value", size))
        sizes.append(int(text) if text.isdecimal() else names.get(at, text))
    value.shape = onnx_ir.Shape(sizes)


def _without_origins(program: Any) -> None:
    """Leave out of which lines of which files on this machine a node was made."""
    program.metadata_props.clear()
    for graph in program.graphs():
        graph.metadata_props.clear()
        for node in graph:
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()


def _store_in_16_bits(graph: Any, dtype: torch.dtype) -> None:
    """Replace float32 weights that have the values of ``dtype`` by those and a cast."""
    import onnx_ir
    from onnx_ir.tensor_adapters import TorchTensor

    for name, value in list(graph.initializers.items()):
        if value.dtype != onnx_ir.DataType.FLOAT or value.const_value.nbytes < SMALLEST_BYTES:
            continue
        weight = torch.from_numpy(value.const_value.numpy().copy())
        small = weight.to(dtype)
        if not torch.equal(small.float(), weight):
            continue
        del graph.initializers[name]
        tensor = TorchTensor(small, name=name)
        stored = onnx_ir.Value(
            name=name, shape=value.shape, type=onnx_ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.initializers[name] = stored
        cast = onnx_ir.node("Cast", [stored], {"to": int(onnx_ir.DataType.FLOAT)})
        cast.outputs[0].name = value.name = f"{name}_float32"
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        value.replace_all_uses_with(cast.outputs[0])
        graph.insert_before(graph[0], cast)


@contextmanager
def _quiet() -> Iterator[None]:
    """torch.onnx prints and logs as it goes; what fails still raises."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
