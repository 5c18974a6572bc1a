"""Copies memory-mapped tensors to a device."""

from __future__ import annotations

import logging

import torch

BUFFER_BYTES = 32 << 20

_log = logging.getLogger(__name__)


class Staging:
    """To a CUDA device through two pinned buffers, one filled while the other is sent.

    What is not pinned is sent about half as fast. Where no memory can be pinned, and to other devices, torch
    copies; on the CPU the mapped tensor itself is used.
    """

    def __init__(self, device: torch.device, buffer_bytes: int = BUFFER_BYTES) -> None:
        self._device = device
        self._buffers: list[torch.Tensor] = []
        self._sent: list[torch.cuda.Event] = []
        if device.type == "cuda":
            try:
                self._buffers = [
                    torch.empty(buffer_bytes, dtype=torch.uint8, pin_memory=True) for _ in range(2)
                ]
                self._sent = [torch.cuda.Event() for _ in range(2)]
            except RuntimeError:
                self._buffers = []
                _log.info("no memory can be pinned here: weights are copied to the GPU more slowly")

    def __call__(self, tensor: torch.Tensor) -> torch.Tensor:
        if not self._buffers:
            return tensor.to(self._device)
        result = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        if tensor.numel():
            self._send(_as_bytes(tensor), _as_bytes(result))
        return result

    def _send(self, source: torch.Tensor, target: torch.Tensor) -> None:
        size = self._buffers[0].numel()
        for i, begin in enumerate(range(0, source.numel(), size)):
            part = source[begin : begin + size]
            self._sent[i % 2].synchronize()  # what the buffer held has arrived
            buffer = self._buffers[i % 2][: part.numel()]
            buffer.copy_(part)
            target[begin : begin + size].copy_(buffer, non_blocking=True)
            self._sent[i % 2].record(torch.cuda.current_stream(self._device))


def _as_bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)
