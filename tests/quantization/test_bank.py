"""The bank: shared tensors, separate structures, the errors of bitsandbytes' own formats."""

from __future__ import annotations

from pathlib import Path

import bitsandbytes as bnb
import pytest
import torch

from jointsearch.config.study import ModelSettings
from jointsearch.plan.formats import QuantizationSettings
from jointsearch.quantization.bank import QuantizedBank
from jointsearch.quantization.formats.base import empty_module, fill, implementation_of, quantized
from jointsearch.quantization.formats.int8 import Embedding8bit
from jointsearch.quantization.formats.nf4 import Embedding4bit, dequantize
from jointsearch.training.model.base_model import load_base

CPU = torch.device("cpu")
HEAD = "model.embed_tokens"
QUERY = "model.layers.0.self_attn.q_proj"
IDS = torch.arange(1, 33).view(2, 16)


@pytest.fixture(scope="module")
def bank(family_folder: Path) -> QuantizedBank:
    settings = ModelSettings(id=str(family_folder / "llama"))
    base = load_base(settings, "causal-lm", "bfloat16", CPU)
    return QuantizedBank(base, QuantizationSettings(), torch.bfloat16)


def test_models_share_tensors_but_not_structure(bank: QuantizedBank) -> None:
    first, second = bank.assemble({QUERY: "nf4"}), bank.assemble({QUERY: "nf4"})
    assert first.get_submodule(QUERY) is second.get_submodule(QUERY)
    assert first.model.norm is not second.model.norm
    assert first.model.norm.weight is second.model.norm.weight


def test_a_module_is_quantized_once_per_format(bank: QuantizedBank, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def count(*arguments: object) -> dict[str, torch.Tensor]:
        calls.append(1)
        return quantized(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("jointsearch.quantization.bank.quantized", count)
    name = "model.layers.1.mlp.up_proj"
    for weight_format in ("nf4", "int8", "nf4", "int8", "nf4"):
        bank.assemble({name: weight_format})
    assert len(calls) == 2


@pytest.mark.parametrize("weight_format", ["nf4", "int8"])
def test_a_tied_head_shares_the_quantized_embedding(bank: QuantizedBank, weight_format: str) -> None:
    model = bank.assemble({HEAD: weight_format}).eval()
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with torch.no_grad():
        first = model(IDS).logits
        again = model(IDS).logits  # the head has taken the scales of int8 by now
    assert torch.equal(first, again)


def test_training_after_evaluation_works_and_leaves_the_weight_alone(bank: QuantizedBank) -> None:
    model = bank.assemble({QUERY: "nf4"})
    before = model.get_submodule(QUERY).weight.data.clone()
    model.eval()
    with torch.no_grad():
        model(IDS)
    model.train()
    embedded = model.model.embed_tokens(IDS).detach().requires_grad_()
    model(inputs_embeds=embedded, labels=IDS).loss.backward()
    assert embedded.grad is not None
    assert embedded.grad.abs().sum() > 0
    assert torch.equal(model.get_submodule(QUERY).weight.data, before)


def by_hand(weight: bnb.nn.Params4bit) -> torch.Tensor:
    """An NF4 weight dequantized nibble by nibble: code[nibble] times the scale of its 64 weights."""
    state = weight.quant_state
    scales = state.absmax
    if state.nested:
        nested = state.state2
        scales = nested.code[scales.long()] * nested.absmax.repeat_interleave(256)[: len(scales)]
        scales = scales + state.offset
    nibbles = torch.stack([weight.data.flatten() >> 4, weight.data.flatten() & 15], dim=1).flatten().long()
    values = state.code[nibbles] * scales.repeat_interleave(64)[: len(nibbles)]
    return values[: state.shape.numel()].view(state.shape)


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("width", [64, 96])
def test_embedding_4bit_looks_up_its_rows(width: int, double_quant: bool) -> None:
    torch.manual_seed(0)
    original = torch.nn.Embedding(40, width)
    settings = QuantizationSettings(double_quant=double_quant)
    module = empty_module(original, "nf4", settings, torch.float32)
    assert isinstance(module, Embedding4bit)
    fill(module, quantized(module, original.weight.data, torch.bfloat16))
    rows = by_hand(module.weight)
    ids = torch.tensor([[0, 39, 7], [7, 1, 2]])
    assert torch.allclose(module(ids), rows[ids], atol=1e-6)
    relative = (rows - original.weight.data).norm() / original.weight.data.norm()
    assert 0.05 < relative < 0.12  # NF4's error on a normal distribution is about 9 %


@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("shape", [(64, 128), (64, 96), (128, 352), (64, 32), (5, 200), (3, 7)])
def test_linear_4bit_multiplies_by_its_weight(shape: tuple[int, int], double_quant: bool) -> None:
    """bitsandbytes' own layer does not where in_features is no multiple of 64."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(shape[1], shape[0])
    module = empty_module(linear, "nf4", QuantizationSettings(double_quant=double_quant), torch.float32)
    fill(module, quantized(module, linear.weight.data, torch.bfloat16))
    module.bias = linear.bias
    expected = by_hand(module.weight)
    assert torch.allclose(dequantize(module.weight), expected, atol=1e-6)
    inputs = torch.randn(4, shape[1], requires_grad=True)
    for mode in (True, False):
        outputs = module.train(mode)(inputs)
        assert torch.allclose(outputs, inputs @ expected.T + linear.bias, atol=1e-4)
    (gradient,) = torch.autograd.grad(outputs.sum(), inputs)
    assert torch.allclose(gradient, expected.sum(dim=0).expand_as(gradient), atol=1e-4)


def test_embedding_8bit_looks_up_its_rows(bank: QuantizedBank) -> None:
    torch.manual_seed(0)
    original = torch.nn.Embedding(40, 64)
    module = empty_module(original, "int8", QuantizationSettings(), torch.float32)
    assert isinstance(module, Embedding8bit)
    fill(module, quantized(module, original.weight.data, torch.float16))
    halves = original.weight.data.half().float()
    largest = halves.abs().amax(dim=1, keepdim=True)
    steps = halves * 127 / largest
    ids = torch.tensor([3, 0, 39])
    assert (module.weight.data - steps).abs().max() < 0.51  # bitsandbytes rounds to the nearest step
    assert torch.allclose(module(ids), (module.weight.data.float() * largest / 127)[ids], rtol=1e-6, atol=0)
    # a row's largest weight is 127 steps: it comes back as it was
    assert torch.allclose(module(ids).abs().amax(dim=1), largest[ids, 0], rtol=1e-6)
    assert torch.equal(implementation_of("int8").dequantize(module)[ids], module(ids))


def test_linear_8bit_multiplies_by_its_weight() -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(96, 40, bias=False)
    module = empty_module(linear, "int8", QuantizationSettings(), torch.float32).train()
    fill(module, quantized(module, linear.weight.data, torch.float16))
    halves = linear.weight.data.half().float()
    largest = halves.abs().amax(dim=1, keepdim=True)
    expected = module.weight.data.float() * largest / 127
    assert (expected - halves).abs().max() < 0.51 * largest.max() / 127
    assert torch.allclose(implementation_of("int8").dequantize(module), expected, rtol=1e-6, atol=0)
    inputs = torch.randn(4, 96)
    error = (module(inputs) - inputs @ expected.T).norm() / (inputs @ expected.T).norm()
    assert error < 2e-3  # on a CPU the layer computes in float16


def test_linear_formats_have_the_errors_of_their_bits(bank: QuantizedBank) -> None:
    torch.manual_seed(0)
    linear = torch.nn.Linear(256, 128, bias=False)
    inputs = torch.randn(64, 256)
    errors = {}
    for name in ("nf4", "int8"):
        module = empty_module(linear, name, QuantizationSettings(), torch.float32).train()
        fill(module, quantized(module, linear.weight.data, torch.bfloat16))
        errors[name] = ((module(inputs) - linear(inputs)).norm() / linear(inputs).norm()).item()
    assert 0.05 < errors["nf4"] < 0.12
    assert 0.002 < errors["int8"] < 0.012
