"""Where a model has the modules of its layout, and which tensors they hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from jointsearch.plan.layout import ModelLayout


@dataclass(frozen=True)
class Place:
    """Where the forward pass meets one of the layout's modules."""

    names: tuple[str, ...]
    """Of the module in the layout; of experts, those of all their weights."""
    module: nn.Module
    base: nn.Module
    """What multiplies by the frozen weight: below the adapter, where there is one."""
    is_head: bool
    trained: bool


def places_of(model: nn.Module, layout: ModelLayout) -> list[Place]:
    """In the order of the layout."""
    root = model.base_model.model if isinstance(model, PeftModel) else model
    named = dict(root.named_modules())
    found: dict[str, Place] = {}
    for spec in layout.modules:
        for path in (spec.name, *spec.tied):
            if path not in named:  # a weight of experts
                path = path.rpartition(".")[0]
            names = (*found[path].names, spec.name) if path in found else (spec.name,)
            module = base = named[path]
            while isinstance(getattr(base, "base_layer", None), nn.Module):
                base = base.base_layer
            is_head = not spec.block and not isinstance(base, nn.Embedding)
            found[path] = Place(names, module, base, is_head, spec.trained)
    return list(found.values())


def tensors_of(value: Any, visited: set[int] | None = None) -> Iterable[torch.Tensor]:
    """The tensors that an object holds, however deep."""
    visited = set() if visited is None else visited
    if id(value) in visited:
        return
    visited.add(id(value))
    if isinstance(value, torch.Tensor):
        yield value
    inner: Iterable[Any] = ()
    if isinstance(value, dict):
        inner = value.values()
    elif isinstance(value, list | tuple):
        inner = value
    elif isinstance(value, nn.Module) or (hasattr(value, "__dict__") and not callable(value)):
        inner = vars(value).values()
    for each in inner:
        yield from tensors_of(each, visited)
