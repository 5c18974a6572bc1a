"""Activations in the host's memory: copied there in the forward pass, and back when they are needed.

torch's ``save_on_cpu`` moves all that autograd saves, frozen weights among it, again at every use. Here
weights and buffers stay, as does what is small, and what several operations save is copied once.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

SMALL_BYTES = 1 << 16
"""Tensors of fewer bytes stay on the device: a copy costs more than they take."""


@dataclass(frozen=True)
class Offloaded:
    """A tensor that is elsewhere."""

    copy: Any
    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device


class OffloadedActivations(saved_tensors_hooks):
    """The context of one forward pass of ``model``, whose backward pass may come after it."""

    def __init__(self, model: nn.Module) -> None:
        held = (*model.parameters(), *model.buffers())
        self._held = {tensor.untyped_storage()._cdata for tensor in held}
        self._copies: dict[tuple[Any, ...], tuple[weakref.ref[Any], Offloaded]] = {}
        super().__init__(self.pack, self.unpack)

    def moves(self, tensor: torch.Tensor) -> bool:
        """Whether it is on a device that has too little room."""
        return tensor.is_cuda

    def to_host(self, tensor: torch.Tensor) -> Any:
        return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)

    def to_device(self, offloaded: Offloaded) -> torch.Tensor:
        copy: torch.Tensor = offloaded.copy.to(offloaded.device, non_blocking=True)
        return copy

    def pack(self, tensor: torch.Tensor) -> Any:
        storage = tensor.untyped_storage()
        is_activation = type(tensor) is torch.Tensor and storage._cdata not in self._held
        if not is_activation or tensor.nbytes < SMALL_BYTES or not self.moves(tensor):
            return tensor
        key = storage._cdata, tensor._version, tensor.storage_offset(), tensor.shape, tensor.stride()
        known = self._copies.get(key)
        if known is not None and known[0]() is storage:  # addresses are used again
            return known[1]
        offloaded = Offloaded(
            self.to_host(tensor.detach()), tensor.shape, tensor.stride(), tensor.dtype, tensor.device
        )
        self._copies[key] = weakref.ref(storage), offloaded
        return offloaded

    def unpack(self, packed: Any) -> torch.Tensor:
        return self.to_device(packed) if isinstance(packed, Offloaded) else packed

    def __exit__(self, *error: object) -> None:
        self._copies.clear()  # the graph alone holds them now
        super().__exit__(*error)
