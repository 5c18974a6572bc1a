"""Copies through two small buffers: of every size, in pieces, and never into a buffer that is still sent."""

from __future__ import annotations

import pytest
import torch

from jointsearch.quantization.staging import Staging

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    tensor = torch.arange(10)
    assert Staging(CPU)(tensor) is tensor


class Sent:
    """A CUDA event, which is waited for before its buffer is filled anew."""

    def __init__(self, number: int, log: list[tuple[str, int]]) -> None:
        self._number, self._log = number, log

    def synchronize(self) -> None:
        self._log.append(("waited", self._number))

    def record(self, stream: object) -> None:
        self._log.append(("sent", self._number))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.randn(5, 7),
        torch.randn(3, 4).bfloat16().T,
        torch.arange(16, dtype=torch.uint8),
        torch.tensor(2.5),
        torch.zeros(0, 3),
    ],
)
def test_pieces_become_the_same_tensor(tensor: torch.Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: None)
    log: list[tuple[str, int]] = []
    staging = Staging(CPU)
    staging._buffers = [torch.empty(16, dtype=torch.uint8) for _ in range(2)]
    staging._sent = [Sent(number, log) for number in range(2)]  # type: ignore[misc]
    copied = staging(tensor)
    assert copied.dtype == tensor.dtype
    assert torch.equal(copied, tensor)
    num_pieces = -(-tensor.numel() * tensor.element_size() // 16)
    assert log == [(what, i % 2) for i in range(num_pieces) for what in ("waited", "sent")]
