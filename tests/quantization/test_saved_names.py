"""Checkpoints that have other tensors than their models: what is quantized keeps the model's names."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, NomicBertConfig

from jointsearch.quantization.in_place import quantize_in_place
from jointsearch.quantization.plugin import JointSearchConfig
from jointsearch.training.model.architecture import layout_of


def test_weights_that_a_checkpoint_joins_stay_apart(tmp_path: Path) -> None:
    """NomicBERT's checkpoints have one matrix for queries, keys and values."""
    torch.manual_seed(0)
    config = NomicBertConfig(
        vocab_size=96, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128
    )
    model = AutoModelForSequenceClassification.from_config(config).eval()
    model.save_pretrained(tmp_path / "base")
    assert any("Wqkv" in name for name in load_file(tmp_path / "base" / "model.safetensors"))
    blocks = [spec for spec in layout_of(model, "bfloat16").modules if spec.block]
    formats = {spec.name: ("nf4", "int8")[i % 2] for i, spec in enumerate(blocks)}
    kind, ids = AutoModelForSequenceClassification, torch.arange(24)[None]

    in_place = quantize_in_place(kind.from_pretrained(tmp_path / "base"), JointSearchConfig(formats)).eval()
    loaded = kind.from_pretrained(
        tmp_path / "base", quantization_config=JointSearchConfig(formats), device_map={"": "cpu"}
    )
    expected = in_place(ids).logits
    assert torch.equal(loaded.eval()(ids).logits, expected)
    for number, quantized in enumerate((in_place, loaded)):
        quantized.save_pretrained(tmp_path / str(number))
        again = kind.from_pretrained(tmp_path / str(number)).eval()
        assert torch.equal(again(ids).logits, expected)
