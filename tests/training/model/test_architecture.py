"""Layouts of every family, against the real model's tensors and names written down by hand."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, MixtralConfig, PreTrainedModel

from jointsearch.config.study import ModelSettings
from jointsearch.errors import ModelError
from jointsearch.plan.layout import ModelLayout, Part
from jointsearch.training.model.architecture import layout_of, model_class, read_layout


def layout(folder: Path, name: str, task: str) -> ModelLayout:
    return read_layout(ModelSettings(id=str(folder / name)), task)


def parts(layout: ModelLayout) -> dict[str, int]:
    return dict(Counter(spec.part.value for spec in layout.modules))


def test_every_parameter_is_counted_once(family: tuple[ModelSettings, str]) -> None:
    settings, task = family
    model: PreTrainedModel = model_class(task).from_pretrained(settings.id)
    assert read_layout(settings, task).num_parameters == model.num_parameters()


def test_llama(family_folder: Path) -> None:
    llama = layout(family_folder, "llama", "causal-lm")
    assert parts(llama) == {"embedding": 1, "attention": 2 * 4, "mlp": 2 * 3}
    assert llama["model.embed_tokens"].tied == ("lm_head",)
    assert llama["model.layers.1.self_attn.k_proj"].shape == (32, 64)
    assert llama["model.layers.1.self_attn.k_proj"].block == "layers.1"
    assert llama.other_parameters == (2 * 2 + 1) * 64  # two norms a block, and the last
    assert llama.other_bytes == 2 * llama.other_parameters
    assert llama.left_out == {}


def test_an_untied_head_is_a_module_of_its_own(family_folder: Path) -> None:
    qwen = layout(family_folder, "qwen2", "causal-lm")
    assert qwen["lm_head"].part is Part.HEAD
    assert not qwen["lm_head"].adaptable
    assert qwen["lm_head"].quantizable
    assert qwen["model.embed_tokens"].tied == ()
    assert qwen["model.layers.0.self_attn.q_proj"].has_bias


def test_gpt2_conv1d_has_its_shape_turned(family_folder: Path) -> None:
    gpt2 = layout(family_folder, "gpt2", "causal-lm")
    assert parts(gpt2) == {"embedding": 2, "attention": 2 * 2, "mlp": 2 * 2}
    spec = gpt2["transformer.h.0.attn.c_attn"]
    assert (spec.kind, spec.shape, spec.has_bias) == ("conv1d", (192, 64), True)


def test_bert_classifier_is_trained_and_pooler_is_not(family_folder: Path) -> None:
    bert = layout(family_folder, "bert", "sequence-classification")
    assert parts(bert) == {"embedding": 3, "attention": 2 * 4, "mlp": 2 * 2, "head": 2}
    assert bert["classifier"].trained
    assert not bert["classifier"].quantizable
    assert not bert["bert.pooler.dense"].trained
    distilbert = layout(family_folder, "distilbert", "sequence-classification")
    assert [s.name for s in distilbert.modules if s.trained] == ["pre_classifier", "classifier"]


def test_t5_keeps_encoder_decoder_and_cross_attention_apart(family_folder: Path) -> None:
    t5 = layout(family_folder, "t5", "seq2seq-lm")
    assert parts(t5) == {"embedding": 1, "attention": 4 * 4, "cross-attention": 2 * 4, "mlp": 4 * 2}
    assert t5["shared"].tied == ("decoder.embed_tokens", "encoder.embed_tokens", "lm_head")
    cross = t5["decoder.block.1.layer.1.EncDecAttention.v"]
    assert (cross.block, cross.part) == ("decoder.block.1", Part.CROSS_ATTENTION)
    kept = [name for name in t5.left_out if name.endswith(".wo")]
    assert len(kept) == 4
    biases = [name for name in t5.left_out if name.endswith(".relative_attention_bias")]
    assert len(t5.left_out) == len(kept) + len(biases) == 4 + 2
    assert not t5[kept[0]].quantizable
    assert t5[kept[0]].adaptable


def test_fused_experts_are_two_modules_of_their_layer() -> None:
    config = MixtralConfig(
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=128,
        num_local_experts=4,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    mixtral = layout_of(model, "bfloat16")
    experts = [spec for spec in mixtral.modules if spec.kind == "experts"]
    assert [(spec.name, spec.shape, spec.num_experts, spec.block, spec.part) for spec in experts] == [
        ("model.layers.0.mlp.experts.gate_up_proj", (192, 64), 4, "layers.0", Part.MLP),
        ("model.layers.0.mlp.experts.down_proj", (64, 96), 4, "layers.0", Part.MLP),
    ]
    assert mixtral.num_parameters == model.num_parameters()


def test_the_16_bit_type_is_the_checkpoints_own_or_bfloat16(family_folder: Path, tmp_path: Path) -> None:
    settings = ModelSettings(id=str(family_folder / "llama"))
    assert read_layout(settings, "causal-lm").dtype == "bfloat16"  # stored in float32
    half = AutoModelForCausalLM.from_pretrained(settings.id, dtype=torch.float16)
    half.save_pretrained(tmp_path)
    assert read_layout(ModelSettings(id=str(tmp_path)), "causal-lm").dtype == "float16"
    assert read_layout(ModelSettings(id=str(tmp_path), dtype="bfloat16"), "causal-lm").dtype == "bfloat16"


def test_a_model_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"folder with a config\.json, but got .*nowhere"):
        read_layout(ModelSettings(id=str(tmp_path / "nowhere")), "causal-lm")
    with pytest.raises(ModelError) as caught:
        read_layout(ModelSettings(id="no-such-user/no-such-model"), "causal-lm")
    assert "no-such-user/no-such-model" in str(caught.value)
    assert "\n" not in str(caught.value)
