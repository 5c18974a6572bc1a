"""Which subclasses of linear layers and embeddings can be replaced, and by what."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers.models.bart.modeling_bart import BartLearnedPositionalEmbedding, BartScaledWordEmbedding
from transformers.models.falcon.modeling_falcon import FalconLinear
from transformers.models.gemma3.modeling_gemma3 import Gemma3TextScaledWordEmbedding
from transformers.models.llama4.modeling_llama4 import Llama4Router, Llama4TextConfig

from jointsearch.plan.formats import QuantizationSettings
from jointsearch.quantization.formats.base import (
    embedding_scale,
    empty_module,
    fill,
    is_linear,
    matrix_of,
    quantized,
)


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Named(nn.Linear):
    """Another name alone."""


def test_layers_that_only_multiply_are_linear() -> None:
    assert is_linear(FalconLinear(4, 3))
    assert is_linear(Named(4, 3))
    assert not is_linear(Doubled(4, 3))
    router = Llama4Router(Llama4TextConfig(hidden_size=8, num_local_experts=2, num_hidden_layers=1))
    assert not is_linear(router)
    assert not is_linear(nn.Conv1d(4, 3, 1))


def test_embeddings_say_what_they_multiply_by() -> None:
    assert embedding_scale(nn.Embedding(4, 3)) == 1.0
    assert embedding_scale(BartScaledWordEmbedding(4, 3, 0, embed_scale=8.0)) == 8.0
    with torch.device("meta"):  # where buffers have no values
        assert embedding_scale(Gemma3TextScaledWordEmbedding(4, 3, 0, embed_scale=1.5)) == 1.5
    assert embedding_scale(BartLearnedPositionalEmbedding(4, 3)) is None
    assert embedding_scale(nn.Linear(4, 3)) is None


@pytest.mark.parametrize("weight_format", ["nf4", "int8"])
@pytest.mark.parametrize("kind", [BartScaledWordEmbedding, Gemma3TextScaledWordEmbedding])
def test_a_scaled_embedding_is_scaled_in_every_format(kind: Any, weight_format: str) -> None:
    torch.manual_seed(0)
    original = kind(16, 64, 0, embed_scale=6.5)
    module = empty_module(original, weight_format, QuantizationSettings(), torch.float32)
    fill(module, quantized(module, original.weight.data, torch.bfloat16))
    ids = torch.tensor([[3, 0, 15], [1, 1, 7]])
    original.weight.data = matrix_of(module)
    assert torch.allclose(module(ids), original(ids), atol=1e-5)
