"""Modules that share one weight: token embeddings, the heads tied to them, T5's three embeddings."""

from __future__ import annotations

from collections import defaultdict

from torch import nn
from transformers import PreTrainedModel

WEIGHT = ".weight"


def tied_modules(model: PreTrainedModel) -> dict[str, tuple[str, ...]]:
    """By the module that a checkpoint stores the weight under: the other modules that use it."""
    tied: defaultdict[str, list[str]] = defaultdict(list)
    for target, source in model.all_tied_weights_keys.items():
        if target.endswith(WEIGHT) and source.endswith(WEIGHT):
            tied[source.removesuffix(WEIGHT)].append(target.removesuffix(WEIGHT))
    return {source: tuple(sorted(targets)) for source, targets in tied.items()}


def trim_bias(module: nn.Module) -> None:
    """Undo what tying does to the bias of a quantized head.

    ``PreTrainedModel.tie_weights`` pads a tied head's bias to the rows of its weight, and a packed
    weight has other rows than outputs.
    """
    bias = getattr(module, "bias", None)
    if bias is not None and bias.shape[0] != module.out_features:
        bias.data = bias.data[: module.out_features].clone()  # in place: the bias may be tied too
