"""GGUF's Q8_0: blocks of 32 weights of a row, a float16 scale d and 32 bytes q.

    w = q · d        d = max |w| of the block / 127

(ggml's ``quantize_row_q8_0_ref``, ggml-quants.c; q is rounded by d before that becomes float16, halves away
from zero.) The bytes are those of a GGUF file; a row that is no multiple of 32 long is filled up with zeros.
"""

from __future__ import annotations

import torch

from jointsearch.plan.formats import GGUF_BLOCK
from jointsearch.quantization.formats.rows import RowFormat, in_groups


class Q80(RowFormat):
    def encode(self, weight: torch.Tensor) -> dict[str, torch.Tensor]:
        blocks = in_groups(weight, GGUF_BLOCK)
        d = blocks.abs().amax(2, keepdim=True) / 127
        scaled = blocks * torch.where(d == 0, 0, 1 / d)
        numbers = scaled.sign() * (scaled.abs() + 0.5).floor()
        parts = [d.half().view(torch.uint8), numbers.to(torch.int8).view(torch.uint8)]
        return {"weight": torch.cat(parts, 2).flatten(1)}

    def decode(self, stored: tuple[torch.Tensor, ...], columns: int) -> torch.Tensor:
        blocks = stored[0].unflatten(-1, (-1, 2 + GGUF_BLOCK))
        d = blocks[..., :2].contiguous().view(torch.float16).float()
        numbers = blocks[..., 2:].contiguous().view(torch.int8).float()
        return (numbers * d).flatten(-2)[..., :columns]


Q8_0 = Q80()
