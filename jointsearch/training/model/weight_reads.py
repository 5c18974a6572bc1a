"""Weights that a model reads beside its modules' ``forward``: what a quantized module cannot give.

DeBERTa normalizes its table of relative positions, Mamba multiplies by the weight of ``dt_proj`` itself,
Mamba2 and T5's relatives cast hidden states to a weight's type. A module in 4 or 8 bits has packed numbers
there: at best an error, at worst a wrong result without a word. Such reads are found by running the model
once on the meta device, which needs no weights, while the modules' weights watch who reads them.
"""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

NUM_TOKENS = 24
NUM_LAYERS = 2

_HARMLESS = ("device", "shape", "ndim", "requires_grad", "is_meta", "size", "dim", "numel")
"""What of a weight is the same, or means as much, where it is quantized."""

Reads = dict[str, set[str]]
"""By the name of a module: what is read of its weight."""

_log = logging.getLogger(__name__)


def weights_read(
    make: Callable[[PreTrainedConfig], PreTrainedModel], config: PreTrainedConfig, names: Sequence[str]
) -> Reads:
    """What the model that ``make`` makes reads of its modules' weights while none of their ``forward`` runs.

    Where it does not run to its end on the meta device, one of a few layers runs on the CPU; what it reads
    in a layer holds for all layers.
    """
    with torch.device("meta"):
        reads, is_whole = _reads_of(make(copy.deepcopy(config)))
    if not is_whole:
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            try:
                further, _ = _reads_of(make(_of_few_layers(config)))
            except (ValueError, TypeError, RuntimeError) as error:  # no such model can be made
                _log.debug("no small %s: %s", config.model_type, error)
                further = {}
        by_pattern: Reads = {}
        for name, found in (*reads.items(), *further.items()):
            by_pattern.setdefault(_pattern(name), set()).update(found)
        reads = {name: by_pattern[_pattern(name)] for name in names if _pattern(name) in by_pattern}
    return {name: found for name, found in reads.items() if found and name in set(names)}


def _pattern(name: str) -> str:
    """The same for the modules of all layers, and of all experts."""
    return re.sub(r"\d+", "*", name)


def _of_few_layers(config: PreTrainedConfig) -> PreTrainedConfig:
    small = copy.deepcopy(config)
    for name in ("num_hidden_layers", "num_layers", "n_layer", "n_layers", "num_decoder_layers"):
        if isinstance(getattr(small, name, None), int):
            setattr(small, name, min(NUM_LAYERS, getattr(small, name)))
    return small


def _reads_of(model: PreTrainedModel) -> tuple[Reads, bool]:
    """What was read, and whether the model ran to its end."""
    reads: Reads = {}
    device = next(model.parameters()).device
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Linear | nn.Embedding | Conv1D):
            _watch(name, module, reads)
        elif (
            any(parameter.dim() > 2 for parameter in module.parameters(recurse=False))
            and device.type == "meta"
        ):
            module.forward = _as_wide  # fused experts choose by values
    ids = torch.zeros((2, NUM_TOKENS), dtype=torch.long, device=device)
    inputs = {"input_ids": ids}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = ids[:, : NUM_TOKENS // 2]
    try:
        with torch.no_grad(), _Guesses() if device.type == "meta" else nullcontext():
            model.eval()(**inputs)
            model.config.use_cache = False  # as in training; FSMT makes a mask then alone
            model.train()(**inputs)  # Gemma 3n clamps a weight there alone
    except Exception as error:
        _log.debug("%s does not run on %s: %s", type(model).__name__, device, error)
        return reads, False
    return reads, True


def _as_wide(hidden_states: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
    return torch.zeros_like(hidden_states)


def _watch(name: str, module: nn.Module, reads: Reads) -> None:
    """Give the module a ``weight`` that tells of what is read from it outside of ``forward``."""
    kind = type(module)
    running = 0

    def forward(*args: Any, **kwargs: Any) -> Any:
        nonlocal running
        running += 1
        try:
            return kind.forward(module, *args, **kwargs)
        finally:
            running -= 1

    def weight(self: nn.Module) -> torch.Tensor:
        plain: torch.Tensor = self._parameters["weight"]
        if running:
            return plain
        watched: torch.Tensor = plain.detach().as_subclass(_Watched)
        watched.seen = reads.setdefault(name, set())
        return watched

    module.forward = forward
    module.__class__ = type(kind.__name__, (kind,), {"weight": property(weight)})


class _Watched(torch.Tensor):
    """A weight that notes down what is done with it."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":
            name = getattr(func.__self__, "__name__", "")
        for argument in args:
            if isinstance(argument, _Watched) and name not in _HARMLESS:
                argument.seen.add(name)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


class _Guesses(TorchDispatchMode):
    """Goes on where a model asks for values, which the meta device does not have."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default:
            return torch.ones((), dtype=args[0].dtype).item()
        if func is torch.ops.aten.nonzero.default:
            return torch.zeros((1, args[0].dim()), dtype=torch.long, device="meta")
        return func(*args, **(kwargs or {}))
