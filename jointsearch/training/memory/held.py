"""The bytes that modules hold, and those of the key-value cache of a model that writes."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel

from jointsearch.training.model.places import tensors_of


def resident_bytes(module: nn.Module, seen: set[int], trained: set[int]) -> int:
    """Of the storages that a module holds and that were not ``seen``: parameters, buffers, scales."""
    total = 0
    for tensor in tensors_of(module):
        storage = tensor.untyped_storage()
        if not tensor.is_meta and storage._cdata not in seen and id(tensor) not in trained:
            seen.add(storage._cdata)
            total += storage.nbytes()
    return total


def cache_bytes(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[int, float]:
    """Of one sequence in 16 bits: what its key-value cache has anyway, and what each token adds."""
    if not model.can_generate():
        return 0, 0.0
    sizes = []
    whole = batch["input_ids"].shape[1]
    for length in (whole, whole // 2):
        given = {"input_ids": batch["input_ids"][:1, :length]}
        if model.config.is_encoder_decoder:
            given["decoder_input_ids"] = given["input_ids"]
        with torch.no_grad():
            cache = model(**given, use_cache=True).past_key_values
        tensors = {t.untyped_storage()._cdata: t for t in tensors_of(cache) if t.is_floating_point()}
        sizes.append(2 * sum(tensor.numel() for tensor in tensors.values()))
    per_token = (sizes[0] - sizes[1]) / (whole - whole // 2)
    return round(sizes[0] - per_token * whole), per_token
