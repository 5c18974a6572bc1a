"""GGUF's Q4_0: blocks of 32 weights of a row, a float16 scale d and 16 bytes of two 4-bit numbers q each.

    w = (q - 8) · d        d = the weight of the block that is largest in magnitude, with its sign / -8

(ggml's ``quantize_row_q4_0_ref``, ggml-quants.c; q is rounded by d before that becomes float16. Product and
sum are rounded apart, as in ``gguf.quants``, whose bytes these are: ggml's own depend on whether a compiler
fuses them.) The first half of a block lies in the low bits. A row that is no multiple
of 32 long is filled up with zeros.
"""

from __future__ import annotations

import torch

from jointsearch.plan.formats import GGUF_BLOCK
from jointsearch.quantization.formats.rows import RowFormat, in_groups


class Q40(RowFormat):
    def encode(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        blocks = in_groups(weight, GGUF_BLOCK)
        largest = blocks.abs().argmax(2, keepdim=True)  # of equal ones the first
        d = blocks.gather(2, largest) / -8
        scaled = blocks * torch.where(d == 0, 0, 1 / d) + 8.5
        first, second = scaled.trunc().clamp(0, 15).to(torch.uint8).chunk(2, 2)
        return {"weight": torch.cat([d.half().view(torch.uint8), first | second << 4], 2).flatten(1)}

    def decode(self, stored: tuple[torch.Tensor, ...], columns: int) -> torch.Tensor:
        blocks = stored[0].unflatten(-1, (-1, 2 + GGUF_BLOCK // 2))
        d = blocks[..., :2].contiguous().view(torch.float16).float()
        numbers = torch.cat([blocks[..., 2:] & 15, blocks[..., 2:] >> 4], -1).float() - 8
        return (numbers * d).flatten(-2)[..., :columns]


Q4_0 = Q40()
